"""Where the organism and its parts are in one image, in the patches of a backbone; for scoring only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_traits.errors import CollectionError, ImageError
from sae_traits.evaluation.part_files import Box, Keypoint, PartFiles
from sae_traits.evaluation.parts import OFF_PART, UNKNOWN_PART
from sae_traits.geometry import PatchGrid
from sae_traits.images.decode import open_mask
from sae_traits.schema import Collection, ImageRecord

TOLERANCE = 0.1
"""A region lies on the part whose keypoint is nearest to its centre, if within this share of the diagonal of the
animal's box."""
ON_ANIMAL = 0.5
"""A peak is on the animal when at least this share of its patch is."""


@dataclass(frozen=True, kw_only=True)
class ImageTruth:
    """What is known of one image."""

    grid: PatchGrid
    on_animal: NDArray[np.float64] | None = None
    """Share of each patch in the mask, or in a box where there is no mask `[n_patches]`."""
    box: Box | None = None
    """Around the animal; None where it is not known, or there are several."""
    part_shares: NDArray[np.float64] | None = None
    """Share of each patch on each part, by masks `[n_parts, n_patches]`."""
    keypoint_part: NDArray[np.intp] | None = None
    """Part of each keypoint `[n]`; not asked where there are masks."""
    keypoint_place: NDArray[np.float64] | None = None
    """`[n, 2]` in pixels."""

    @property
    def knows_parts(self) -> bool:
        """Whether parts of the image were named."""
        return self.part_shares is not None or (self.keypoint_place is not None and self.box is not None)

    def part_of(self, patches: ArrayLike) -> int:
        """The part on which a region lies.

        By part masks the part with the largest share of the region, if it is larger than what lies on no part. By
        keypoints see TOLERANCE. OFF_PART where it lies on none, UNKNOWN_PART where the image has neither.
        """
        patches = np.asarray(patches, dtype=np.intp)
        if self.part_shares is not None:
            shares = self.part_shares[:, patches].mean(axis=1)
            part = int(shares.argmax()) if len(shares) else OFF_PART
            return part if part >= 0 and shares[part] > 1 - min(1.0, float(shares.sum())) else OFF_PART
        if self.keypoint_place is None or self.keypoint_part is None or self.box is None:
            return UNKNOWN_PART
        distance = np.linalg.norm(self.keypoint_place - centre_of(patches, self.grid), axis=1)
        nearest = int(distance.argmin())
        is_near = distance[nearest] <= TOLERANCE * math.hypot(*self.box[2:])
        return int(self.keypoint_part[nearest]) if is_near else OFF_PART

    def place_of(self, patches: ArrayLike) -> NDArray[np.float64]:
        """The centre of a region relative to the animal's box `[2]`; NaN where that is not known.

        (0, 0) is the upper left and (1, 1) the lower right corner of the box.
        """
        return self._in_box(centre_of(patches, self.grid))

    @property
    def marked_parts(self) -> list[tuple[int, NDArray[np.float64]]]:
        """Every part that is marked, with where its centre lies relative to the animal's box `[2]`."""
        if self.part_shares is not None:
            every = range(self.grid.n_patches)
            centres = [(part, centre_of(every, self.grid, of)) for part, of in enumerate(self.part_shares) if of.any()]
        elif self.keypoint_place is not None and self.keypoint_part is not None:
            centres = list(zip(self.keypoint_part.tolist(), self.keypoint_place, strict=True))
        else:
            centres = []
        return [(part, self._in_box(centre)) for part, centre in centres]

    def _in_box(self, place: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.full(2, np.nan) if self.box is None else (place - self.box[:2]) / self.box[2:]


def centre_of(patches: ArrayLike, grid: PatchGrid, shares: ArrayLike = 1.0) -> NDArray[np.float64]:
    """The centre (x, y) of the area that patches, or shares of them, cover, in pixels of the source image `[2]`."""
    corners = grid.corners[np.asarray(patches, dtype=np.intp)]
    sides = corners[:, 2:] - corners[:, :2]
    return np.average((corners[:, :2] + corners[:, 2:]) / 2, axis=0, weights=sides.prod(axis=1) * shares)


class PartTruth:
    """The truth of a collection: what its table says, and what files say besides.

    Args:
        collection: its masks and boxes are used where the files have none.
        files: what `read_part_files` read.
    """

    def __init__(self, collection: Collection, files: PartFiles | None = None) -> None:
        self.collection = collection
        self.files = files or PartFiles()
        self.parts = self.files.parts
        self._number = {part: number for number, part in enumerate(self.parts)}

    @property
    def is_known(self) -> bool:
        """Whether anything is known of any image."""
        files = self.files
        of_table = any(record.mask_file or record.animal_box for record in self.collection.images)
        return bool(of_table or files.keypoints or files.part_masks or files.boxes)

    def of(self, row: int, grid: PatchGrid) -> ImageTruth | None:
        """What is known of an image; None where nothing is.

        Raises:
            CollectionError: a mask cannot be read.
        """
        record, files = self.collection.images[row], self.files
        points, masks = files.keypoints.get(row, ()), files.part_masks.get(row, {})
        part_masks = {part: opened_mask(mask) for part, mask in masks.items()}
        boxes = list(files.boxes.get(row, ())) or ([record.animal_box] if record.animal_box else [])
        mask = self._mask(record, part_masks)
        if not (points or part_masks or boxes or mask is not None):
            return None
        shares = None
        if part_masks:
            shares = np.zeros((len(self.parts), grid.n_patches))
            for part, of_part in part_masks.items():
                shares[self._number[part]] = grid.patch_means(of_part)
        animal = painted(boxes, (record.width, record.height)) if mask is None and boxes else mask
        return ImageTruth(
            grid=grid,
            on_animal=None if animal is None else grid.patch_means(animal),
            box=_animal_box(boxes, mask, points),
            part_shares=shares,
            keypoint_part=np.array([self._number[point.part] for point in points], dtype=np.intp) if points else None,
            keypoint_place=np.array([(point.x, point.y) for point in points]) if points else None,
        )

    def _mask(self, record: ImageRecord, part_masks: dict[str, NDArray[np.bool_]]) -> NDArray[np.bool_] | None:
        """Foreground of an image: its mask, or all of its parts together."""
        path = self.collection.mask_path(record)
        if path is not None:
            return opened_mask(path)
        return np.logical_or.reduce(list(part_masks.values())) if part_masks else None


def painted(boxes: Sequence[Box], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Mark the pixels of an image of (width, height) that lie in any box, to the nearest pixel `[height, width]`."""
    inside = np.zeros((size[1], size[0]), dtype=bool)
    for x, y, width, height in boxes:
        left, top, right, bottom = (max(0, round(edge)) for edge in (x, y, x + width, y + height))
        inside[top:bottom, left:right] = True
    return inside


def bounds(mask: NDArray[np.bool_]) -> Box | None:
    """The box around what is marked in a mask `[height, width]`; None where nothing is."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] - columns[0] + 1), float(rows[-1] - rows[0] + 1)


def _animal_box(boxes: Sequence[Box], mask: NDArray[np.bool_] | None, points: Sequence[Keypoint]) -> Box | None:
    """The box of the one animal: as given, or around its mask, or around its keypoints."""
    if boxes:
        return boxes[0] if len(boxes) == 1 else None
    if mask is not None:
        return bounds(mask)
    xs, ys = [point.x for point in points], [point.y for point in points]
    width, height = max(xs) - min(xs), max(ys) - min(ys)
    return (min(xs), min(ys), width, height) if width > 0 and height > 0 else None


def opened_mask(path: Path) -> NDArray[np.bool_]:
    """Open a mask of the collection `[height, width]`; a CollectionError that names it where it cannot be read."""
    try:
        return open_mask(path)
    except ImageError as error:
        raise CollectionError(f"mask {path}: {error}") from error
