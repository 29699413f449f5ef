"""A vision model on squares of another size than its own: what it is told, and which sizes it can see."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sae_traits.errors import BackboneError
from sae_traits.schema import BackboneInfo

_STEP = 32
"""Pixels between the sizes that are tried for a model that names no patches: what most convolutional networks reduce to
one place of their last map."""
_TRIED = 3
"""Sizes that are tried on either side of one on which a model cannot run."""


def forward(model: nn.Module, pixels: Tensor, **more: Any) -> Any:
    """Call a model of transformers; embeddings of positions are interpolated where the size is not the model's own.

    Models that interpolate without being told, as DINOv2, and those that know no positions are called as they are.
    """
    vision = _vision_part(model)
    if _own_size(vision) not in (None, tuple(pixels.shape[-2:])):
        parameters = {**inspect.signature(vision.forward).parameters, **inspect.signature(model.forward).parameters}
        if "interpolate_pos_encoding" in parameters:
            more["interpolate_pos_encoding"] = True
    return model(pixel_values=pixels, **more)


def check_whole_patches(config: Any, side: int, name: str) -> None:
    """Raise a BackboneError where a square is not cut into whole patches, before any weights are fetched.

    Args:
        config: the model's, of transformers.
        side: of the square that the model is to see, in pixels.
        name: the model's, for the message.
    """
    patch = patch_side(getattr(config, "vision_config", config))
    if patch is not None and side % patch:
        raise _cut_patches(name, patch, side)


def check_even_map(info: BackboneInfo) -> None:
    """Raise a BackboneError where a convolutional map does not divide its input evenly, so that places would shift.

    A map has ceil(input / stride) rows, and strides are powers of two.
    """
    side = info.framing.size[0]
    stride = 2 ** (-(-side // info.rows) - 1).bit_length()
    if info.patch is None and stride * info.rows != side:
        raise _cut_patches(f"{info.backbone} at {info.layers}", stride, side)


def patch_side(config: Any) -> int | None:
    """The side of a vision model's square patches in pixels, by its config; None where that names none."""
    patch = getattr(config, "patch_size", None)
    if isinstance(patch, list | tuple) and len(set(patch)) == 1:
        patch = patch[0]
    return patch if isinstance(patch, int) else None


def cannot_run(tower: nn.Module, size: tuple[int, int], dtype: torch.dtype, name: str, reason: str) -> BackboneError:
    """The error for a model that fails on a model input of a size, with those near it on which it runs.

    Args:
        tower: the vision model.
        size: width and height of the input.
        dtype: in which it computes.
        name: the model's.
        reason: what it says.
    """
    width, height = size
    step = patch_side(tower.config) or _STEP
    nearest = max(step, round(width / step) * step)
    sides = {nearest + n * step for n in range(-_TRIED, _TRIED + 1) if nearest + n * step > 0}
    own = _own_size(tower)
    if own is not None and own[0] == own[1]:
        sides.add(own[0])
    running = [side for side in sorted(sides) if side != width and _runs(tower, side, dtype)]
    hint = f"choose --image-size {_either(running)}" if running else "choose another backbone"
    return BackboneError(f"{name} cannot run on {width} x {height} pixels ({reason}); {hint}")


def _vision_part(model: nn.Module) -> nn.Module:
    """The part of a model that sees the pixels, under a classification head; the model itself where it has none."""
    for name in ("vision_model", getattr(model, "base_model_prefix", "")):
        if isinstance(part := getattr(model, name, None), nn.Module):
            return part
    return model


def _own_size(vision: nn.Module) -> tuple[int, int] | None:
    """Height and width of the images that a vision model was trained on, by its config; None where it says none."""
    size = getattr(vision.config, "image_size", None)
    if isinstance(size, int):
        return size, size
    return (size[0], size[1]) if isinstance(size, list | tuple) and len(size) == 2 else None


@torch.no_grad()
def _runs(tower: nn.Module, side: int, dtype: torch.dtype) -> bool:
    try:
        forward(tower, torch.zeros(1, 3, side, side, dtype=dtype))
    except (ValueError, RuntimeError):
        return False
    return True


def _cut_patches(name: str, patch: int, side: int) -> BackboneError:
    below = side // patch * patch
    sizes = [size for size in (below, below + patch) if size]
    return BackboneError(
        f"{name} has patches of {patch} pixels, of which {side} is no multiple; choose --image-size {_either(sizes)}"
    )


def _either(sizes: Sequence[int]) -> str:
    *others, last = map(str, sizes)
    return f"{', '.join(others)} or {last}" if others else last
