"""Measure a region: length, width, contrast and colour, in units that a reader can check, and its place on the animal.

The animal is known by the foreground mask of its photograph, which is read only with `--use-masks`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image

from sae_traits.describers.colours import color_name
from sae_traits.describers.surface import color_clusters, cut_out, lattice_of, on_lattice
from sae_traits.schema import Measurement, Region

LONGEST_SIDE = 512
"""The axis is taken from at most this many points a side: it needs no more, and a large mask has millions."""
MIN_ELONGATION = 1.1
"""An animal less long for its width has no axis: noise in its outline would turn it."""


def measure(
    image: NDArray[np.uint8], region: Region, mm_per_pixel: float | None = None, animal: Animal | None = None
) -> Measurement:
    """Length, width, texture contrast and dominant colour of a region, and where on the animal it lies.

    Args:
        image: upright RGB source image `[height, width, 3]`.
        region: in pixels of `image`; may touch its border and may be as small as a pixel.
        mm_per_pixel: scale of the image, where it is known.
        animal: by its mask; colour and contrast are then those of the region's pixels on the animal, unless none is.
            None where no mask is used.
    """
    cutout = cut_out(image, region, animal.mask if animal else None)
    placement = asdict(place_on_animal(region, animal)) if animal else {}
    length, width = _sides(region)
    dominant, _ = color_clusters(cutout.lab)
    return Measurement(
        length_px=length,
        width_px=width,
        elongation=length / width,
        texture_contrast=float(cutout.lab[:, 0].std()),
        color_lab=dominant.lab,
        color_name=color_name(dominant.lab),
        **placement,
    ).with_scale(mm_per_pixel)


def _sides(region: Region) -> tuple[float, float]:
    """Length and width of the smallest rectangle, turned as need be, around the region; at least one pixel each."""
    vertices = np.concatenate([np.reshape(ring, (-1, 2)) for ring in region.polygons])
    with np.errstate(divide="ignore", invalid="ignore"):  # a region thinner than rounding errors; its sides become 1
        rectangle = shapely.get_coordinates(shapely.oriented_envelope(shapely.multipoints(vertices)))
    sides = np.linalg.norm(np.diff(rectangle[:3], axis=0), axis=1)
    # A line has one side and a point none; nothing is measured finer than a pixel.
    width, length = sorted(max(1.0, side) for side in [*sides.tolist(), 0.0, 0.0][:2])
    return length, width


@dataclass(frozen=True)
class Axis:
    """The longest axis of an animal: the direction in which its pixels vary most, from end to end."""

    direction: NDArray[np.float64]
    """Unit vector (x, y)."""
    first: float
    """Projections of the ends on the direction, in pixels."""
    last: float

    def position(self, point: NDArray[np.float64]) -> float:
        """How far a point (x, y) is from the middle, 0, towards the nearer end, 1.

        Folded, because a mask does not tell a head from a tail; the axis of a butterfly with spread wings runs from
        wing to wing, and there the folded position is the distance from the body.
        """
        middle, half = (self.first + self.last) / 2, (self.last - self.first) / 2
        return min(1.0, abs(float(point @ self.direction) - middle) / half)


@dataclass(frozen=True)
class Animal:
    """The animal of a photograph, as its mask shows it."""

    mask: NDArray[np.bool_]
    """Its pixels `[height, width]`."""
    area: int
    """Number of its pixels."""
    axis: Axis | None
    """None where it is about as wide as long."""

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Animal:
        """The animal of a mask `[height, width]` that is not empty."""
        return cls(mask, int(mask.sum()), _longest_axis(mask))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a region lies on the animal; see the fields of `schema.Measurement`."""

    on_animal: float
    share_of_animal: float
    position_along_axis: float | None
    """None where the region is off the animal, or the animal has no axis."""


def place_on_animal(region: Region, animal: Animal) -> Placement:
    """Where a region lies on the animal, to about a hundredth of the region's sides.

    The region's position is that of the centroid of what of it lies on the animal.
    """
    height, width = animal.mask.shape
    lattice = lattice_of(region, (width, height))
    shares = np.where(lattice.inside, on_lattice(lattice, animal.mask, Image.Resampling.BOX), 0).astype(np.float64)
    on_animal = float(shares.sum() / lattice.inside.sum())
    position = None
    if on_animal > 0 and animal.axis is not None:
        centroid = np.array([shares.sum(axis=0) @ lattice.x, shares.sum(axis=1) @ lattice.y]) / shares.sum()
        position = animal.axis.position(centroid)
    return Placement(on_animal, min(1.0, on_animal * lattice.area / animal.area), position)


def _longest_axis(mask: NDArray[np.bool_]) -> Axis | None:
    """The main axis of second moments, as far as pixels of the mask reach along it."""
    step = -(-max(mask.shape) // LONGEST_SIDE)
    points = np.argwhere(mask[::step, ::step])[:, ::-1] * step + step / 2  # x, y
    if len(points) < 2:
        return None  # nothing of so small an animal has a direction
    (short, long), axes = np.linalg.eigh(np.cov(points.T) + np.eye(2) * step**2 / 12)  # a point is a square
    if long < MIN_ELONGATION**2 * short:
        return None
    direction = axes[:, 1]
    along = points @ direction
    return Axis(direction, float(along.min()) - step / 2, float(along.max()) + step / 2)
