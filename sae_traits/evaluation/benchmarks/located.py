"""Regions of anyone's making on images: how much of each lies on the organism, and what other places would give."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sae_traits.errors import CollectionError, ConfigError
from sae_traits.evaluation.part_files import Box, PartFiles, read_part_files
from sae_traits.evaluation.part_truth import opened_mask, painted
from sae_traits.geometry import summed_area
from sae_traits.schema import Collection, ImageRecord, Problem

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Located:
    """Regions and where they lie; `_elsewhere` is the mean over all places where the same box fits into the image."""

    image: NDArray[np.int64]
    """Row of the image of each region `[n]`."""
    inside: FloatArray
    """Share of the region on the organism `[n]`; NaN where it is not known where that is."""
    inside_elsewhere: FloatArray
    on_part: FloatArray
    """Whether a keypoint lies in the region `[n]`; NaN for images without any."""
    on_part_elsewhere: FloatArray
    problems: tuple[Problem, ...] = ()
    """What of the files could not be used."""


def locate(
    collection: Collection,
    regions: Path,
    *,
    keypoints: Path | None = None,
    part_masks: Path | None = None,
    boxes: Path | None = None,
) -> Located:
    """Measure the boxes of regions against masks, boxes and keypoints.

    Args:
        regions: boxes of the regions, as `read_part_files` reads boxes.
        keypoints, part_masks, boxes: see `read_part_files`; the organism is all parts with a mask, or else its boxes.

    Raises:
        ConfigError: nothing says where the organisms are.
        CollectionError: a file cannot be read, or no image has both a region and a truth.
    """
    if keypoints is None and part_masks is None and boxes is None:
        raise ConfigError("localisation needs --boxes, --part-masks or --keypoints, which say where the organisms are")
    asked = read_part_files(collection, boxes=regions)
    truth = read_part_files(collection, keypoints=keypoints, part_masks=part_masks, boxes=boxes)
    rows, measured = [], []
    for row, of_image in sorted(asked.boxes.items()):
        record = collection.images[row]
        organism, points = _organism(record, row, truth), _points(record, row, truth)
        for box in of_image:
            placed = _placed(box, record)
            if placed is None or (organism is None and points is None):
                continue
            inside = (np.nan, np.nan) if organism is None else share_inside(organism, placed)
            on_part = (np.nan, np.nan) if points is None else holds_any(points, placed)
            rows.append(row)
            measured.append((*inside, *on_part))
    if not rows:
        raise CollectionError(f"no image has both a region in {regions} and something that says where the organism is")
    inside, inside_elsewhere, on_part, on_part_elsewhere = np.array(measured, dtype=np.float64).T
    return Located(
        image=np.array(rows, dtype=np.int64),
        inside=inside,
        inside_elsewhere=inside_elsewhere,
        on_part=on_part,
        on_part_elsewhere=on_part_elsewhere,
        problems=(*asked.problems, *truth.problems),
    )


Placed = tuple[int, int, int, int]
"""Top, left, height and width of a region in whole pixels, within its image."""


def share_inside(marked: NDArray[np.bool_], region: Placed) -> tuple[float, float]:
    """Share of a region that is marked in an image `[height, width]`, and its mean over all places of the region."""
    top, left, height, width = region
    shares = _sums(marked, height, width) / (height * width)
    return float(shares[top, left]), float(shares.mean())


def holds_any(marked: NDArray[np.bool_], region: Placed) -> tuple[float, float]:
    """Whether a region holds any marked pixel, and in which share of all its places it would; as `share_inside`."""
    top, left, height, width = region
    found = _sums(marked, height, width) > 0
    return float(found[top, left]), float(found.mean())


def _sums(marked: NDArray[np.bool_], height: int, width: int) -> NDArray[np.int64]:
    """Marked pixels in a window at every place where it fits `[n_rows, n_columns]`."""
    summed = summed_area(marked, np.int64)
    return summed[height:, width:] - summed[:-height, width:] - summed[height:, :-width] + summed[:-height, :-width]


def _placed(box: Box, record: ImageRecord) -> Placed | None:
    """A box to the nearest pixel, cut at the edges of its image; None where nothing is left."""
    x, y, width, height = box
    left, right = (min(max(round(edge), 0), record.width) for edge in (x, x + width))
    top, bottom = (min(max(round(edge), 0), record.height) for edge in (y, y + height))
    return (top, left, bottom - top, right - left) if bottom > top and right > left else None


def _organism(record: ImageRecord, row: int, truth: PartFiles) -> NDArray[np.bool_] | None:
    """Where the organism is `[height, width]`: all its parts, or else its boxes."""
    size = record.width, record.height
    if masks := truth.part_masks.get(row):
        return np.logical_or.reduce([opened_mask(path) for path in masks.values()])
    boxes = truth.boxes.get(row)
    return painted(boxes, size) if boxes else None


def _points(record: ImageRecord, row: int, truth: PartFiles) -> NDArray[np.bool_] | None:
    """The pixels of the keypoints `[height, width]`; None where there is none in the image."""
    marked = np.zeros((record.height, record.width), dtype=bool)
    for point in truth.keypoints.get(row, ()):
        # a point on the right or lower edge, which is read as inside, belongs to the last pixel
        marked[min(int(point.y), record.height - 1), min(int(point.x), record.width - 1)] = True
    return marked if marked.any() else None
