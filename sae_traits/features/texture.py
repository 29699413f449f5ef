"""The backbone without weights: colour and gradient descriptors of every patch, from scikit-image.

A patch of 16 px is described by its CIELAB colours, by how they and the gradients are in the 3 x 3 and 7 x 7 patches
around it, and by how it differs from the image's border, which tells figure from ground. Where a patch lies is no part
of its description. Good enough to try the whole way without downloads; no match for a trained model.

Sources: CIELAB (D65); Dalal & Triggs 2005 for histograms of oriented gradients; Lowe 2004, section 3, for differences
of Gaussians, whose positive and negative parts answer to bright and dark spots of a size.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.feature import hog

from sae_traits.config.features import Texture
from sae_traits.errors import BackboneError
from sae_traits.features.preprocessing import reframe
from sae_traits.geometry import Framing, FramingMode
from sae_traits.schema import BackboneInfo

Maps = NDArray[np.float32]
"""One value per component and per patch or pixel `[components, rows, columns]`."""

REVISION = "1"
"""To be raised with every change to the numbers below or to what is computed from them."""

_SIDE, _PATCH = 256, 16
_GRID = _SIDE // _PATCH
_NEAR, _FAR = 3, 7
"""Sides of the contexts, in patches."""
_BLUR = (1.0, 2.0, 4.0, 8.0)
"""Standard deviations of the Gaussians whose differences find spots, in pixels."""
_BORDER = 8
"""Width of the frame that stands for the ground, in pixels."""
_ORIENTATIONS = 8
_FLAT = 0.02
"""Gradients of lightness (0 to 1, per pixel) at which an orientation counts half: below are noise and JPEG blocks."""

# Typical spreads in photographs, in round figures; dividing by them brings all components to comparable scales.
_COLOUR, _SPREAD, _SPOT, _EDGE, _ORIENTATION = 20.0, 8.0, 1.5, 0.04, 0.12


def texture_info(framing: Literal["auto"] | FramingMode = "auto") -> BackboneInfo:
    """What the texture features depend on; images are squashed unless said otherwise, so that nothing is padded."""
    squash = Framing(mode="squash", size=(_SIDE, _SIDE), resample="bilinear")
    return BackboneInfo(
        backbone=Texture.kind,
        revision=REVISION,
        layer=0,
        d_model=D_MODEL,
        rows=_GRID,
        columns=_GRID,
        patch=float(_PATCH),
        framing=reframe(squash, framing),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )


def load(backbone: Texture, *, framing: Literal["auto"] | FramingMode, device: torch.device) -> TextureBackbone:
    """The backbone with images framed as the user wants; there is nothing to read, and it computes on the CPU."""
    return TextureBackbone(texture_info(framing))


def restore(info: BackboneInfo, *, device: torch.device) -> TextureBackbone:
    """The backbone that was recorded; a BackboneError where the features were of another version of it."""
    if differences := info.differences(texture_info(info.framing.mode)):
        raise BackboneError(
            f"this version of sae-traits gives other texture features than recorded: {'; '.join(differences)}. "
            "Extract and train again, or install the version that made them"
        )
    return TextureBackbone(info)


@dataclass(frozen=True)
class TextureBackbone:
    """A `Backbone` that computes everything while images are prepared, in worker processes."""

    info: BackboneInfo

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """One upright RGB image -> its features, float32 `[rows * columns, d_model]`."""
        framed = self.info.grid(image.size).frame(image, padding=(128, 128, 128))
        return torch.from_numpy(describe(np.asarray(framed)))

    def encode(self, batch: torch.Tensor) -> torch.Tensor:
        return batch


def describe(pixels: NDArray[np.uint8]) -> Maps:
    """Descriptors of the patches of one model input, RGB `[256, 256, 3]`, row by row `[256, D_MODEL]`."""
    lab = np.moveaxis(rgb2lab(pixels.astype(np.float32) / 255), -1, 0)  # [3, 256, 256]
    colours, spots, edges = _colours(lab), _spots(lab[0]), _edges(lab[0] / 100)
    maps = np.concatenate([colours, spots, edges])
    return np.ascontiguousarray(maps.reshape(len(maps), -1).T)


def _colours(lab: Maps) -> Maps:
    """Colour of the patch and of its surroundings `[29, rows, columns]`."""
    cells = _cells(lab)
    low, high = np.quantile(cells, (0.1, 0.9), axis=-1).astype(np.float32)
    mean, square = cells.mean(axis=-1), np.square(cells).mean(axis=-1)
    frame = np.pad(np.zeros((_SIDE - 2 * _BORDER, _SIDE - 2 * _BORDER), dtype=bool), _BORDER, constant_values=True)
    ground = np.median(lab[:, frame], axis=1)[:, None, None]
    from_ground = mean - ground
    distance = np.linalg.norm(from_ground, axis=0, keepdims=True)
    chroma = np.hypot(cells[1], cells[2]).mean(axis=-1)[None]
    colours = [mean, low, high, from_ground, distance, chroma]
    spreads = [_spread(mean, square)]
    for side in (_NEAR, _FAR):
        near_mean, near_square = _around(mean, side), _around(square, side)
        colours.append(near_mean)
        spreads.append(_spread(near_mean, near_square))
    return np.concatenate([np.concatenate(colours) / _COLOUR, np.concatenate(spreads) / _SPREAD])


def _spots(lightness: Maps) -> Maps:
    """Bright and dark spots of three sizes, in the patch and near it `[12, rows, columns]`."""
    blurred = [ndimage.gaussian_filter(lightness, sigma, truncate=3.0, mode="nearest") for sigma in _BLUR]
    differences = np.stack([fine - coarse for fine, coarse in pairwise(blurred)])
    signed = np.concatenate([np.maximum(differences, 0), np.maximum(-differences, 0)])
    spots = _cells(signed).mean(axis=-1)
    return np.concatenate([spots, _around(spots, _NEAR)]) / _SPOT


def _edges(lightness: Maps) -> Maps:
    """Strength and direction of gradients, fine in the patch and coarse near it `[18, rows, columns]`."""
    down, right = np.gradient(lightness)
    strength = _cells(np.hypot(down, right)[None]).mean(axis=-1)
    near_strength = _around(strength, _NEAR)
    # Histograms are normalised cell by cell; without weights, noise on a flat ground would look like strong texture.
    fine = _orientations(lightness, _PATCH // 2) * (strength / (strength + _FLAT))
    coarse = _around(_orientations(lightness, _PATCH), _NEAR) * (near_strength / (near_strength + _FLAT))
    return np.concatenate([strength / _EDGE, near_strength / _EDGE, fine / _ORIENTATION, coarse / _ORIENTATION])


def _orientations(lightness: Maps, cell: int) -> Maps:
    """Histograms of oriented gradients in cells of some pixels, averaged over each patch `[8, rows, columns]`."""
    histograms = hog(
        lightness,
        orientations=_ORIENTATIONS,
        pixels_per_cell=(cell, cell),
        cells_per_block=(1, 1),
        block_norm="L2",
        feature_vector=False,
    )  # [cell rows, cell columns, 1, 1, orientations]
    parts = _PATCH // cell
    histograms = histograms.reshape(_GRID, parts, _GRID, parts, _ORIENTATIONS).mean(axis=(1, 3))
    return np.moveaxis(histograms, -1, 0).astype(np.float32)


def _cells(maps: Maps) -> Maps:
    """The pixels of each patch together `[components, rows, columns, pixels]`."""
    parts = maps.reshape(len(maps), _GRID, _PATCH, _GRID, _PATCH)
    return parts.transpose(0, 1, 3, 2, 4).reshape(len(maps), _GRID, _GRID, _PATCH * _PATCH)


def _around(maps: Maps, side: int) -> Maps:
    """Mean over the patches around each patch; beyond the image its outermost patches are repeated."""
    return ndimage.uniform_filter(maps, side, axes=(1, 2), mode="nearest").astype(np.float32, copy=False)


def _spread(mean: Maps, square: Maps) -> Maps:
    """Standard deviation from a mean and a mean square."""
    return np.sqrt(np.maximum(square - np.square(mean), 0))


D_MODEL = 29 + 12 + 18
"""Components of a patch: colours, spots, edges."""
