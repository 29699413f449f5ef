"""Where on organisms each latent usually fires, and how near to that a patch lies.

A pair of wings, of eyes or of legs gives a latent two groups of patches, of which now the one is stronger and now the
other. The place where the latent usually fires says which of them is meant, so that its regions are of the same one.
It is learnt from training images, and only where something is known of their backgrounds.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

MAX_PATCH_BACKGROUND = 0.5
"""A patch shows the organism when it shows background with at most this probability."""
N_BINS = 8
"""Of each side of the box around the organism."""
SMOOTHING = 1.0
"""Standard deviation, in bins. Chosen on Leeds and the drawn world, as N_BINS and NEARNESS."""
NEARNESS = 0.2
"""Standard deviation, in sides of the box, of how much the place says."""


def places_on_organism(background: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Where each patch lies relative to the box around the patches of its image that show the organism.

    Args:
        background: probability that each patch shows background, NaN where it is not known `[n_images, n_patches]`.
        shape: rows and columns of the grid of patches.

    Returns:
        The middle (x, y) of each patch: (0, 0) is the upper left and (1, 1) the lower right corner of the box
        `[n_images, n_patches, 2]`; NaN in images of which no patch shows the organism.
    """
    organism = (background <= MAX_PATCH_BACKGROUND).reshape(-1, *shape)
    x, y = (_relative_middles(np.asarray(organism.any(axis=axis))) for axis in (1, 2))
    places = np.stack(np.broadcast_arrays(x[:, None, :], y[:, :, None]), axis=-1)
    return places.reshape(len(organism), -1, 2)


def _relative_middles(occupied: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The middles of cells in a row, 0 where the first occupied one begins and 1 where the last one ends `[n, m]`."""
    n_cells = occupied.shape[1]
    first, behind_last = occupied.argmax(axis=1), n_cells - occupied[:, ::-1].argmax(axis=1)
    middles = (np.arange(n_cells) + 0.5 - first[:, None]) / (behind_last - first)[:, None]
    middles[~occupied.any(axis=1)] = np.nan
    return middles


class UsualPlaces:
    """Adds up where on the organism each latent fires, weighted by its activation."""

    def __init__(self, n_latents: int, weights: NDArray[np.float64], shape: tuple[int, int]) -> None:
        self._weights, self._shape = weights, shape
        self._total = np.zeros((n_latents, N_BINS, N_BINS))

    def add(self, codes: pa.Table, images: NDArray[np.int32], background: NDArray[np.float32]) -> None:
        """Add the codes of a shard.

        Args:
            codes: as `CODE_SCHEMA` has them.
            images: of the shard, ascending; each counts for its weight.
            background: probability that each of their patches shows background `[n_images, n_patches]`.
        """
        image, latent, patch, value = (codes[name].to_numpy() for name in ("image", "latent", "patch", "value"))
        row = np.searchsorted(images, image)
        weight = self._weights[image] * value * (background <= MAX_PATCH_BACKGROUND)[row, patch]
        counted = weight > 0
        bins = _bins(places_on_organism(background, self._shape))[row[counted], patch[counted]]
        size = N_BINS * N_BINS
        total = np.bincount(latent[counted] * size + bins, weight[counted], minlength=self._total.size)
        self._total += total.reshape(self._total.shape)

    @property
    def value(self) -> NDArray[np.float64]:
        """Where each latent fires most (x, y), relative to the box; NaN where it fires on no organism `[n_latents, 2]`.

        Of a latent of both of a pair it is one of the two, and not the middle between them.
        """
        # Beyond the box there is no organism, so nothing is there: each latent's own bins are smoothed and no others.
        smooth = gaussian_filter(self._total, (0, SMOOTHING, SMOOTHING), mode="constant")
        y, x = np.divmod(smooth.reshape(len(smooth), -1).argmax(axis=1), N_BINS)
        places = (np.stack([x, y], axis=1) + 0.5) / N_BINS
        places[~self._total.any(axis=(1, 2))] = np.nan
        return places


def _bins(places: NDArray[np.float64]) -> NDArray[np.intp]:
    """The bin of each place `[…, 2]`, row by row; those outside of the box, and NaN, are in some bin of its edge."""
    x, y = np.moveaxis(np.clip(np.nan_to_num(places) * N_BINS, 0, N_BINS - 1).astype(np.intp), -1, 0)
    return y * N_BINS + x


def nearness(places: NDArray[np.float64], usual: tuple[float, float]) -> NDArray[np.float64]:
    """What patches count for by their distance from a latent's usual place: 1 there, the less the farther away `[n]`.

    It falls as a normal density does, with a standard deviation of NEARNESS. What lies beyond the box is as far away as
    its edge, so that no patch counts for nothing.

    Args:
        places: of the patches, relative to the box (x, y) `[n, 2]`.
        usual: where the latent usually fires.
    """
    return np.exp(-np.square(np.clip(places, 0, 1) - usual).sum(axis=1) / (2 * NEARNESS**2))
