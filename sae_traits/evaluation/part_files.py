"""Files that say where the parts of the organisms are: keypoints, part masks and boxes, matched with a collection.

Coordinates are pixels of the upright source image. An image is called by its path, or by the end of its path that
belongs to it alone, with or without its suffix: `Parus_major/017.jpg`, `017.jpg` or `017`; or by its image_id.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from sae_traits.errors import CollectionError, one_line
from sae_traits.images.boxes import Box, box_in_image, out_of_image, warn_of_corners
from sae_traits.images.columns import FILE_NAMES, find_columns, warn_of_unread
from sae_traits.images.table import box_of, number_of
from sae_traits.images.table_files import open_table
from sae_traits.schema import Collection, Problem

IMAGE_NAMES = ("image", "image_id", *FILE_NAMES)
KEYPOINT_COLUMNS = {
    "image": IMAGE_NAMES,
    "part": ("part", "keypoint", "landmark", "name"),
    "x": ("x",),
    "y": ("y",),
    "visible": ("visible", "visibility"),
}
BOX_COLUMNS = {
    "image": IMAGE_NAMES,
    "x": ("x", "bbox_x"),
    "y": ("y", "bbox_y"),
    "width": ("width", "bbox_width", "bbox_w", "w"),
    "height": ("height", "bbox_height", "bbox_h", "h"),
}
SIDES = frozenset({"left", "right"})
HIDDEN = frozenset({"0", "0.0", "false", "no"})
COCO_VISIBLE = 2
_SEVERAL = -1


@dataclass(frozen=True, slots=True)
class Keypoint:
    """A point of a part, in sight in the image."""

    part: str
    x: float
    y: float


@dataclass(frozen=True)
class PartFiles:
    """What the files say, per row of the collection."""

    keypoints: Mapping[int, Sequence[Keypoint]] = field(default_factory=dict)
    part_masks: Mapping[int, Mapping[str, Path]] = field(default_factory=dict)
    """Files of the masks of each part."""
    boxes: Mapping[int, Sequence[Box]] = field(default_factory=dict)
    """Around each organism."""
    problems: tuple[Problem, ...] = ()
    """What could not be matched or used."""

    @property
    def parts(self) -> tuple[str, ...]:
        """All parts that are named, in the order of the alphabet."""
        named = {keypoint.part for points in self.keypoints.values() for keypoint in points}
        return tuple(sorted(named.union(*map(set, self.part_masks.values()))))


def read_part_files(
    collection: Collection, *, keypoints: Path | None = None, part_masks: Path | None = None, boxes: Path | None = None
) -> PartFiles:
    """Read what is given, and match it with the images of a collection.

    Args:
        collection: whose images the files are about.
        keypoints: a table with the columns image, part, x, y and, if wanted, visible; or COCO keypoints (JSON).
        part_masks: a folder with IMAGE/PART.png or PART/IMAGE.png; above 127 is the part.
        boxes: a table with the columns image, x, y, width, height; or COCO annotations with `bbox`.

    Raises:
        CollectionError: a file cannot be read, or nothing of it belongs to an image of the collection.
    """
    images = _Images(collection)
    points = _read_points(keypoints, images) if keypoints else {}
    masks = _read_masks(part_masks, images) if part_masks else {}
    around = _read_boxes(boxes, images) if boxes else {}
    for path, found in ((keypoints, points), (part_masks, masks), (boxes, around)):
        if path is not None and not found:
            reasons = "; ".join(f"{problem.file}: {problem.reason}" for problem in images.problems[:3])
            raise CollectionError(
                f"nothing in {path} belongs to an image of the collection: {reasons or 'it is empty'}"
            )
    return PartFiles(points, masks, around, tuple(images.problems))


def part_of_name(written: str) -> str:
    """Reduce a name to that of the part: `left_eye` and `Right eye` are both `eye`, as sides are seldom told apart."""
    words = written.replace("_", " ").lower().split()
    return " ".join(word for word in words if word not in SIDES) or written.lower()


class _Images:
    """Finds the row of an image by what a file calls it, and collects what could not be used."""

    def __init__(self, collection: Collection) -> None:
        self.records = collection.images
        self.problems: list[Problem] = []
        self._told: set[str] = set()

    @cached_property
    def _rows(self) -> dict[str, int]:
        """Name -> the row of the image that is called so, _SEVERAL where several are; made when a file asks for one."""
        rows: dict[str, int] = {}
        for row, record in enumerate(self.records):
            path = PurePosixPath(record.file)
            names = {"/".join(p[i:]) for p in (path.parts, path.with_suffix("").parts) for i in range(len(p))}
            for name in (*names, record.image_id):
                if rows.setdefault(name, row) != row:
                    rows[name] = _SEVERAL
        return rows

    def knows(self, name: str) -> bool:
        """Whether exactly one image is called so."""
        return self._rows.get(name, _SEVERAL) != _SEVERAL

    def row(self, name: str) -> int | None:
        """The row of an image; None, and a problem, where it is not known."""
        name = PurePosixPath(name.strip().replace("\\", "/")).as_posix()
        row = self._rows.get(name)
        if row is not None and row != _SEVERAL:
            return row
        if name not in self._told:
            reason = "no image of the collection" if row is None else "several images of the collection are called so"
            self.problem(name, reason)
            self._told.add(name)
        return None

    def problem(self, file: str, reason: str) -> None:
        self.problems.append(Problem(file, reason))


def _read_points(path: Path, images: _Images) -> dict[int, list[Keypoint]]:
    found: dict[int, list[Keypoint]] = defaultdict(list)
    for row, part, x, y in _coco_points(path, images) if _is_coco(path) else _table_points(path, images):
        record = images.records[row]
        if 0 <= x <= record.width and 0 <= y <= record.height:
            found[row].append(Keypoint(part, x, y))
        else:
            images.problem(record.file, f"its {part} at ({x:g}, {y:g}) lies outside of the image and is left out")
    return dict(found)


def _table_points(path: Path, images: _Images) -> Iterator[tuple[int, str, float, float]]:
    for number, cells in _rows(path, KEYPOINT_COLUMNS, optional=("visible",)):
        if (cells.get("visible") or "").lower() in HIDDEN:
            continue
        if (row := images.row(cells["image"] or f"row {number}")) is None:
            continue
        try:
            point = number_of(cells["x"] or ""), number_of(cells["y"] or "")
        except CollectionError as error:
            images.problem(images.records[row].file, f"{path.name}, row {number}: {error}")
            continue
        yield row, part_of_name(cells["part"] or "unnamed"), *point


def _coco_points(path: Path, images: _Images) -> Iterator[tuple[int, str, float, float]]:
    coco = _coco(path)
    names = {category["id"]: category.get("keypoints", []) for category in coco.get("categories", [])}
    for row, annotation in _annotations(path, coco, images):
        values = annotation.get("keypoints") or []
        for name, place in zip(names.get(annotation.get("category_id"), []), range(0, len(values), 3), strict=False):
            x, y, visibility = values[place : place + 3]
            if visibility == COCO_VISIBLE:
                yield row, part_of_name(name), float(x), float(y)


def _read_boxes(path: Path, images: _Images) -> dict[int, list[Box]]:
    found: dict[int, list[Box]] = defaultdict(list)
    n_outside = 0
    for row, cells in _coco_boxes(path, images) if _is_coco(path) else _table_boxes(path, images):
        record = images.records[row]
        try:
            box = box_of(cells)
        except CollectionError as error:
            images.problem(record.file, f"its box: {error}")
            continue
        size = record.width, record.height
        if box is None:
            images.problem(record.file, "its box is empty")
        elif (usable := box_in_image(box, size)) is None:
            n_outside += 1
            images.problem(record.file, f"{out_of_image(box, size)} and is left out")
        else:
            found[row].append(usable)
    warn_of_corners(n_outside, n_outside + sum(map(len, found.values())))
    return dict(found)


def _table_boxes(path: Path, images: _Images) -> Iterator[tuple[int, list[str | None]]]:
    for number, cells in _rows(path, BOX_COLUMNS):
        if (row := images.row(cells["image"] or f"row {number}")) is not None:
            yield row, [cells[name] for name in ("x", "y", "width", "height")]


def _coco_boxes(path: Path, images: _Images) -> Iterator[tuple[int, list[str | None]]]:
    for row, annotation in _annotations(path, _coco(path), images):
        yield row, [str(value) for value in annotation.get("bbox") or []] or [None] * 4


def _read_masks(folder: Path, images: _Images) -> dict[int, dict[str, Path]]:
    """Masks of IMAGE/PART.png, or else of PART/IMAGE.png; masks that an image has no use for are problems."""
    if not folder.is_dir():
        raise CollectionError(f"{folder} is not a folder of part masks")
    found: dict[int, dict[str, Path]] = defaultdict(dict)
    for file in sorted(folder.rglob("*.png")):
        path = file.relative_to(folder)
        if len(path.parts) < 2:
            images.problem(path.as_posix(), "it lies in no folder of an image or of a part")
            continue
        name, part = path.parent.as_posix(), path.stem
        if not images.knows(name):
            inner = PurePosixPath(*path.parts[1:]).with_suffix("").as_posix()
            if images.knows(inner):
                name, part = inner, path.parts[0]
        if (row := images.row(name)) is None:
            continue
        record = images.records[row]
        try:
            with Image.open(file) as image:
                size = image.size
        except OSError as error:
            images.problem(path.as_posix(), f"it cannot be read: {one_line(error)}")
            continue
        if size != (record.width, record.height):
            images.problem(
                path.as_posix(), f"it is {size[0]} x {size[1]} pixels, the image {record.width} x {record.height}"
            )
        else:
            found[row][part] = file
    return dict(found)


def _rows(
    path: Path, columns: Mapping[str, Sequence[str]], optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str | None]]]:
    """The rows of a table, numbered from 1."""
    names, rows_of = open_table(path, header_has=columns["image"])
    found = find_columns(names, columns)
    if lacking := [name for name in columns if name not in found and name not in optional]:
        raise CollectionError(
            f"{path} has no column {' and no column '.join(f'`{name}`' for name in lacking)}; its columns are "
            f"{', '.join(names) or 'none'}"
        )
    warn_of_unread(path.name, names, found, columns)
    yield from enumerate(rows_of(found), start=1)


def _is_coco(path: Path) -> bool:
    return path.suffix.lower() == ".json"


def _coco(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CollectionError(f"cannot read {path}: {one_line(error)}") from error
    if not isinstance(values, dict) or not all(
        isinstance(values.get(name), list) for name in ("images", "annotations")
    ):
        raise CollectionError(f"{path} is no COCO file: it needs the lists `images` and `annotations`")
    return values


def _annotations(path: Path, coco: Mapping[str, Any], images: _Images) -> Iterator[tuple[int, dict[str, Any]]]:
    """The annotations of images of the collection, with their rows."""
    try:
        files = {image["id"]: str(image["file_name"]) for image in coco["images"]}
        rows = {number: images.row(file) for number, file in files.items()}
        for annotation in coco["annotations"]:
            if (row := rows.get(annotation["image_id"])) is not None:
                yield row, annotation
    except (KeyError, TypeError, ValueError) as error:
        raise CollectionError(f"{path} is no COCO file: {one_line(error)}") from error
