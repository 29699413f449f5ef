"""Photograph -> model input, as the backbone's own preprocessor says, in Pillow and numpy.

`preprocessor_config.json` is read once, into a Framing, a mean and a standard deviation; after that neither torchvision
nor a processor class has a say in the pixels, and they are the same on every machine. A test holds them equal to the
image processors of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from sae_traits.errors import BackboneError
from sae_traits.features.model_files import ModelFiles
from sae_traits.geometry import Framing, FramingMode, Resample
from sae_traits.schema import BackboneInfo

Channels = tuple[float, float, float]

PILLOW_CODES: dict[Resample, int] = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
"""Pillow's resampling codes, which preprocessor_config.json uses."""
_RESAMPLE_NAMES: dict[int, Resample] = {code: name for name, code in PILLOW_CODES.items()}

_STANDARD_CROP_SHARE = 224 / 256
"""Side of the centre crop over the resized shortest side, as ImageNet models are commonly evaluated."""

_LEVIT_SHARE = 256 / 224
"""LeViT's processor resizes the shortest side to so many times what it says."""

_UNSUPPORTED = (
    *("do_flip_channel_order", "do_pad", "rescale_offset", "do_thumbnail", "do_align_long_axis"),
    *("keep_aspect_ratio", "size_divisor"),
)
"""Steps of some preprocessors that change the pixels in ways which a Framing does not express."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What a preprocessor_config.json says, in the terms of this toolkit."""

    framing: Framing
    mean: Channels
    """Subtracted from RGB values in 0 to 1."""
    std: Channels


@dataclass(frozen=True)
class PreparePixels:
    """Makes the model input of one image; holds no weights, so that worker processes can have a copy."""

    info: BackboneInfo

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Frame and normalise one upright RGB image -> float32 `[3, height, width]`; padding is the mean colour."""
        red, green, blue = (round(255 * min(max(mean, 0.0), 1.0)) for mean in self.info.mean)
        framed = self.info.grid(image.size).frame(image, padding=(red, green, blue))
        pixels = np.asarray(framed, dtype=np.float32) / 255
        normalised = (pixels - np.array(self.info.mean, np.float32)) / np.array(self.info.std, np.float32)
        return torch.from_numpy(np.ascontiguousarray(normalised.transpose(2, 0, 1)))


def read_preprocessing(values: Mapping[str, Any], where: str) -> Preprocessing:
    """What the content of a preprocessor_config.json, or of a processor_config.json around it, means.

    Sizes: height and width squash; `shortest_edge` resizes the shortest side, then the crop is cut from the centre, a
    square of `shortest_edge` where no crop is asked for (patches need inputs of one size). A bare number is one or the
    other, as in transformers: a shortest side where a crop follows, else a square. `crop_pct` is ConvNeXt's way to say
    how much of the shortest side the crop keeps, and squashes from 384 pixels up. `where` names the file in messages.

    Raises:
        BackboneError: something is missing, or asks for a step that is not supported.
    """
    values = values.get("image_processor", values)
    for step in _UNSUPPORTED:
        if values.get(step):
            raise BackboneError(f"{where} asks for {step}, which is not supported; choose another backbone")
    if not values.get("do_resize", True):
        raise BackboneError(f"{where} says do_resize: false, so the input size is unknown; choose another backbone")
    _check_rescaling(values, where)
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if values.get("do_normalize", True):
        mean, std = _channels(values, "image_mean", where), _channels(values, "image_std", where)
    if _is_made_for("EfficientNet", values) and values.get("include_top", True):  # divides once more
        red, green, blue = (x * y for x, y in zip(std, _channels(values, "image_std", where), strict=True))
        std = red, green, blue
    return Preprocessing(framing=_read_framing(values, where), mean=mean, std=std)


def preprocessing_of(files: ModelFiles) -> Preprocessing:
    """How a model of transformers prepares its images, by its preprocessor_config.json.

    Raises:
        BackboneError: it has no such file, or one that asks for what is not supported.
    """
    for file in ("preprocessor_config.json", "processor_config.json"):
        if (values := files.read_json(file)) is not None:
            return read_preprocessing(values, f"{file} of {files.name}")
    raise BackboneError(
        f"{files.name} has no preprocessor_config.json, so its input size and normalisation are unknown; "
        "copy that file from the model that it was made from"
    )


def reframe(framing: Framing, mode: Literal["auto"] | FramingMode) -> Framing:
    """The same input size, framed as the user wants; `auto` keeps what the preprocessor says.

    A crop that the preprocessor did not ask for keeps 224 / 256 of the shortest side, the usual share.
    """
    if mode in ("auto", framing.mode):
        return framing
    shortest_side = round(max(framing.size) / _STANDARD_CROP_SHARE) if mode == "crop" else None
    return Framing(mode=mode, size=framing.size, shortest_side=shortest_side, resample=framing.resample)


def with_image_size(framing: Framing, side: int | None) -> Framing:
    """The same framing of a square of `side` pixels, which shows as much of an image as before; None keeps the size."""
    if side is None or framing.size == (side, side):
        return framing
    shortest_side = framing.shortest_side
    if shortest_side is not None:
        shortest_side = round(shortest_side * side / max(framing.size))
    return replace(framing, size=(side, side), shortest_side=shortest_side)


def _read_framing(values: Mapping[str, Any], where: str) -> Framing:
    resample = _RESAMPLE_NAMES.get(_required(values, "resample", where))
    if resample is None:
        raise BackboneError(f"{where} has resample {values['resample']!r}; known are {sorted(_RESAMPLE_NAMES)}")
    cropped = bool(values.get("do_center_crop", "crop_size" in values))
    size = _required(values, "size", where)
    if isinstance(size, int):
        shortest_side_is_meant = cropped or "crop_pct" in values
        size = {"shortest_edge": size} if shortest_side_is_meant else {"height": size, "width": size}
    size = {key: value for key, value in size.items() if value is not None}

    if size.keys() == {"height", "width"}:
        squashed = (size["width"], size["height"])
        if cropped and _crop_size(values, where) != squashed:
            raise BackboneError(f"{where} squashes to {squashed} and crops after it, which is not supported")
        return Framing(mode="squash", size=squashed, resample=resample)
    if size.keys() != {"shortest_edge"}:
        raise BackboneError(f"{where} has size {size}; supported are height and width, or shortest_edge")

    edge = size["shortest_edge"]
    if "crop_pct" in values:
        if edge >= 384:
            return Framing(mode="squash", size=(edge, edge), resample=resample)
        shortest_side = int(edge / (values["crop_pct"] or _STANDARD_CROP_SHARE))
        return Framing(mode="crop", size=(edge, edge), shortest_side=shortest_side, resample=resample)
    crop = _crop_size(values, where) if cropped else (edge, edge)
    shortest_side = int(_LEVIT_SHARE * edge) if _is_made_for("Levit", values) else edge
    if shortest_side < max(crop):
        raise BackboneError(
            f"{where} crops {crop[0]} x {crop[1]} pixels from a shortest side of {shortest_side}, and pads what is not "
            "there, which is not supported; choose another backbone"
        )
    return Framing(mode="crop", size=crop, shortest_side=shortest_side, resample=resample)


def _is_made_for(model: str, values: Mapping[str, Any]) -> bool:
    """Whether the processor, which older files call a feature extractor, is that of a model."""
    return str(values.get("image_processor_type", values.get("feature_extractor_type"))).startswith(model)


def _crop_size(values: Mapping[str, Any], where: str) -> tuple[int, int]:
    crop = _required(values, "crop_size", where)
    return (crop, crop) if isinstance(crop, int) else (crop["width"], crop["height"])


def _check_rescaling(values: Mapping[str, Any], where: str) -> None:
    factor = values.get("rescale_factor", 1 / 255)
    if not values.get("do_rescale", True) or abs(factor * 255 - 1) > 1e-6:
        raise BackboneError(f"{where} does not scale pixels by 1/255, which is not supported; choose another backbone")


def _channels(values: Mapping[str, Any], key: str, where: str) -> Channels:
    numbers = _required(values, key, where)
    if not isinstance(numbers, list) or len(numbers) != 3:
        raise BackboneError(f"{where} has {key} {numbers!r}; needed are three numbers, for red, green and blue")
    red, green, blue = (float(number) for number in numbers)
    return red, green, blue


def _required(values: Mapping[str, Any], key: str, where: str) -> Any:
    if values.get(key) is None:
        raise BackboneError(f"{where} does not say {key}; without it the model's input cannot be made as in training")
    return values[key]
