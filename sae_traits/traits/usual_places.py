"""Where on organisms each latent usually fires, and how near to that a patch lies.

A pair of wings, of eyes or of legs gives a latent two groups of patches, of which now the one is stronger and now the
other. The place where the latent usually fires says which of them is meant, so that its regions are of one part.
Learnt from training images without labels, and only where something is known of their backgrounds.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from sae_traits.traits.chosen import MAX_BACKGROUND

N_BINS = 8
"""Of each side of the box around the organism."""
SMOOTHING = 1.0
"""Standard deviation, in bins. Twelve and sixteen bins, smoothed by 1 to 2, are as good or worse."""
NEARNESS = 0.2
"""Standard deviation, in sides of the box, of how much the place says. With 0.15 and 0.3 as much or less is gained.
Chosen on Leeds and the drawn world."""


def organism_boxes(background: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float64]:
    """The box around the patches of each image that are probably not background.

    Args:
        background: probability that each patch shows background, NaN where it is not known `[n_images, n_patches]`.
        shape: rows and columns of the grid of patches.

    Returns:
        Left, top, width and height in patches, NaN where no patch is probably anything else `[n_images, 4]`.
    """
    is_organism = (background <= MAX_BACKGROUND).reshape(-1, *shape)
    of_rows, of_columns = is_organism.any(axis=2), is_organism.any(axis=1)
    left, top = of_columns.argmax(axis=1), of_rows.argmax(axis=1)
    right, bottom = shape[1] - of_columns[:, ::-1].argmax(axis=1), shape[0] - of_rows[:, ::-1].argmax(axis=1)
    boxes = np.stack([left, top, right - left, bottom - top], axis=1).astype(np.float64)
    boxes[~of_rows.any(axis=1)] = np.nan
    return boxes


def places_in(boxes: NDArray[np.float64], patches: NDArray[np.int32], columns: int) -> NDArray[np.float64]:
    """The middles of patches relative to a box: (0, 0) is its upper left and (1, 1) its lower right corner `[n, 2]`.

    Args:
        boxes: as of `organism_boxes`, one for all `[4]` or one each `[n, 4]`.
        patches: `[n]`.
        columns: of the grid of patches.
    """
    row, column = np.divmod(patches, columns)
    return (np.stack([column, row], axis=1) + 0.5 - boxes[..., :2]) / boxes[..., 2:]


class UsualPlaces:
    """Adds up where on the organism each latent fires, weighted by its activation."""

    def __init__(self, n_latents: int, weights: NDArray[np.float64], shape: tuple[int, int]) -> None:
        self._weights, self._shape = weights, shape
        self._total = np.zeros((n_latents, N_BINS, N_BINS))

    def add(self, codes: pa.Table, images: NDArray[np.int32], background: NDArray[np.float32]) -> None:
        """Add the codes of a shard.

        Args:
            codes: sorted by image.
            images: of the shard, ascending; each counts for its weight.
            background: probability that each of their patches shows background `[n_images, n_patches]`.
        """
        image, latent, patch, value = (codes[name].to_numpy() for name in ("image", "latent", "patch", "value"))
        row = np.searchsorted(images, image)
        weight = self._weights[image] * value * (1 - background[row, patch])
        places = places_in(organism_boxes(background, self._shape)[row], patch, self._shape[1])
        counted = (weight > 0) & ~np.isnan(places[:, 0])
        x, y = np.clip(places[counted] * N_BINS, 0, N_BINS - 1).astype(np.intp).T
        bins = (latent[counted] * N_BINS + y) * N_BINS + x
        total = np.bincount(bins, weight[counted], minlength=self._total.size)
        self._total += total.reshape(self._total.shape)

    @property
    def value(self) -> NDArray[np.float64]:
        """Where each latent fires most (x, y), relative to the box; NaN where it fires on no organism `[n_latents, 2]`.

        Of a latent of both of a pair it is one of the two, and not the middle between them.
        """
        n_latents = len(self._total)
        smooth = gaussian_filter(self._total, (0, SMOOTHING, SMOOTHING)).reshape(n_latents, -1)
        y, x = np.divmod(smooth.argmax(axis=1), N_BINS)
        places = (np.stack([x, y], axis=1) + 0.5) / N_BINS
        places[~self._total.any(axis=(1, 2))] = np.nan
        return places


def nearness(
    place: tuple[float, float], box: NDArray[np.float64], patches: NDArray[np.int32], columns: int
) -> NDArray[np.float64]:
    """What each patch counts for by its distance from a latent's usual place: 1 there, the less the farther away `[n]`.

    It falls as a normal density does, with a standard deviation of NEARNESS.

    Args:
        place: where the latent usually fires (x, y), relative to the box.
        box: around the organism, of `organism_boxes` `[4]`; where it is NaN, all patches count the same.
        patches: `[n]`.
        columns: of the grid of patches.
    """
    if np.isnan(box).any():
        return np.ones(len(patches))
    # What lies beyond the box is as far away as its edge, so that no patch counts for nothing.
    away = np.square(np.clip(places_in(box, patches, columns), 0, 1) - place).sum(axis=1)
    return np.exp(-away / (2 * NEARNESS**2))
