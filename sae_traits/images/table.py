"""A table of images: it has the columns `file` and `species`, and others that are read if present."""

import math
import unicodedata
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError
from sae_traits.images.columns import COLUMN_NAMES, FILE_NAMES, SPECIES_NAMES, find_columns, plain, warn_of_unread
from sae_traits.images.listing import Format, Listing, Row, inside_check, one_row_per_file
from sae_traits.images.names import with_qualifier
from sae_traits.images.selection import select
from sae_traits.images.splits import is_split_label, parse_split
from sae_traits.images.table_files import TABLE_SUFFIXES, Cells, can_read, open_table
from sae_traits.logging import warn
from sae_traits.schema import Problem, Taxon
from sae_traits.vocabulary import RANKS

SPREADSHEET_SUFFIXES = (".xls", ".ods")
"""Of tables that are not read: their programs save them as CSV."""
_OTHER_SUFFIXES = (".txt", ".tab", ".json", ".ndjson", ".xlsm", ".numbers", ".gz", ".zip")
"""Of files that may hold a table, if they are called metadata."""
_OF_TABLES = (*TABLE_SUFFIXES, *SPREADSHEET_SUFFIXES)
TABLE_COLUMNS = {
    "file": FILE_NAMES,
    "species": SPECIES_NAMES,
    "qualifier": ("identification_qualifier",),
    **COLUMN_NAMES,
    "split": ("split",),
    "source_revision": ("source_revision",),
    "mm_per_pixel": ("mm_per_pixel",),
    "mask_file": ("mask_file",),
    "box_x": ("bbox_x",),
    "box_y": ("bbox_y",),
    "box_width": ("bbox_width", "bbox_w"),
    "box_height": ("bbox_height", "bbox_h"),
}
"""What a row has -> names of a column that says it; `file` is needed, and with labels `species`."""
BOX_COLUMNS = ("box_x", "box_y", "box_width", "box_height")
_OF_LABELS = (*RANKS, "qualifier", "split", "mask_file", *BOX_COLUMNS)
"""Not read where no labels are wanted, but for those by which rows are selected."""


def list_table(path: Path, config: CollectionConfig) -> Listing:
    """List the wanted images of a table; their paths are relative to the table's folder and must stay inside it.

    Left out and reported are rows whose file cannot be found or whose split is unknown, a file's rows after its first,
    and all rows of a file that is given several species. A scale or mask that cannot be used is reported, and the image
    goes without it. Where a table has some of the columns of a box, but not all, that is reported once.

    Raises:
        CollectionError: the table cannot be read, lacks the column `file` or (with labels) `species`, or has no rows.
    """
    names, rows_of = open_table(path)
    columns = _columns(names, config)
    if lacking := _lacking(names, columns, config):
        raise CollectionError(f"{path} {lacking}")
    wanted = _wanted(config)
    needless = {plain(name) for what, called in TABLE_COLUMNS.items() if what not in wanted for name in called}
    asked = [name for name in names if plain(name) not in needless]
    warn_of_unread(path.name, asked, columns, wanted, near_only=not config.labels)
    check_inside = inside_check(path.parent)
    rows: list[Row] = []
    problems: list[Problem] = []
    boxes = [what for what in BOX_COLUMNS if what in columns]
    if 0 < len(boxes) < len(BOX_COLUMNS):  # of which every row would have to be told
        there = ", ".join(columns.pop(what) for what in boxes)
        absent = ", ".join(TABLE_COLUMNS[what][0] for what in BOX_COLUMNS if what not in boxes)
        reason = f"it has the columns {there}, but not {absent}; no box is read"
        problems.append(Problem(path.name, reason))
    named: dict[tuple[str | None, str | None], None] = {}
    for number, cells in enumerate(rows_of(columns), start=1):
        named[cells.get("species"), cells.get("genus")] = None
        try:
            row, complaints = _row(cells, check_inside)
        except CollectionError as error:
            problems.append(Problem(cells["file"] or f"{path.name}, row {number} below the header", str(error)))
        else:
            rows.append(row)
            problems += [Problem(row.file, complaint) for complaint in complaints]
    if not named:
        raise CollectionError(f"{path} has no rows below its header")
    chosen = select(one_row_per_file(rows, problems, codes=config.species_codes), config)
    return Listing(root=path.parent, rows=tuple(chosen), problems=tuple(problems), named=tuple(named))


def table_of(config: CollectionConfig) -> Path | None:
    """Find the table that a source is, or in a folder metadata.csv or of another suffix, if it has the columns."""
    path = config.path
    if path.is_file():
        return path if path.suffix.lower() in TABLE_SUFFIXES else None
    beside = _tables_in(path)
    for table in beside:
        if table.stem.lower() == "metadata" and can_read(table):
            names, _ = open_table(table)
            if not (lacking := _lacking(names, _columns(names, config), config)):
                return table
            warn(f"{table} is not read: it {lacking}")
    for table in beside:
        if table.stem.lower() != "metadata":
            warn(f"{table} is not read: a table beside folders is called metadata.csv; or give it as the source")
        elif not can_read(table):
            warn(f"{table} is not read; save it as metadata.csv (CSV UTF-8) beside it")
    for file in sorted(path.glob("[Mm]etadata.*")):
        if file.suffix.lower() in _OTHER_SUFFIXES:
            warn(f"{file} is not read; save it as metadata.csv (CSV UTF-8) beside it")
    if inner := _tables_of_folders(path):
        more = f" (nor are {len(inner) - 1} more)" if len(inner) > 1 else ""
        name = inner[0].parent.name
        columns = " and a column split" if is_split_label(name) else ""
        warn(
            f"{inner[0]} is not read{more}: the table of a collection lies in {path} itself, with files such as "
            f"{name}/a.jpg{columns}; or give {inner[0].parent} as the source"
        )
    return None


def _tables_of_folders(folder: Path) -> list[Path]:
    """The tables called metadata that lie in the folders of a folder."""
    folders = sorted(one for one in folder.iterdir() if one.is_dir()) if folder.is_dir() else []
    tables = (one / f"metadata{suffix}" for one in folders for suffix in TABLE_SUFFIXES)
    return [table for table in tables if table.is_file()]


def _tables_in(folder: Path) -> list[Path]:
    """List the tables that lie in a folder itself, those that can be read first."""
    files = folder.iterdir() if folder.is_dir() else ()
    shown = (file for file in files if file.name[0] not in ".~")  # ~$moths.xlsx is a mark that moths.xlsx is open
    tables = [file for file in shown if file.suffix.lower() in _OF_TABLES and file.is_file()]
    return sorted(tables, key=lambda file: (_OF_TABLES.index(file.suffix.lower()), file.name))


def _recognise(config: CollectionConfig) -> Callable[[], Listing] | None:
    path = table_of(config)
    return None if path is None else partial(list_table, path, config)


FORMAT = Format(name="a table of images on this machine", recognise=_recognise)


def _wanted(config: CollectionConfig) -> dict[str, tuple[str, ...]]:
    """What is wanted of a row -> names of a column that says it."""
    selecting = {"split": config.split, "family": config.family}
    return {
        what: called
        for what, called in TABLE_COLUMNS.items()
        if config.labels or what not in _OF_LABELS or selecting.get(what)
    }


def _columns(names: list[str], config: CollectionConfig) -> dict[str, str]:
    return find_columns(names, _wanted(config))


def _lacking(names: list[str], columns: dict[str, str], config: CollectionConfig) -> str:
    """Which needed columns a table has not, in words; empty where it has them all."""
    lacking = [f"`{what}`" for what in ("file", "species")[: 1 + config.labels] if what not in columns]
    there = f"its columns are {', '.join(names) or 'none'}"
    return f"has no column {' and no column '.join(lacking)}; {there}" if lacking else ""


def _row(cells: Cells, check_inside: Callable[[str], None]) -> tuple[Row, list[str]]:
    """Make the row, and the complaints about what it goes without; a CollectionError means that there is no row."""
    if cells["file"] is None:
        raise CollectionError("it names no file")
    file = _file(cells["file"], check_inside)
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
            mask_file = _file(written_mask, check_inside)
        except CollectionError as error:
            complaints.append(f"mask {written_mask}: {error}; the image goes without it")
    try:
        animal_box = box_of([cells.get(what) for what in BOX_COLUMNS])
    except CollectionError as error:
        animal_box = None
        complaints.append(f"its box: {error}; the image goes without it")
    row = Row(
        file=file,
        label=with_qualifier(cells.get("species"), cells.get("qualifier") or ""),
        ranks=Taxon.from_dict(cells),
        individual=cells.get("individual"),
        split=None if split is None else parse_split(split),
        license=cells.get("license"),
        rights_holder=cells.get("rights_holder"),
        source_url=cells.get("source_url"),
        source_revision=cells.get("source_revision"),
        mm_per_pixel=scale,
        mask_file=mask_file,
        animal_box=animal_box,
    )
    return row, complaints


def _file(written: str, check_inside: Callable[[str], None]) -> str:
    """Resolve the path of a file that is there, with forward slashes and no `.`; an é may be one letter or two."""
    if "://" in written:
        raise CollectionError("it is an address, not a file beside the table; fetch the images, and name their files")
    windows = PureWindowsPath(written)
    if windows.drive or windows.root:
        raise CollectionError("the path is absolute; it must be relative to the folder of the table")
    if ".." in windows.parts:
        raise CollectionError("the path climbs with `..`; it must stay in the folder of the table")
    if "\0" in written:
        raise CollectionError("the path contains a zero byte")
    file = str(PurePosixPath(windows.as_posix()))
    try:
        check_inside(file)
    except CollectionError:
        other = unicodedata.normalize("NFC", file)
        other = unicodedata.normalize("NFD", file) if other == file else other
        if other == file:
            raise
        check_inside(other)
        return other
    return file


def box_of(cells: Sequence[str | None]) -> tuple[float, float, float, float] | None:
    """Read the box in four cells: x, y, width, height; None where all are empty.

    Raises:
        CollectionError: some are empty, no numbers, or the size is not positive.
    """
    if all(cell is None for cell in cells):
        return None
    if any(cell is None for cell in cells):
        raise CollectionError("it needs x, y, width and height")
    x, y, width, height = (str(cell) for cell in cells)
    return number_of(x), number_of(y), _positive(width), _positive(height)


def number_of(written: str) -> float:
    """Read a number, whose decimal sign may be a comma.

    Raises:
        CollectionError: it is none, or not finite.
    """
    try:
        number = float(written.replace(",", ".", 1))
    except ValueError as error:
        raise CollectionError(f"{written!r} is not a number") from error
    if not math.isfinite(number):
        raise CollectionError(f"{written!r} is not a number")
    return number


def _positive(written: str) -> float:
    number = number_of(written)
    if number <= 0:
        raise CollectionError(f"{written!r} is not a positive number")
    return number
