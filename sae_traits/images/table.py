"""A table of images: CSV, TSV or Parquet with the columns `file` and `species`, and others that are read if present."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath

from sae_traits.errors import CollectionError
from sae_traits.images.cells import Cells, column_names, read_rows
from sae_traits.images.listing import Listing, Row, inside_check, one_row_a_file
from sae_traits.images.splits import parse_split
from sae_traits.schema import RANKS, Problem, Taxon

REQUIRED_COLUMNS = ("file", "species")
OPTIONAL_COLUMNS = (
    *RANKS[:-1],
    *("split", "license", "licence", "rights_holder", "source_url", "source_revision", "mm_per_pixel", "mask_file"),
)
UNLABELLED_COLUMNS = ("license", "licence", "rights_holder", "source_url", "source_revision", "mm_per_pixel")
"""The optional columns that are read where no labels are wanted; a column `species` may be there, and is not read."""


def list_table(path: Path, *, labelled: bool = True) -> Listing:
    """The images that a table lists; their paths are relative to the table's folder and must stay inside it.

    Left out and reported are rows whose file cannot be found or whose split is unknown, a file's rows after its first,
    and all rows of a file that is given several species. A scale or mask that cannot be used is reported, and the image
    goes without it.

    Raises:
        CollectionError: the table cannot be read, lacks the column `file` or (with labels) `species`, or has no rows.
    """
    columns = column_names(path)
    required, optional = (REQUIRED_COLUMNS, OPTIONAL_COLUMNS) if labelled else (("file",), UNLABELLED_COLUMNS)
    lacking = [f"`{column}`" for column in required if column not in columns]
    if lacking:
        raise CollectionError(
            f"{path} has no column {' and no column '.join(lacking)}; its columns are {', '.join(columns) or 'none'}"
        )
    wanted = [column for column in (*required, *optional) if column in columns]
    check_inside = inside_check(path.parent)
    rows: list[Row] = []
    problems: list[Problem] = []
    for number, cells in enumerate(read_rows(path, wanted), start=1):
        try:
            row, complaints = _row(cells, check_inside)
        except CollectionError as error:
            problems.append(Problem(cells["file"] or f"{path.name}, row {number} below the header", str(error)))
        else:
            rows.append(row)
            problems += [Problem(row.file, complaint) for complaint in complaints]
    if not rows and not problems:
        raise CollectionError(f"{path} has no rows below its header")
    return Listing(root=path.parent, rows=tuple(one_row_a_file(rows, problems)), problems=tuple(problems))


def is_table_of_images(path: Path, *, labelled: bool = True) -> bool:
    """Whether a table has the columns that `list_table` needs.

    Raises:
        CollectionError: it cannot be read.
    """
    return set(REQUIRED_COLUMNS if labelled else ("file",)) <= set(column_names(path))


def _row(cells: Cells, check_inside: Callable[[str], None]) -> tuple[Row, list[str]]:
    """The row, and the complaints about what it goes without; CollectionError if the image cannot be listed at all."""
    if cells["file"] is None:
        raise CollectionError("it names no file")
    file = _relative(cells["file"])
    check_inside(file)
    split = cells.get("split")
    complaints: list[str] = []
    scale = mask_file = None
    if (written_scale := cells.get("mm_per_pixel")) is not None:
        try:
            scale = _positive(written_scale)
        except CollectionError as error:
            complaints.append(f"mm_per_pixel {error}; the image goes without a scale")
    if (written_mask := cells.get("mask_file")) is not None:
        try:
            check_inside(_relative(written_mask))
            mask_file = _relative(written_mask)
        except CollectionError as error:
            complaints.append(f"mask {written_mask}: {error}; the image goes without it")
    row = Row(
        file=file,
        label=cells.get("species"),
        ranks=Taxon.from_dict(cells),
        split=None if split is None else parse_split(split),
        license=cells.get("license") or cells.get("licence"),
        rights_holder=cells.get("rights_holder"),
        source_url=cells.get("source_url"),
        source_revision=cells.get("source_revision"),
        mm_per_pixel=scale,
        mask_file=mask_file,
    )
    return row, complaints


def _relative(written: str) -> str:
    """A path as written, with slashes of either kind, with forward slashes and without `.` parts."""
    windows = PureWindowsPath(written)
    if windows.drive or windows.root:
        raise CollectionError("the path is absolute; it must be relative to the folder of the table")
    if ".." in windows.parts:
        raise CollectionError("the path climbs with `..`; it must stay in the folder of the table")
    if "\0" in written:
        raise CollectionError("the path contains a zero byte")
    return str(PurePosixPath(windows.as_posix()))


def _positive(written: str) -> float:
    try:
        number = float(written)
    except ValueError as error:
        raise CollectionError(f"{written!r} is not a number") from error
    if not (math.isfinite(number) and number > 0):
        raise CollectionError(f"{written!r} is not a positive number")
    return number
