"""A table of images: CSV, TSV or Parquet with the columns `file` and `species`, and others that are read if present.

No value is turned into a number or a date on the way. Text files are read as spreadsheets write them: separated by
commas, semicolons or tabs, in UTF-8, UTF-16 or Windows-1252, with blank or title lines above the header.
"""

import codecs
import csv
import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError, one_line
from sae_traits.images.columns import COLUMN_NAMES, SPECIES_NAMES, find_columns, plain
from sae_traits.images.listing import Format, Listing, Row, inside_check, one_row_per_file
from sae_traits.images.selection import select
from sae_traits.images.splits import parse_split
from sae_traits.logging import warn
from sae_traits.schema import RANKS, Problem, Taxon

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
SPREADSHEET_SUFFIXES = (".xlsx", ".xls", ".ods")
"""Of tables that are not read: their programs save them as CSV."""
TABLE_COLUMNS = {
    "file": ("file", "file_name"),
    "species": SPECIES_NAMES,
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
_OF_LABELS = (*RANKS, "split", "mask_file", *BOX_COLUMNS)
"""Not read where no labels are wanted."""

Cells = dict[str, str | None]
"""One row: what it says -> text without blanks around it, None where there is no value."""

_MISSING = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"})
"""What spreadsheets and pandas write where there is no value; compared in lower case."""
_ROWS_AT_A_TIME = 10_000
_LINES_ABOVE_HEADER = 10
_MAX_CELL = 8 * 2**20
"""Characters."""


def list_table(path: Path, config: CollectionConfig) -> Listing:
    """List the wanted images of a table; their paths are relative to the table's folder and must stay inside it.

    Left out and reported are rows whose file cannot be found or whose split is unknown, a file's rows after its first,
    and all rows of a file that is given several species. A scale or mask that cannot be used is reported, and the image
    goes without it.

    Raises:
        CollectionError: the table cannot be read, lacks the column `file` or (with labels) `species`, or has no rows.
    """
    names, rows_of = open_table(path)
    columns = _columns(names, config)
    if lacking := _lacking(names, columns, config):
        raise CollectionError(f"{path} {lacking}")
    check_inside = inside_check(path.parent)
    rows: list[Row] = []
    problems: list[Problem] = []
    for number, cells in enumerate(rows_of(columns), start=1):
        try:
            row, complaints = _row(cells, check_inside)
        except CollectionError as error:
            problems.append(Problem(cells["file"] or f"{path.name}, row {number} below the header", str(error)))
        else:
            rows.append(row)
            problems += [Problem(row.file, complaint) for complaint in complaints]
    if not rows and not problems:
        raise CollectionError(f"{path} has no rows below its header")
    wanted = select(one_row_per_file(rows, problems), config)
    return Listing(root=path.parent, rows=tuple(wanted), problems=tuple(problems))


def table_of(config: CollectionConfig) -> Path | None:
    """Find the table that a source is, or metadata.csv, .tsv or .parquet in a folder, if it has the columns."""
    path = config.path
    if path.is_file():
        return path if path.suffix.lower() in TABLE_SUFFIXES else None
    for table in (path / f"metadata{suffix}" for suffix in TABLE_SUFFIXES):
        if table.is_file():
            names, _ = open_table(table)
            if not (lacking := _lacking(names, _columns(names, config), config)):
                return table
            warn(f"{table} is not read: it {lacking}")
    for table in (path / f"metadata{suffix}" for suffix in SPREADSHEET_SUFFIXES):
        if table.is_file():
            warn(f"{table} is not read; save it as metadata.csv (CSV UTF-8) beside it")
    return None


def _recognise(config: CollectionConfig) -> Callable[[], Listing] | None:
    path = table_of(config)
    return None if path is None else partial(list_table, path, config)


FORMAT = Format(name="a table of images on this machine", recognise=_recognise)


def _columns(names: list[str], config: CollectionConfig) -> dict[str, str]:
    wanted = {what: called for what, called in TABLE_COLUMNS.items() if config.labels or what not in _OF_LABELS}
    return find_columns(names, wanted)


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
        label=cells.get("species"),
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


def open_table(
    path: Path, key: Sequence[str] = TABLE_COLUMNS["file"]
) -> tuple[list[str], Callable[[dict[str, str]], Iterator[Cells]]]:
    """Read the names of a table's columns, and return what reads some of them, given what they say.

    Args:
        path: of a text or Parquet file.
        key: names of the column by which the header of a text file is known.
    """
    if path.suffix.lower() == ".parquet":
        names, rows_of = _open_parquet(path)
    else:
        names, rows_of = _open_text(path, key)
    called: dict[str, list[str]] = {}
    for name in names:
        called.setdefault(plain(name), []).append(name)
    repeated = sorted(", ".join(dict.fromkeys(same)) for name, same in called.items() if name and len(same) > 1)
    if repeated:
        raise CollectionError(f"{path} has more than one column {', '.join(repeated)}; rename or remove all but one")
    return names, rows_of


def _value(value: Any) -> str | None:
    text = str(value).strip()
    return None if text.lower() in _MISSING else text


@dataclass(frozen=True)
class _Layout:
    """How a text file holds its table."""

    encoding: str
    delimiter: str
    n_above: int
    """Lines above the header."""


def _open_text(path: Path, key: Sequence[str]) -> tuple[list[str], Callable[[dict[str, str]], Iterator[Cells]]]:
    try:
        layout = _layout(path, key)
    except OSError as error:
        raise CollectionError(f"cannot read {path}: {error.strerror}") from error
    names = [name.strip() for name in next(_lines(path, layout), [])]

    def rows(columns: dict[str, str]) -> Iterator[Cells]:
        places = [(what, names.index(column)) for what, column in columns.items()]
        for number, line in enumerate(islice(_lines(path, layout), 1, None), start=1):
            if any(cell.strip() for cell in line[len(names) :]):
                # The cells of such a row stand in the wrong columns, mostly because of a comma that is not quoted.
                raise CollectionError(
                    f"{path}: row {number} below the header has {len(line)} cells, the header {len(names)}; "
                    "put cells that contain the separator in double quotes"
                )
            if any(cell.strip() for cell in line):
                yield {what: _value(line[place]) if place < len(line) else None for what, place in places}

    return names, rows


def _layout(path: Path, key: Sequence[str]) -> _Layout:
    """Find how a file holds its table: the header is the first line with a column of `key`, or else the first one."""
    encoding = _encoding(path)
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding=encoding, newline=None) as stream:
        try:
            lines = list(islice(stream, _LINES_ABOVE_HEADER))
        except UnicodeError as error:
            raise CollectionError(f"{path} is not text in {encoding}; save it as CSV UTF-8") from error
    for delimiter in dict.fromkeys((usual, ",", ";", "\t")):
        for number, line in enumerate(lines):
            cells = {plain(cell.strip().strip('"')) for cell in line.split(delimiter)}
            if any(plain(name) in cells for name in key) and len(cells) > 1:
                return _Layout(encoding, delimiter, number)
    return _Layout(encoding, usual, next((number for number, line in enumerate(lines) if line.strip()), 0))


def _encoding(path: Path) -> str:
    """Tell UTF-8, with or without a byte order mark, UTF-16 with one, and what Windows writes apart."""
    with path.open("rb") as stream:
        if stream.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16"
    with path.open(encoding="utf-8-sig") as text:
        try:
            while text.read(2**20):
                pass
        except UnicodeDecodeError:
            warn(
                f"{path} is not UTF-8 text; it is read as Windows-1252 (save it as CSV UTF-8 if letters come out wrong)"
            )
            return "cp1252"
    return "utf-8-sig"


def _lines(path: Path, layout: _Layout) -> Iterator[list[str]]:
    """Yield the lines of a text file from its header on, as lists of cells."""
    csv.field_size_limit(_MAX_CELL)
    try:
        with path.open(encoding=layout.encoding, newline="") as stream:
            for _ in range(layout.n_above):
                stream.readline()
            yield from csv.reader(stream, delimiter=layout.delimiter, strict=True)
    except OSError as error:
        raise CollectionError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeError as error:
        raise CollectionError(f"{path} is not text in {layout.encoding}; save it as CSV UTF-8") from error
    except csv.Error as error:
        raise CollectionError(f"{path} is not a well-formed table: {error}") from error


def _open_parquet(path: Path) -> tuple[list[str], Callable[[dict[str, str]], Iterator[Cells]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise CollectionError(f"{path} is not a Parquet file that can be read: {one_line(error)}") from error

    def rows(columns: dict[str, str]) -> Iterator[Cells]:
        for field in parquet.schema_arrow:
            if field.name in columns.values() and (pa.types.is_nested(field.type) or pa.types.is_binary(field.type)):
                raise CollectionError(f"the column {field.name!r} of {path} holds {field.type}; it must hold text")
        try:
            for batch in parquet.iter_batches(batch_size=_ROWS_AT_A_TIME, columns=list(columns.values())):
                for row in batch.to_pylist():
                    yield {what: _value(row[column]) for what, column in columns.items()}
        except (OSError, pa.ArrowException) as error:
            raise CollectionError(f"{path} cannot be read to its end: {one_line(error)}") from error

    return parquet.schema_arrow.names, rows
