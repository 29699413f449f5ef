"""A region's shape at other places of its image: what a share is compared with, so that chance is known."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_traits.describers.surface import lattice_of
from sae_traits.errors import ConfigError
from sae_traits.geometry import PatchGrid, summed_area
from sae_traits.schema import Region


class OnMask:
    """How much of regions lies on the mask of their image, and how much would at other places.

    Args:
        mask: of the image `[height, width]`.
        grid: of the image; what it leaves out, as a crop does, is no place for a region.

    Raises:
        ConfigError: the mask is of another size than the image.
    """

    def __init__(self, mask: NDArray[np.bool_], grid: PatchGrid) -> None:
        if mask.shape != grid.source[::-1]:
            raise ConfigError(
                f"the mask is {mask.shape[1]} x {mask.shape[0]} pixels, the image {grid.source[0]} x {grid.source[1]}"
            )
        self._mask = mask
        corners = grid.corners[grid.valid]
        self._first = np.floor(corners[:, :2].min(axis=0)).astype(int)
        self._last = np.ceil(corners[:, 2:].max(axis=0)).astype(int)
        self._integral = summed_area(mask, np.uint32)

    def shares(self, region: Region) -> tuple[float, float]:
        """The share of a region, by its outlines, on the mask, and its mean over all places where it fits.

        Places are whole pixels apart, and the region's own is one of them.
        """
        height, width = self._mask.shape
        lattice = lattice_of(region, (width, height))
        columns, rows = lattice.x.astype(int), lattice.y.astype(int)
        # Of single pixels: means around them would take in what lies beside a thin region.
        share = float(self._mask[np.ix_(rows, columns)][lattice.inside].mean())
        left, top, right, bottom = lattice.crop
        # Every point of the region visits a rectangle of pixels as the region moves.
        first_x, first_y = np.minimum(self._first - (left, top), 0)
        last_x, last_y = np.maximum(self._last - (right, bottom), 0)
        until_x, until_y = columns + last_x + 1, rows + last_y + 1
        from_x, from_y = columns + first_x, rows + first_y
        integral = self._integral
        visited = (
            integral[np.ix_(until_y, until_x)]
            - integral[np.ix_(from_y, until_x)]
            - integral[np.ix_(until_y, from_x)]
            + integral[np.ix_(from_y, from_x)]
        )
        n_places = (last_x - first_x + 1) * (last_y - first_y + 1)
        return share, float(visited[lattice.inside].mean() / n_places)


def random_placement(patches: ArrayLike, grid: PatchGrid, rng: np.random.Generator) -> NDArray[np.intp]:
    """Shift a shape of patches `[n]` to a random place, uniform over all shifts that keep it on the grid's valid ones.

    Returns:
        Patch indices of the shifted region, in the same order `[n]`; its own place is one of the possible ones.

    Raises:
        ConfigError: the shape fits nowhere, because it is of another grid or lies on padding.
    """
    rows, columns, fits = _shape_and_places(patches, grid)
    places = np.argwhere(fits)
    top, left = places[rng.integers(len(places))]
    return (rows + top) * grid.columns + columns + left


def mean_over_placements(patches: ArrayLike, values: NDArray[Any], grid: PatchGrid) -> float:
    """Average a value per patch over a shape of patches at all places where `random_placement` could put it.

    Args:
        patches: the shape `[n]`.
        values: for example the share of each patch that lies on the animal `[n_patches]`.

    Raises:
        ConfigError: the shape fits nowhere.
    """
    rows, columns, fits = _shape_and_places(patches, grid)
    height, width = fits.shape
    by_place = np.asarray(values, dtype=np.float64).reshape(grid.rows, grid.columns)
    total = sum(
        by_place[row : row + height, column : column + width][fits].mean()
        for row, column in zip(rows, columns, strict=True)
    )
    return float(total) / len(rows)


def _shape_and_places(
    patches: ArrayLike, grid: PatchGrid
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
    """Rows and columns of a shape from the upper left corner of its box `[n]`, and where that corner may lie.

    The places are `[height, width]`: whether every patch of the shape is valid with the corner at a row and column.
    """
    shape = np.asarray(patches, dtype=np.intp)
    rows, columns = np.divmod(shape, grid.columns)
    rows, columns = rows - rows.min(), columns - columns.min()
    valid = np.zeros(grid.n_patches, dtype=bool)
    valid[grid.valid] = True
    valid = valid.reshape(grid.rows, grid.columns)
    height, width = grid.rows - rows.max(), grid.columns - columns.max()
    fits = np.full((max(height, 0), width), shape.max() < grid.n_patches)
    if fits.any():
        for row, column in zip(rows, columns, strict=True):
            fits &= valid[row : row + height, column : column + width]
    if not fits.any():
        raise ConfigError(
            f"a region of {len(shape)} patches fits nowhere on the {grid.rows} x {grid.columns} patches of this image; "
            "the regions must come from the same backbone and framing as the grid"
        )
    return rows, columns, fits
