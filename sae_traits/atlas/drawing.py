"""Outlines, close-ups and histograms as SVG, numbers in, text of numbers out; and any text in full."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from markupsafe import Markup
from numpy.typing import NDArray

GRID = 16
"""Places per side of a region's box at which its letter is tried where its middle is taken."""
CLOSE_UP_MARGIN = 0.35
"""Of the longer side of a region's box, around it."""


def outline_of(polygons: Sequence[Sequence[float]], scale: tuple[float, float]) -> str:
    """The `d` of an SVG path along some rings, x0, y0, x1, y1, …, in whole pixels."""
    paths = []
    for ring in polygons:
        points = [(round(x * scale[0]), round(y * scale[1])) for x, y in zip(ring[::2], ring[1::2], strict=True)]
        kept = [point for i, point in enumerate(points) if i == 0 or point != points[i - 1]]
        paths.append("M" + " ".join(f"{x} {y}" for x, y in kept) + "Z")
    return "".join(paths)


def letter_size(size: tuple[int, int]) -> int:
    """How high the letters of regions are on a picture of a width and height."""
    return max(size) // 20


def letter_places(regions: Sequence[Sequence[Sequence[float]]], height: float) -> list[tuple[float, float]]:
    """Where the middle of each region's letter is: within the region, and off other letters where there is room.

    Args:
        regions: the rings of each, x0, y0, x1, y1, …; the letter is in the largest.
        height: of a letter, in the same unit; the middles of two that do not cover each other are so far apart.
    """
    shapes = [
        max((shapely.make_valid(shapely.Polygon(np.reshape(ring, (-1, 2)))) for ring in rings), key=shapely.area)
        for rings in regions
    ]
    places: dict[int, tuple[float, float]] = {}
    for index in sorted(range(len(shapes)), key=lambda index: shapes[index].area):  # the smallest has least room
        places[index] = _letter_place(shapes[index], list(places.values()), height)
    return [places[index] for index in range(len(shapes))]


def _letter_place(shape: shapely.Geometry, taken: Sequence[tuple[float, float]], height: float) -> tuple[float, float]:
    middle = shapely.get_coordinates(shapely.point_on_surface(shape))
    if not taken or _room(middle, taken)[0] >= height:
        return tuple(middle[0].tolist())
    left, top, right, bottom = shapely.bounds(shape).tolist()
    steps = (np.arange(GRID) + 0.5) / GRID
    x, y = np.meshgrid(left + (right - left) * steps, top + (bottom - top) * steps)
    inside = shapely.contains_xy(shape, x.ravel(), y.ravel())
    places = np.concatenate([middle, np.column_stack([x.ravel(), y.ravel()])[inside]])
    to_edge = shapely.distance(shapely.boundary(shape), shapely.points(places))
    room = np.minimum(_room(places, taken), height)
    best = np.lexsort((-to_edge, -room))[0]
    return tuple(places[best].tolist())


def _room(places: NDArray[np.float64], taken: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    """Distance of each place to the nearest that is taken."""
    return np.linalg.norm(places[:, None] - np.array(taken), axis=2).min(axis=1)


def close_up(box: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A square window on a picture around a box, with some of what surrounds it: x, y, width, height."""
    x, y, width, height = box
    side = min(max(width, height, 24) * (1 + 2 * CLOSE_UP_MARGIN), *size)
    left = min(max(0, x + width / 2 - side / 2), size[0] - side)
    top = min(max(0, y + height / 2 - side / 2), size[1] - side)
    return round(left), round(top), round(side), round(side)


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram, in percent of the drawing, and what it counts."""

    x: float
    width: float
    height: float
    low: float
    high: float
    n: int


def histogram(values: Sequence[float], n_bars: int = 20) -> list[Bar]:
    """Equally wide bars from the smallest to the largest value; one where all are alike, none where there is none."""
    if not values:
        return []
    low, high = min(values), max(values)
    if not high > low:
        return [Bar(0, 100, 100, low, high, len(values))]
    counts, edges = (of.tolist() for of in np.histogram(values, n_bars))
    width = 100 / n_bars
    return [
        Bar(round(i * width, 2), round(width, 2), round(100 * n / max(counts), 2), edges[i], edges[i + 1], n)
        for i, n in enumerate(counts)
    ]


def as_svg(numbers: str | Sequence[int]) -> Markup:
    """A text of numbers that this module made, or numbers, as an attribute's value."""
    return Markup(numbers if isinstance(numbers, str) else " ".join(map(str, numbers)))  # noqa: S704


def full(text: str) -> Markup:
    """A text in full, however long: `render` shortens what it escapes."""
    return Markup(html.escape(text))  # noqa: S704
