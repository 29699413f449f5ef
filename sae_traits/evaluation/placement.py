"""Regions placed at random: the baseline for any claim about where regions lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_traits.errors import ConfigError
from sae_traits.geometry import PatchGrid


def random_placement(patches: ArrayLike, grid: PatchGrid, rng: np.random.Generator) -> NDArray[np.intp]:
    """Shift a shape of patches to a random place: uniform over all shifts that keep it on the grid's valid patches.

    Returns:
        Patch indices of the shifted region, in the same order `[n]`; its own place is one of the possible ones.

    Raises:
        ConfigError: the shape fits nowhere, because it is of another grid or lies on padding.
    """
    shape = np.asarray(patches, dtype=np.intp)
    rows, columns = np.divmod(shape, grid.columns)
    rows, columns = rows - rows.min(), columns - columns.min()
    valid = np.zeros(grid.n_patches, dtype=bool)
    valid[grid.valid] = True
    valid = valid.reshape(grid.rows, grid.columns)
    # fits[r, c]: every patch of the shape is valid when the upper left corner of its bounding box lies at (r, c).
    height, width = grid.rows - rows.max(), grid.columns - columns.max()
    fits = np.full((max(height, 0), width), shape.max() < grid.n_patches)
    if fits.any():
        for row, column in zip(rows, columns, strict=True):
            fits &= valid[row : row + height, column : column + width]
    places = np.argwhere(fits)
    if len(places) == 0:
        raise ConfigError(
            f"a region of {len(shape)} patches fits nowhere on the {grid.rows} x {grid.columns} patches of this image; "
            "the regions must come from the same backbone and framing as the grid"
        )
    top, left = places[rng.integers(len(places))]
    return (rows + top) * grid.columns + columns + left
