"""Where on the animal a region lies: by the foreground mask of its photograph, or by what is probably no background.

A mask is read only with `--use-masks`. Without one the animal is estimated patch by patch, from what was learnt of the
collection's backgrounds: so its size and place are known as coarsely as the patches are, and its colours not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from sae_traits.describers.surface import lattice_of, on_lattice
from sae_traits.geometry import PatchGrid
from sae_traits.schema import AnimalFrame, Region
from sae_traits.traits.chosen import MAX_BACKGROUND

VERSION = 2
"""Raised whenever the same region could get another place on the same animal."""
LONGEST_SIDE = 512
"""The axis is taken from at most this many points a side: it needs no more, and a large mask has millions."""
MIN_ELONGATION = 1.1
"""An animal less long for its width has no axis: noise in its outline would turn it."""
MIN_PATCHES = 4
"""What seems to be an animal of fewer patches is a speck."""
MAX_SHARE = 0.9
"""Of a photograph's patches: what seems to fill more of it has its outline, and so its middle, elsewhere."""
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=int)


@dataclass(frozen=True)
class Animal:
    """The animal of a photograph, as its mask shows it."""

    mask: NDArray[np.bool_]
    """Its pixels `[height, width]`."""
    frame: AnimalFrame

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Animal:
        """The animal of a mask `[height, width]` that is not empty."""
        step = -(-max(mask.shape) // LONGEST_SIDE)
        rows, columns = np.nonzero(mask[::step, ::step])
        if not len(rows):  # thinner than a step
            rows, columns = (places[:1] // step for places in np.nonzero(mask))
        points = np.stack([columns, rows], axis=1) * step + step / 2
        return cls(mask, frame_of_points(points, (step, step), float(mask.sum())))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a region lies on the animal; see the fields of `schema.Measurement`."""

    animal_source: Literal["mask", "background"]
    share_of_animal: float
    on_animal: float | None = None
    distance_from_centre: float | None = None
    """None where the region is off the animal."""
    position_along_axis: float | None = None
    """None where the region is off the animal, or the animal has no axis."""


def estimated_animal(
    background: NDArray[np.float32] | None, patches: NDArray[np.int32], grid: PatchGrid
) -> AnimalFrame | None:
    """The animal that a region lies on: the connected patches, corners touching, that are probably no background.

    Args:
        background: probability that each patch of the grid shows background, NaN where it is not known `[n_patches]`;
            None where nothing is known.
        patches: of the region `[n]`.

    Returns:
        None where the region lies off all animals, and where an animal is too small, or fills its photograph.
    """
    if background is None:
        return None
    is_animal = np.zeros((grid.rows, grid.columns), dtype=bool)
    is_animal.flat[grid.valid] = background[grid.valid] < MAX_BACKGROUND
    if is_animal.sum() > MAX_SHARE * len(grid.valid):
        return None
    pieces, n_pieces = ndimage.label(is_animal, structure=_EIGHT_NEIGHBOURS)  # pyright: ignore[reportGeneralTypeIssues]
    touched = np.bincount(pieces.flat[patches], minlength=n_pieces + 1)
    touched[0] = 0
    members = np.flatnonzero(pieces == int(np.argmax(touched)))
    if not touched.any() or len(members) < MIN_PATCHES:
        return None
    corners = grid.corners[members]
    sides = corners[:, 2:] - corners[:, :2]
    middle = (corners[:, :2] + corners[:, 2:]) / 2
    width, height = (float(side) for side in np.median(sides, axis=0))
    return frame_of_points(middle, (width, height), float(sides.prod(axis=1).sum()))


def frame_of_points(points: NDArray[np.float64], sides: tuple[float, float], area: float) -> AnimalFrame:
    """Middle, spread and ends of the rectangles of one size around some points (x, y) `[n, 2]`.

    Args:
        sides: width and height of each rectangle.
        area: of the animal, in square pixels.
    """
    centre = points.mean(axis=0)
    spread = np.diag(np.square(sides) / 12.0)  # a point is a rectangle
    if len(points) > 1:
        spread = spread + np.cov(points.T)
    (short, long), axes = np.linalg.eigh(spread)
    ends = None
    if long >= MIN_ELONGATION**2 * short:
        along = points @ axes[:, 1]
        half = float(np.abs(axes[:, 1]) @ sides) / 2
        ends = float(along.min()) - half, float(along.max()) + half
    (x_x, x_y), (_, y_y) = spread.tolist()
    return AnimalFrame(
        area=area, centre=(float(centre[0]), float(centre[1])), spread=(x_x, x_y, y_y), ends=ends,
    )  # fmt: skip


def place_on_animal(region: Region, animal: Animal) -> Placement:
    """Where a region lies on the animal of a mask, to about a hundredth of the region's sides.

    The region's place is that of the centroid of what of it lies on the animal.
    """
    height, width = animal.mask.shape
    lattice = lattice_of(region, (width, height))
    # Of single pixels: means around them would take in what lies beside a thin region.
    on_mask = on_lattice(lattice, animal.mask, Image.Resampling.NEAREST)
    shares = np.where(lattice.inside, on_mask, 0).astype(np.float64)
    on_animal = float(shares.sum() / lattice.inside.sum())
    share_of_animal = min(1.0, on_animal * lattice.area / animal.frame.area)
    if on_animal == 0:
        return Placement("mask", share_of_animal, on_animal)
    centroid = np.array([shares.sum(axis=0) @ lattice.x, shares.sum(axis=1) @ lattice.y]) / shares.sum()
    distance, position = distance_from_centre(centroid, animal.frame), position_along_axis(centroid, animal.frame)
    return Placement("mask", share_of_animal, on_animal, distance, position)


def place_in_frame(region: Region, frame: AnimalFrame) -> Placement:
    """Where a region lies on an animal that was estimated, by the region's centroid."""
    geometry = shapely.union_all([shapely.Polygon(np.reshape(ring, (-1, 2))) for ring in region.polygons])
    centroid = shapely.get_coordinates(shapely.centroid(geometry))[0]
    return Placement(
        "background",
        min(1.0, float(geometry.area) / frame.area),
        distance_from_centre=distance_from_centre(centroid, frame),
        position_along_axis=position_along_axis(centroid, frame),
    )


def distance_from_centre(point: NDArray[np.float64], frame: AnimalFrame) -> float:
    """How far a point (x, y) is from the animal's middle, 0, towards its edge, 1.

    The animal is taken for the ellipse with its second moments, which noise in its outline hardly changes.
    """
    x_x, x_y, y_y = frame.spread
    away = point - np.array(frame.centre)
    return min(1.0, float(np.sqrt(np.sum(away @ np.linalg.inv([[x_x, x_y], [x_y, y_y]]) * away))) / 2)


def position_along_axis(point: NDArray[np.float64], frame: AnimalFrame) -> float | None:
    """How far a point (x, y) is from the middle of the animal's longest axis, 0, towards the nearer end, 1.

    Folded, because neither a mask nor a background tells a head from a tail; the axis of a butterfly with spread wings
    runs from wing to wing, and there the folded position is the distance from the body.
    """
    if frame.ends is None:
        return None
    x_x, x_y, y_y = frame.spread
    direction = np.linalg.eigh([[x_x, x_y], [x_y, y_y]])[1][:, 1]
    first, last = frame.ends
    # The direction's sign, which is arbitrary, is that of `frame_of_points`: both are of the same matrix.
    return min(1.0, abs(float(point @ direction) - (first + last) / 2) / ((last - first) / 2))
