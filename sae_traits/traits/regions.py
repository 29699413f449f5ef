"""From fired patches to a region of the source image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

from sae_traits.geometry import PatchGrid
from sae_traits.schema import Region

_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=int)


def whole_image(size: tuple[int, int]) -> Region:
    """All of an image of (width, height) pixels."""
    width, height = map(float, size)
    ring = (0.0, 0.0, width, 0.0, width, height, 0.0, height)
    return Region(box=(0.0, 0.0, width, height), polygons=(ring,), patches=(), area_fraction=1.0)


def strongest_component(
    patches: NDArray[np.int32],
    values: NDArray[np.float32],
    grid: PatchGrid,
    min_patches: int = 1,
    weights: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The connected group of patches (corners count as touching) with the largest summed activation.

    Args:
        patches: fired patches `[n]`.
        values: their activations `[n]`.
        min_patches: groups of fewer patches are specks, which are passed over.
        weights: what the activation of each patch counts for in the sum, above 0 `[n]`; None if all count the same.

    Returns:
        Patches and values of the group, in ascending order of patch; none where all groups are specks.
    """
    strength = np.zeros((grid.rows, grid.columns))
    strength.flat[patches] = values
    labels, n_components = ndimage.label(strength > 0, structure=_EIGHT_NEIGHBOURS)  # pyright: ignore[reportGeneralTypeIssues]
    if weights is not None:
        strength.flat[patches] *= weights
    sums = np.asarray(ndimage.sum_labels(strength, labels, index=np.arange(1, n_components + 1)))
    sums[np.bincount(labels.flat[patches], minlength=n_components + 1)[1:] < min_patches] = 0
    if not sums.any():
        return patches[:0], values[:0]
    chosen = labels.flat[patches] == 1 + int(np.argmax(sums))
    order = np.argsort(patches[chosen])
    return patches[chosen][order], values[chosen][order]


def make_region(patches: Sequence[int], grid: PatchGrid, margin: float = 0.0) -> Region:
    """The region that a set of patches covers in the source image: outlines, and the box around them.

    Args:
        patches: at least one.
        margin: how much wider the box is on every side, as a share of its longer side, within the image; 0 is tight.
    """
    corners = grid.corners[list(patches)]
    shape = shapely.union_all(shapely.box(*corners.T))
    rings = [
        shapely.get_coordinates(shapely.get_exterior_ring(part.normalize()))[:-1] for part in shapely.get_parts(shape)
    ]
    return region_of_outlines(rings, patches, grid.source, margin, area=float(shape.area))


def region_of_outlines(
    rings: Sequence[NDArray[np.float64]],
    patches: Sequence[int],
    source: tuple[int, int],
    margin: float = 0.0,
    *,
    area: float | None = None,
) -> Region:
    """A region with given outlines, and the box around them.

    Args:
        rings: outer rings in source pixels (x, y) `[n, 2]`, not closed.
        patches: that the region was made of.
        source: width and height of the image.
        margin: see `make_region`.
        area: of the region in square pixels, where it is known not to be that of the rings, which have no holes.
    """
    # Rounded to a thousandth of a pixel, so that a union's last bits cannot change a dataset's bytes.
    polygons = tuple(sorted(tuple(float(v) for v in np.round(ring, 3).ravel()) for ring in rings))
    points = np.concatenate(rings)
    first, last = points.min(axis=0), points.max(axis=0)
    added = margin * (last - first).max()
    width, height = source
    left, top = np.maximum(first - added, 0).round(3)
    right, bottom = np.minimum(last + added, (width, height)).round(3)
    return Region(
        box=(float(left), float(top), float(right - left), float(bottom - top)),
        polygons=polygons,
        patches=tuple(int(p) for p in patches),
        area_fraction=(sum(shapely.Polygon(ring).area for ring in rings) if area is None else area) / (width * height),
    )
