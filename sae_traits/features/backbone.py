"""Backbones: what turns a photograph into patch features, frozen."""

import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib import import_module
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sae_traits.config import features as config
from sae_traits.errors import BackboneError
from sae_traits.geometry import FramingMode
from sae_traits.schema import BackboneInfo, ImageRecord

_MODULES: dict[type[config.Backbone], str] = {
    config.VisionModel: "sae_traits.features.vision",
    config.Texture: "sae_traits.features.texture",
}
"""The module of each kind of backbone, with its `load` and its `restore`; imported where it is needed."""


Prepare = Callable[[Image.Image], torch.Tensor]
"""Makes of one upright RGB image an element of a batch for `Backbone.encode`; picklable and without weights, so that
worker processes can have a copy."""


class Backbone(Protocol):
    """A frozen model of images: prepared images in, patch features out.

    Attributes:
        info: everything that the features depend on.
        prepare: what worker processes do with each image.
    """

    @property
    def info(self) -> BackboneInfo: ...
    @property
    def prepare(self) -> Prepare: ...

    def encode(self, batch: torch.Tensor) -> torch.Tensor:
        """Features of all patches, row by row, float32 on the model's device `[n_images, rows * columns, d_model]`."""
        ...


def load_backbone(
    backbone: config.Backbone, *, framing: Literal["auto"] | FramingMode = "auto", device: str = "auto"
) -> Backbone:
    """Load the backbone that a configuration names.

    Args:
        backbone: which one, with its options.
        framing: how images become square; `auto` as the backbone's preprocessor says.
        device: where it runs: auto, cpu, cuda, cuda:1 or mps.

    Raises:
        BackboneError: there is no such model, layer or device, it is not a vision model, or it cannot be fetched.
    """
    module = import_module(_MODULES[type(backbone)])
    return module.load(backbone, framing=framing, device=choose_device(device))


def restore_backbone(info: BackboneInfo, *, device: str = "auto") -> Backbone:
    """Load the backbone that was recorded, for example in an SAE's config.

    Raises:
        BackboneError: the model is gone, or its weights are not those that made the features.
    """
    module = import_module(_MODULES[config.recorded_kind(info.backbone)])
    return module.restore(info, device=choose_device(device))


def valid_patches(record: ImageRecord, info: BackboneInfo) -> NDArray[np.intp]:
    """Indices of the patches of an image that lie on it, ascending `[n_valid]`; not to be written to.

    They follow from the image's size alone, so that it need not be opened.
    """
    return _valid(info, (record.width, record.height))


def patch_counts(records: Iterable[ImageRecord], info: BackboneInfo) -> NDArray[np.int64]:
    """Number of valid patches of each image `[n_images]`."""
    return np.array([len(valid_patches(record, info)) for record in records], dtype=np.int64)


@lru_cache(maxsize=10_000)  # photographs come in few sizes, and a grid takes 0.2 ms, about a GPU's time for an image
def _valid(info: BackboneInfo, size: tuple[int, int]) -> NDArray[np.intp]:
    valid = info.grid(size).valid
    valid.flags.writeable = False
    return valid


def choose_device(name: str) -> torch.device:
    """The device of a name, of `auto` this process's GPU, Apple's or the CPU; a BackboneError where there is none."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise BackboneError(f"the device {name!r} cannot be used here; try --device auto or --device cpu") from error
    return device
