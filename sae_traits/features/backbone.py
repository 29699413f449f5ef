"""Backbones: what turns a photograph into patch features, frozen."""

from __future__ import annotations

import os
from typing import Protocol

import torch
from PIL import Image

from sae_traits.config import TEXTURE, FeaturesConfig
from sae_traits.errors import BackboneError
from sae_traits.geometry import PatchGrid
from sae_traits.schema import BackboneInfo


class Prepare(Protocol):
    """Makes the model input of one image; picklable and without weights, so that worker processes can have a copy."""

    def __call__(self, image: Image.Image, /) -> torch.Tensor:
        """One upright RGB image -> one element of a batch for `Backbone.encode`."""
        ...


class Backbone(Protocol):
    """A frozen model of images: prepared images in, patch features out."""

    @property
    def info(self) -> BackboneInfo:
        """Everything that the features depend on."""
        ...

    @property
    def prepare(self) -> Prepare:
        """What worker processes do with each image."""
        ...

    def encode(self, batch: torch.Tensor) -> torch.Tensor:
        """Features of all patches, row by row, float32 on the model's device `[n_images, rows * columns, d_model]`."""
        ...


def load_backbone(config: FeaturesConfig) -> Backbone:
    """The backbone that a configuration names.

    Raises:
        BackboneError: there is no such model or layer, it is not a vision model, or it cannot be fetched.
    """
    if config.backbone == TEXTURE:
        from sae_traits.features.texture import TextureBackbone, texture_info

        return TextureBackbone(texture_info(config.framing))
    from sae_traits.features.vision import load_vision_backbone

    return load_vision_backbone(config, choose_device(config.device))


def restore_backbone(info: BackboneInfo, device: str = "auto") -> Backbone:
    """The backbone that made some features, from what was recorded about it, for example in an SAE's config.

    Raises:
        BackboneError: the model is gone, or its weights are not those that made the features.
    """
    if info.backbone == TEXTURE:
        from sae_traits.features.texture import TextureBackbone, texture_info

        if info != texture_info(info.framing.mode):
            raise BackboneError(
                f"these features are of texture revision {info.revision!r}; this version of sae-traits makes "
                f"{texture_info().revision!r}. Extract and train again, or install the version that made them"
            )
        return TextureBackbone(info)
    from sae_traits.features.vision import restore_vision_backbone

    return restore_vision_backbone(info, choose_device(device))


def image_features(backbone: Backbone, image: Image.Image) -> tuple[torch.Tensor, PatchGrid]:
    """Features of one upright RGB image: its valid patches, on the CPU, float32 `[n_valid, d_model]`, and its grid.

    Row i belongs to the patch `grid.valid[i]`.
    """
    grid = backbone.info.grid(image.size)
    features = backbone.encode(backbone.prepare(image)[None])[0].cpu()
    return features[torch.from_numpy(grid.valid)], grid


def choose_device(name: str) -> torch.device:
    """The device of a name; `auto` is this process's GPU if there is one, then Apple's, then the CPU.

    Raises:
        BackboneError: there is no such device.
    """
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
