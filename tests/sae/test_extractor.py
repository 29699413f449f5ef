import json
from dataclasses import replace

import pytest
import torch
from features.tiny_models import save_model
from PIL import Image

from sae_traits import SAE, SAEConfig, load_extractor
from sae_traits.config.features import FeaturesConfig, Texture, VisionModel
from sae_traits.errors import BackboneError, CheckpointError, ImageError
from sae_traits.features.backbone import load_backbone
from sae_traits.sae.extractor import backbone_of_adopted, check_features


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


def test_the_extractor_of_an_sae_of_two_layers_gives_both(tmp_path):
    model = VisionModel(model=str(make_vision_model(tmp_path / "model")), layer=2, second_layer=1)
    backbone = load_backbone(model, device="cpu")
    d_model = backbone.info.d_model
    config = SAEConfig(architecture="topk", d_model=d_model, n_latents=100, k=4, backbone=backbone.info)
    SAE.from_config(config).save_pretrained(tmp_path / "sae")
    sae = SAE.from_pretrained(tmp_path / "sae")
    assert "layer=2, second_layer=1" in repr(sae)
    features, _ = load_extractor(sae)(Image.linear_gradient("L").convert("RGB"))
    torch.testing.assert_close(features.norm(dim=1), torch.full((len(features),), 2**0.5))
    assert features.shape[1] == d_model
    with pytest.raises(CheckpointError, match=r"of width \d+, of .* at layers 2 and 1; these are of width 3"):
        sae.encode(torch.zeros(1, 3))


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


@pytest.mark.parametrize(
    ("said", "differs"),
    [
        ({}, None),
        ({"framing": "crop"}, None),
        ({"framing": "squash"}, "with framing"),
        ({"compute_dtype": "bfloat16"}, "with compute_dtype"),
        ({"image_size": 28}, None),
        ({"image_size": 56}, "at 28 x 28 pixels, but .* at 56 x 56"),
        ({"layer": 2}, "with layer 1, but these features are of .* with layer 2"),
        ({"second_layer": 0}, "with second_layer None, but these features are of .* with second_layer 0"),
    ],
)
@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_an_adopted_sae_brings_its_own_backbone_whatever_else_is_said(tmp_path, said, differs, is_elsewhere):
    trained_on = VisionModel(model=str(make_vision_model(tmp_path / "model")), layer=1)
    info = load_backbone(trained_on, framing="crop", device="cpu").info
    sae = SAE.from_config(SAEConfig(architecture="relu", d_model=info.d_model, n_latents=4, backbone=info))
    named = {name: value for name, value in said.items() if name != "framing"}
    if is_elsewhere:
        named["model"] = str((tmp_path / "model").rename(tmp_path / "moved"))
        info = replace(info, backbone=named["model"])
    config = FeaturesConfig(backbone=VisionModel(**named), framing=said.get("framing", "auto"), device="cpu")
    if differs is None:
        assert backbone_of_adopted(sae, config).info == info
    else:
        with pytest.raises(CheckpointError, match=differs):
            backbone_of_adopted(sae, config)


@pytest.mark.parametrize(("second_layer", "recorded"), [(10, None), (8, 8), (7, 7)])
def test_an_sae_that_is_adopted_gets_as_many_layers_as_it_was_trained_on(tmp_path, second_layer, recorded):
    """A convolutional network would have layer 8 beside layer 10 by default."""
    named = VisionModel(model=str(save_model("mobilenet", tmp_path / "model")), layer=10)
    info = load_backbone(replace(named, second_layer=second_layer), device="cpu").info
    assert info.second_layer == recorded
    sae = SAE.from_config(SAEConfig(architecture="relu", d_model=info.d_model, n_latents=4, backbone=info))
    assert backbone_of_adopted(sae, FeaturesConfig(backbone=named, device="cpu")).info == info
    unrecorded = SAE.from_config(SAEConfig(architecture="relu", d_model=info.d_model, n_latents=4))
    if recorded is None:
        assert backbone_of_adopted(unrecorded, FeaturesConfig(backbone=named, device="cpu")).info == info
        assert load_extractor(unrecorded, backbone=named.model, layer=10).backbone.info == info


@pytest.fixture(scope="module")
def textures():
    info = load_backbone(Texture()).info
    return SAE.from_config(SAEConfig(architecture="relu", d_model=info.d_model, n_latents=4, backbone=info))


def drawn(size):
    return Image.linear_gradient("L").convert("RGB").resize(size)


def test_files_images_lists_and_batches_give_the_same_features(textures, tmp_path):
    extractor = load_extractor(textures)
    images = [drawn((300, 200)), drawn((90, 120))]
    images[1].save(tmp_path / "image.png")
    alone = [extractor(image) for image in images]
    together = extractor([images[0], tmp_path / "image.png"])
    for (features, grid), (again, same_grid) in zip(alone, together, strict=True):
        assert grid == same_grid
        torch.testing.assert_close(features, again)
    torch.testing.assert_close(extractor(str(tmp_path / "image.png"))[0], alone[1][0])
    batch = extractor(torch.stack([extractor.prepare(image) for image in images]))
    info = extractor.backbone.info
    assert batch.shape == (2, info.rows * info.columns, info.d_model)
    for of_image, (features, grid) in zip(batch, alone, strict=True):
        torch.testing.assert_close(of_image[torch.from_numpy(grid.valid)], features)
    assert extractor([]) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (7, r"takes a file, a PIL image, a list of these or a prepared batch, not int"),
        ([None], "a prepared batch, not NoneType"),
        (Image.new("L", (9, 9)), "the image is L, not RGB; give the file itself, or"),
        (torch.zeros(3, 10, 10), r"a batch holds prepared images \[n, .*not torch.float32 \[3, 10, 10\]; stack what"),
        (torch.zeros(2, 3, 224, 224, dtype=torch.uint8), "a batch holds prepared images .* not torch.uint8"),
        ("no/such/file.png", "no/such/file.png"),
    ],
)
def test_what_an_extractor_cannot_take_is_refused_in_one_line(textures, given, message):
    with pytest.raises(ImageError, match=message) as caught:
        load_extractor(textures)(given)
    assert "\n" not in str(caught.value)


def test_the_backbone_can_be_said_where_the_sae_names_none(textures):
    unknown = SAE.from_config(replace(textures.config, backbone=None))
    features, _ = load_extractor(unknown, backbone="texture")(drawn((64, 64)))
    torch.testing.assert_close(features, load_extractor(textures)(drawn((64, 64)))[0])
    with pytest.raises(CheckpointError, match=r"names no backbone; say which features .* load_extractor\(sae, b"):
        load_extractor(unknown)
    with pytest.raises(CheckpointError, match="names no layer of some/model; give load_extractor its layer="):
        load_extractor(unknown, backbone="some/model")


def test_a_recorded_backbone_may_lie_elsewhere_if_its_weights_agree(tmp_path):
    model = make_vision_model(tmp_path / "model")
    recorded = load_backbone(VisionModel(model=str(model), layer=1)).info
    sae = SAE.from_config(SAEConfig(architecture="relu", d_model=recorded.d_model, n_latents=4, backbone=recorded))
    moved = model.rename(tmp_path / "moved")
    assert load_extractor(sae, backbone=moved, layer=1).backbone.info == replace(recorded, backbone=str(moved))
    with pytest.raises(CheckpointError, match=r"with layer 1, but .* with layer 0"):
        load_extractor(sae, backbone=moved, layer=0)
    with pytest.raises(CheckpointError, match=r"with layer 1, but .* with layer -1; leave out"):
        load_extractor(sae, backbone=moved, layer=-1)
    with pytest.raises(BackboneError, match=r"model does not exist, .* say where they are: .* \(in Python backbone=\)"):
        load_extractor(sae)
    other = make_vision_model(tmp_path / "other", seed=1)
    with pytest.raises(BackboneError, match="has revision"):
        load_extractor(sae, backbone=other)
    with pytest.raises(CheckpointError, match=r"on features of .*, not of texture; leave out --backbone"):
        load_extractor(sae, backbone="texture")


def test_a_backbone_that_was_recorded_by_its_name_is_the_one_in_a_folder_of_that_name(tmp_path, monkeypatch):
    model = make_vision_model(tmp_path / "model")
    recorded = load_backbone(VisionModel(model=str(model), layer=1)).info
    public = SAEConfig(
        architecture="relu", d_model=recorded.d_model, n_latents=4, backbone=replace(recorded, backbone="model")
    )
    monkeypatch.chdir(tmp_path)
    assert load_extractor(SAE.from_config(public)).backbone.info == recorded
    config = FeaturesConfig(device="cpu")
    assert backbone_of_adopted(SAE.from_config(public), config).info == recorded
    of_the_hub = replace(public, backbone=replace(recorded, revision="0123456789abcdef0123456789abcdef01234567"))
    with pytest.raises(BackboneError, match=r"model is a folder, and .* commit 0123456789abcdef\w+ of a model on"):
        load_extractor(SAE.from_config(of_the_hub))


def test_an_extractor_sees_images_of_the_size_that_the_sae_was_trained_on(tmp_path):
    model = str(make_vision_model(tmp_path / "model"))
    recorded = load_backbone(VisionModel(model=model, layer=1, image_size=56)).info
    sae = SAE.from_config(SAEConfig(architecture="relu", d_model=16, n_latents=4, backbone=recorded))
    sae.save_pretrained(tmp_path / "sae")
    sae = SAE.from_pretrained(tmp_path / "sae")
    image = drawn((90, 90))
    features, grid = load_extractor(sae)(image)
    assert (grid.rows, grid.columns, len(features)) == (4, 4, 16)
    assert load_extractor(sae, image_size=56).backbone.info == recorded
    with pytest.raises(
        CheckpointError, match=r"at 56 x 56 pixels, but .* at 28 x 28; leave out --image-size"
    ) as refused:
        load_extractor(sae, image_size=28)
    assert "\n" not in str(refused.value)
    with pytest.raises(CheckpointError, match="at 56 x 56 pixels"):
        check_features(sae, load_backbone(VisionModel(model=model, layer=1)).info)
    unknown = SAE.from_config(replace(sae.config, backbone=None))
    torch.testing.assert_close(load_extractor(unknown, backbone=model, layer=1, image_size=56)(image)[0], features)


def make_vision_model(folder, seed=0):
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(seed)
    Dinov2Model(
        Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14)
    ).save_pretrained(folder)
    preprocessor = {
        "do_resize": True, "size": {"height": 28, "width": 28}, "resample": 3, "do_center_crop": False,
        "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder
