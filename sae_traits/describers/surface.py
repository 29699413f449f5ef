"""A region's pixels: cut them out of the image, and find the few colours that they have."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image
from skimage.color import rgb2lab

from sae_traits.describers.colours import Lab, color_difference
from sae_traits.schema import Region

MAXIMUM_SIDE = 96
"""A region's crop is looked at on a lattice of at most this many points per side, in milliseconds whatever its size."""
MAXIMUM_SAMPLE = 4000
LIGHTNESS_WEIGHT = 0.5
"""Weight of L* against a* and b* when pixels are grouped: shading changes lightness more than hue."""
COLOR_RADIUS = 14.0
"""Pixels within this weighted CIELAB distance are of one colour."""
STARTS = 12
SHIFTS = 5
"""Cells of the histogram that a colour is sought from, and steps of the search; more change nothing."""
MAXIMUM_COLORS = 3
FURTHER_SHARE = 0.1
FURTHER_DIFFERENCE = 20.0
"""A further colour is one that covers this share of the region and differs this much (CIEDE2000) from those before."""


@dataclass(frozen=True)
class Cutout:
    """The bounding crop of a region on a lattice of at most MAXIMUM_SIDE points per side."""

    points: NDArray[np.uint8]
    """The source pixel at each lattice point, not blended `[rows, columns, 3]`."""
    averaged: NDArray[np.uint8]
    """The mean around each lattice point, free of aliasing `[rows, columns, 3]`."""
    inside: NDArray[np.bool_]
    """Which lattice points are the region's `[rows, columns]`; never all False."""

    @cached_property
    def lab(self) -> NDArray[np.float64]:
        """CIELAB of a bounded, evenly spaced sample of the region's pixels `[n <= MAXIMUM_SAMPLE, 3]`."""
        pixels = self.points[self.inside]
        step = -(-len(pixels) // MAXIMUM_SAMPLE)
        return rgb2lab(pixels[::step])


@dataclass(frozen=True)
class Lattice:
    """Evenly spaced points over the pixels that a region touches, at most MAXIMUM_SIDE a side."""

    crop: tuple[int, int, int, int]
    """Left, top, right and bottom of these pixels."""
    x: NDArray[np.float64]
    """Centres of the columns `[columns]`, in source pixels."""
    y: NDArray[np.float64]
    """Centres of the rows `[rows]`."""
    inside: NDArray[np.bool_]
    """Which points lie in the region `[rows, columns]`; never all False."""
    area: float
    """Of the region, in square pixels."""


def lattice_of(region: Region, size: tuple[int, int]) -> Lattice:
    """The lattice over a region of an image of (width, height) pixels, by its outlines: a box may have a margin.

    A region between two pixel centres has all points of its lattice.
    """
    width, height = size
    geometry = shapely.union_all([shapely.Polygon(np.reshape(ring, (-1, 2))) for ring in region.polygons])
    edges = np.concatenate([np.reshape(ring, (-1, 2)) for ring in region.polygons])
    (first_x, first_y), (last_x, last_y) = edges.min(axis=0), edges.max(axis=0)
    left, top = min(max(int(np.floor(first_x)), 0), width - 1), min(max(int(np.floor(first_y)), 0), height - 1)
    right, bottom = min(max(int(np.ceil(last_x)), left + 1), width), min(max(int(np.ceil(last_y)), top + 1), height)
    scale = min(1.0, MAXIMUM_SIDE / max(right - left, bottom - top))
    columns, rows = (max(1, round(side * scale)) for side in (right - left, bottom - top))
    x = left + (np.arange(columns) + 0.5) * (right - left) / columns
    y = top + (np.arange(rows) + 0.5) * (bottom - top) / rows
    shapely.prepare(geometry)
    inside = shapely.contains_xy(geometry, *np.meshgrid(x, y))
    inside = inside if inside.any() else np.ones((rows, columns), dtype=bool)
    return Lattice((left, top, right, bottom), x, y, inside, float(geometry.area))


def on_lattice(lattice: Lattice, values: NDArray[Any], resample: Image.Resampling) -> NDArray[Any]:
    """The values at a lattice's points (nearest), or the means around them (box) `[rows, columns, …]`.

    Of 8-bit RGB `[height, width, 3]`, or of a mask `[height, width]`, which gives numbers from 0 to 1.
    """
    left, top, right, bottom = lattice.crop
    crop = np.ascontiguousarray(values[top:bottom, left:right])
    picture = Image.fromarray(crop.astype(np.float32) if crop.dtype == bool else crop)
    return np.asarray(picture.resize((len(lattice.x), len(lattice.y)), resample))


def cut_out(image: NDArray[np.uint8], region: Region, mask: NDArray[np.bool_] | None = None) -> Cutout:
    """The region's pixels of an upright RGB image `[height, width, 3]`; between two pixel centres those it touches.

    Of a mask of the animal `[height, width]` only its pixels count, unless none of the region's is one.
    """
    lattice = lattice_of(region, (image.shape[1], image.shape[0]))
    inside = lattice.inside
    if mask is not None:
        on_animal = inside & (on_lattice(lattice, mask, Image.Resampling.NEAREST) > 0)
        inside = on_animal if on_animal.any() else inside
    nearest, box = Image.Resampling.NEAREST, Image.Resampling.BOX
    return Cutout(on_lattice(lattice, image, nearest), on_lattice(lattice, image, box), inside)


@dataclass(frozen=True, slots=True)
class ColorCluster:
    """Pixels of about one colour."""

    lab: Lab
    share: float
    """Of the region's pixels."""


def color_clusters(lab: NDArray[np.float64]) -> tuple[ColorCluster, ...]:
    """The colour that covers most of the CIELAB pixels `[n, 3]`, then those that clearly differ, the larger first.

    A colour is a mode: of the cells of a coarse histogram the one with the most pixels around it, moved to the mean of
    those pixels until it rests. Unlike k-means it needs no number of colours and no seed.

    Source: mean shift, Comaniciu and Meer 2002, with a flat kernel.
    """
    dominant, rest = _take_densest(lab, len(lab))
    found = [dominant]
    while len(rest) >= FURTHER_SHARE * len(lab) and len(found) < MAXIMUM_COLORS:
        cluster, rest = _take_densest(rest, len(lab))
        if cluster.share < FURTHER_SHARE:
            break  # the densest that is left, so none of the others covers more
        if all(color_difference(earlier.lab, cluster.lab) >= FURTHER_DIFFERENCE for earlier in found):
            found.append(cluster)
    return tuple(found)


def _take_densest(lab: NDArray[np.float64], n_all: int) -> tuple[ColorCluster, NDArray[np.float64]]:
    """The cluster of the densest colour of pixels `[n, 3]`, as a share of `n_all`, and the pixels outside it."""
    weighted = lab * [LIGHTNESS_WEIGHT, 1, 1]
    # Mean colour `[n_cells, 3]` and number of pixels of the occupied cells, COLOR_RADIUS / 2 wide.
    steps = np.floor(weighted / (COLOR_RADIUS / 2)).astype(int) + 64  # weighted CIELAB spans less than +-128
    keys, cell, counts = np.unique(steps @ [16384, 128, 1], return_inverse=True, return_counts=True)
    sums = [np.bincount(cell, weights=channel, minlength=len(keys)) for channel in weighted.T]
    cells = np.stack(sums, axis=1) / counts[:, None]
    starts = cells[np.argsort(-counts, kind="stable")[:STARTS]]
    near = _near(cells[:, None], starts)
    center = starts[int(np.argmax(counts @ near))]
    for _ in range(SHIFTS):
        center = weighted[_near(weighted, center)].mean(axis=0)
    members = _near(weighted, center)
    lightness, a, b = (float(value) for value in lab[members].mean(axis=0))
    return ColorCluster((lightness, a, b), float(members.sum() / n_all)), lab[~members]


def _near(colors: NDArray[np.float64], center: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which weighted colours `[…, 3]` are of one colour with a centre."""
    return np.linalg.norm(colors - center, axis=-1) <= COLOR_RADIUS
