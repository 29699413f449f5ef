from dataclasses import replace

import pytest
import torch
from PIL import Image

from sae_traits import SAE, SAEConfig, load_extractor
from sae_traits.config.features import Texture
from sae_traits.errors import CheckpointError
from sae_traits.features.backbone import load_backbone
from sae_traits.sae.extractor import check_features


def test_three_lines_take_a_photograph_to_its_codes(tmp_path):
    backbone = load_backbone(Texture())
    d_model = backbone.info.d_model
    SAE.from_config(
        SAEConfig(architecture="topk", d_model=d_model, n_latents=100, k=4, backbone=backbone.info)
    ).save_pretrained(tmp_path)
    sae = SAE.from_pretrained(tmp_path)
    image = Image.linear_gradient("L").convert("RGB").resize((300, 200))
    features, grid = load_extractor(sae)(image)
    with torch.no_grad():
        codes = sae.encode(features)
    assert grid.source == (300, 200)
    assert features.shape == (len(grid.valid), d_model)
    assert codes.shape == (len(grid.valid), 100)
    assert ((codes > 0).sum(1) <= 4).all()


def test_an_sae_of_unknown_origin_has_no_extractor():
    sae = SAE.from_config(SAEConfig(architecture="relu", d_model=3, n_latents=4))
    with pytest.raises(CheckpointError, match="names no backbone"):
        load_extractor(sae)


def test_an_sae_whose_width_is_not_its_backbones_is_refused():
    info = load_backbone(Texture()).info
    sae = SAE.from_config(SAEConfig(architecture="relu", d_model=3, n_latents=4, backbone=info))
    with pytest.raises(CheckpointError, match=f"width 3, but texture gives {info.d_model}"):
        load_extractor(sae)


def test_an_sae_of_another_layer_of_the_same_width_is_refused():
    info = load_backbone(Texture()).info
    sae = SAE.from_config(SAEConfig(architecture="relu", d_model=info.d_model, n_latents=4, backbone=info))
    check_features(sae, info)
    check_features(sae, replace(info, backbone="the same under another name"))
    with pytest.raises(CheckpointError, match="with layer 0, but these features are of texture with layer 7"):
        check_features(sae, replace(info, layer=7))
    with pytest.raises(
        CheckpointError, match=r"with compute_dtype float32, but these .* of texture with compute_dtype float16"
    ):
        check_features(sae, replace(info, compute_dtype="float16"))
