"""Outlines, close-ups and histograms as SVG, numbers in, text of numbers out; and any text in full."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

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
    counts = [0] * n_bars
    for value in values:
        counts[min(n_bars - 1, math.floor((value - low) / (high - low) * n_bars))] += 1
    step, width = (high - low) / n_bars, 100 / n_bars
    return [
        Bar(
            round(i * width, 2),
            round(width, 2),
            round(100 * n / max(counts), 2),
            low + i * step,
            low + (i + 1) * step,
            n,
        )
        for i, n in enumerate(counts)
    ]


def as_svg(numbers: str | Sequence[int]) -> Markup:
    """A text of numbers that this module made, or numbers, as an attribute's value."""
    return Markup(numbers if isinstance(numbers, str) else " ".join(map(str, numbers)))  # noqa: S704


def full(text: str) -> Markup:
    """A text in full, however long: `render` shortens what it escapes."""
    return Markup(html.escape(text))  # noqa: S704
