"""Our pixels are those of the transformers processors, and what a preprocessor says is read as it is meant."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis.strategies import integers, sampled_from
from PIL import Image
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.efficientnet.image_processing_pil_efficientnet import EfficientNetImageProcessorPil
from transformers.models.levit.image_processing_pil_levit import LevitImageProcessorPil
from transformers.models.mobilenet_v2.image_processing_pil_mobilenet_v2 import MobileNetV2ImageProcessorPil
from transformers.models.poolformer.image_processing_pil_poolformer import PoolFormerImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from sae_traits.errors import BackboneError, ConfigError
from sae_traits.features.preprocessing import PreparePixels, read_preprocessing, reframe
from sae_traits.geometry import Framing
from sae_traits.schema import BackboneInfo

PROCESSORS = {
    "dinov2": BitImageProcessorPil(
        size={"shortest_edge": 256}, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
    ),
    "clip": CLIPImageProcessorPil(),
    "siglip": SiglipImageProcessorPil(),
    "vit": ViTImageProcessorPil(),
    "mobilenet": MobileNetV2ImageProcessorPil(),
    "convnext": ConvNextImageProcessorPil(size={"shortest_edge": 224}),
    "convnext-large": ConvNextImageProcessorPil(),
    "efficientnet": EfficientNetImageProcessorPil(size={"height": 224, "width": 224}),
    "efficientnet without top": EfficientNetImageProcessorPil(include_top=False),
    "efficientnet, top alone": EfficientNetImageProcessorPil(do_normalize=False),
    "levit": LevitImageProcessorPil(),
    "poolformer": PoolFormerImageProcessorPil(),
    "no normalisation": ViTImageProcessorPil(do_normalize=False),
}


def saved(processor: Any) -> dict[str, Any]:
    """The content of the preprocessor_config.json that a processor writes."""
    return json.loads(processor.to_json_string())


def prepared_by(values: dict[str, Any]) -> PreparePixels:
    """What prepares images as a preprocessor_config.json says; the patches do not matter here."""
    preprocessing = read_preprocessing(values, "preprocessor_config.json")
    info = BackboneInfo(
        backbone="any",
        revision="any",
        layer=0,
        d_model=1,
        rows=1,
        columns=1,
        patch=None,
        framing=preprocessing.framing,
        mean=preprocessing.mean,
        std=preprocessing.std,
    )
    return PreparePixels(info)


@pytest.mark.parametrize("name", PROCESSORS)
@given(width=integers(40, 500), height=integers(40, 500), seed=integers(0, 9))
@settings(max_examples=15, deadline=None)
def test_pixels_are_those_of_the_transformers_processor(name, width, height, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    processor = PROCESSORS[name]
    expected = processor(image, return_tensors="np")["pixel_values"][0]
    ours = prepared_by(saved(processor))(image).numpy()
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)


def test_old_configs_say_sizes_as_bare_numbers():
    old_clip = {"size": 224, "do_center_crop": True, "crop_size": 224, "resample": 3, "do_normalize": False}
    old_vit = {"size": 224, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    crop = Framing(mode="crop", size=(224, 224), shortest_side=224, resample="bicubic")
    assert read_preprocessing(old_clip, "f").framing == crop
    assert read_preprocessing(old_vit, "f").framing == Framing(mode="squash", size=(224, 224), resample="bilinear")


def test_an_older_file_names_the_feature_extractor_of_the_same_model():
    values = saved(PROCESSORS["levit"])
    older = values | {"feature_extractor_type": "LevitFeatureExtractor"}
    del older["image_processor_type"]
    assert read_preprocessing(older, "f") == read_preprocessing(values, "f")
    assert read_preprocessing(older, "f").framing.shortest_side == 256


def test_a_shortest_edge_without_crop_keeps_the_square_in_the_middle():
    values = saved(PROCESSORS["clip"]) | {"do_center_crop": False, "size": {"shortest_edge": 96}}
    framing = Framing(mode="crop", size=(96, 96), shortest_side=96, resample="bicubic")
    assert read_preprocessing(values, "f").framing == framing


def test_settings_are_found_in_a_processor_config_too():
    values = saved(PROCESSORS["clip"])
    assert read_preprocessing({"image_processor": values}, "f") == read_preprocessing(values, "f")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": None}, "f does not say size"),
        ({"resample": None}, "f does not say resample"),
        ({"resample": 9}, "resample 9"),
        ({"image_mean": None}, "f does not say image_mean"),
        ({"image_std": [0.5]}, "three numbers"),
        ({"size": {"longest_edge": 224}}, "supported are height and width"),
        ({"size": {"height": 256, "width": 256}}, "squashes to"),
        ({"crop_size": 256}, "f crops 256 x 256 pixels from a shortest side of 224, .* choose another backbone"),
        ({"rescale_factor": 1 / 127.5}, "1/255"),
        ({"do_rescale": False}, "1/255"),
        ({"do_resize": False}, "do_resize"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order"),
        ({"keep_aspect_ratio": True}, "keep_aspect_ratio"),
        ({"size_divisor": 32}, "size_divisor"),
    ],
)
def test_what_cannot_be_reproduced_is_refused(change, message):
    with pytest.raises(BackboneError, match=message):
        read_preprocessing(saved(PROCESSORS["clip"]) | change, "f")


def test_the_user_may_frame_otherwise_at_the_same_input_size():
    squash = Framing(mode="squash", size=(224, 224), resample="bilinear")
    crop = Framing(mode="crop", size=(224, 224), shortest_side=240)
    assert reframe(squash, "auto") is squash
    assert reframe(squash, "crop") == Framing(mode="crop", size=(224, 224), shortest_side=256, resample="bilinear")
    assert reframe(crop, "crop") is crop
    assert reframe(crop, "letterbox") == Framing(mode="letterbox", size=(224, 224))
    with pytest.raises(ConfigError):
        Framing(mode="crop", size=(224, 224), shortest_side=100)


@given(mode=sampled_from(["squash", "crop", "letterbox"]), width=integers(30, 400), height=integers(30, 400))
@example(mode="letterbox", width=149, height=150)  # one column of padding, on the right
@settings(max_examples=20, deadline=None)
def test_padding_is_the_mean_colour_which_a_model_sees_as_zero(mode, width, height):
    prepare = prepared_by(saved(PROCESSORS["dinov2"]))
    info = BackboneInfo.from_dict(prepare.info.to_dict() | {"framing": reframe(prepare.info.framing, mode).to_dict()})
    pixels = PreparePixels(info)(Image.new("RGB", (width, height), "white")).numpy()
    (resized_width, resized_height), (left, top) = info.framing.place((width, height))
    inside = np.zeros((224, 224), dtype=bool)
    inside[max(top, 0) : top + resized_height, max(left, 0) : left + resized_width] = True
    assert (pixels[:, inside] > 2).all()
    assert (np.abs(pixels[:, ~inside]) < 0.01).all()
