"""How a file holds a table: text, Parquet, JSON Lines or a spreadsheet; what its columns are called, and its rows.

No value is turned into a number or a date on the way. Text files are read as spreadsheets write them: separated by
commas, semicolons, tabs or bars, in UTF-8, UTF-16 or Windows-1252, with blank or title lines above the header.
"""

import codecs
import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from sae_traits.errors import CollectionError, ConfigError, one_line
from sae_traits.images.columns import FILE_NAMES, find_columns, plain
from sae_traits.io import IS_LFS_POINTER, is_lfs_pointer
from sae_traits.logging import warn

EXCEL_SUFFIX = ".xlsx"
JSON_LINES_SUFFIX = ".jsonl"
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", EXCEL_SUFFIX, JSON_LINES_SUFFIX)

Cells = dict[str, str | None]
"""One row: what it says -> text without blanks around it, None where there is no value."""
OpenedTable = tuple[list[str], Callable[[dict[str, str]], Iterator[Cells]]]
"""The names of the columns, and what reads some of them, given what they say."""

_MISSING = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"})
"""What spreadsheets and pandas write where there is no value; compared in lower case."""
_ROWS_AT_A_TIME = 10_000
_LINES_ABOVE_HEADER = 10
_MAX_CELL = 8 * 2**20
"""Characters."""


def can_read(path: Path) -> bool:
    """Whether what reads a table is installed."""
    suffix = path.suffix.lower()
    return suffix in TABLE_SUFFIXES and (suffix != EXCEL_SUFFIX or find_spec("openpyxl") is not None)


def open_table(path: Path, *, header_has: Sequence[str] = FILE_NAMES) -> OpenedTable:
    """Read the names of a table's columns, and return what reads some of them, given what they say.

    Args:
        path: a text file, a Parquet file, a spreadsheet or JSON Lines.
        header_has: names of a column of which the header has one, by which it is told from titles above it.

    Raises:
        CollectionError: it cannot be read, or has columns of the same name.
    """
    if is_lfs_pointer(path):
        raise CollectionError(f"{path} cannot be read: {IS_LFS_POINTER}")
    if path.suffix.lower() == ".parquet":
        names, rows_of = _open_parquet(path)
    elif path.suffix.lower() == EXCEL_SUFFIX:
        names, rows_of = _open_excel(path, header_has)
    elif path.suffix.lower() == JSON_LINES_SUFFIX:
        names, rows_of = _open_json_lines(path)
    else:
        names, rows_of = _open_text(path, header_has)
    called: dict[str, list[str]] = {}
    for name in names:
        called.setdefault(plain(name), []).append(name)
    repeated = sorted(", ".join(dict.fromkeys(same)) for name, same in called.items() if name and len(same) > 1)
    if repeated:
        raise CollectionError(f"{path} has more than one column {', '.join(repeated)}; rename or remove all but one")
    return names, rows_of


def read_columns(path: Path, wanted: Mapping[str, Sequence[str]], needed: Sequence[str], *, what: str) -> list[Cells]:
    """Read a table that an option names: its rows, in the columns that are wanted and there.

    Args:
        wanted: what a row says -> names of a column that says it; by those of the first the header is told.
        needed: which of these must be there.
        what: the table holds, for messages.

    Raises:
        ConfigError: it cannot be read, or lacks a column.
    """
    try:
        names, rows_of = open_table(path, header_has=next(iter(wanted.values())))
        columns = find_columns(names, wanted)
        if not columns.keys() >= set(needed):
            several = "s" if len(needed) > 1 else ""
            raise ConfigError(f"{path} needs the column{several} {' and '.join(needed)}; it has {', '.join(names)}")
        return list(rows_of(columns))
    except CollectionError as error:
        raise ConfigError(f"cannot read {what}: {error}") from error


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


def _open_text(path: Path, header_has: Sequence[str]) -> OpenedTable:
    try:
        layout = _layout(path, header_has)
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


def _layout(path: Path, header_has: Sequence[str]) -> _Layout:
    """Find how a file holds its table: the header is the first line with a known column, or else the first one."""
    encoding = _encoding(path)
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding=encoding, newline=None) as stream:
        try:
            lines = list(islice(stream, _LINES_ABOVE_HEADER))
        except UnicodeError as error:
            raise CollectionError(f"{path} is not text in {encoding}; save it as CSV UTF-8") from error
    for delimiter in dict.fromkeys((usual, ",", ";", "\t", "|")):
        for number, line in enumerate(lines):
            if _is_header([cell.strip().strip('"') for cell in line.split(delimiter)], header_has):
                return _Layout(encoding, delimiter, number)
    return _Layout(encoding, usual, next((number for number, line in enumerate(lines) if line.strip()), 0))


def _is_header(cells: Sequence[str], header_has: Sequence[str]) -> bool:
    names = {plain(cell) for cell in cells}
    return len(names) > 1 and any(plain(name) in names for name in header_has)


def _encoding(path: Path) -> str:
    """Tell UTF-8 and UTF-16, with or without a byte order mark, and what Windows writes apart."""
    with path.open("rb") as stream:
        start = stream.read(2)
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    if len(start) == 2 and 0 in start:
        return "utf-16-be" if start[0] == 0 else "utf-16-le"
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
            reader = csv.reader(stream, delimiter=layout.delimiter, strict=True)
            try:
                yield from reader
            except csv.Error as error:
                line = layout.n_above + reader.line_num
                raise CollectionError(
                    f"{path} is not a well-formed table: line {line}: {error}; close every double quote, and write one "
                    "within a cell twice"
                ) from error
    except OSError as error:
        raise CollectionError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeError as error:
        raise CollectionError(f"{path} is not text in {layout.encoding}; save it as CSV UTF-8") from error


def _open_parquet(path: Path) -> OpenedTable:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise CollectionError(f"{path} is not a Parquet file that can be read: {one_line(error)}") from error

    def rows(columns: dict[str, str]) -> Iterator[Cells]:
        for field in parquet.schema_arrow:
            if field.name in columns.values() and (pa.types.is_nested(field.type) or pa.types.is_binary(field.type)):
                raise CollectionError(f"the column {field.name!r} of {path} holds {_found_in(field.type)}")
        try:
            for batch in parquet.iter_batches(batch_size=_ROWS_AT_A_TIME, columns=list(columns.values())):
                for row in batch.to_pylist():
                    yield {what: _value(row[column]) for what, column in columns.items()}
        except (OSError, pa.ArrowException) as error:
            raise CollectionError(f"{path} cannot be read to its end: {one_line(error)}") from error

    return parquet.schema_arrow.names, rows


def _found_in(kind: Any) -> str:
    """What a column holds that holds no text, and the way on."""
    import pyarrow as pa

    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return (
            "images, not the names of their files; write these out as files and name them, or put the dataset on the "
            "Hub and give hf://datasets/ORG/NAME (`benchmark` also takes the folder of such Parquet files)"
        )
    return f"{kind}; it must hold text"


def _open_json_lines(path: Path) -> OpenedTable:
    """Open a file with a JSON object on each line; what a row does not say is empty."""

    def objects() -> Iterator[dict[str, Any]]:
        try:
            with path.open(encoding="utf-8-sig") as lines:
                for number, line in enumerate(lines, start=1):
                    if line.strip():
                        row = json.loads(line)
                        if not isinstance(row, dict):
                            raise CollectionError(f'line {number} of {path} is no JSON object, as {{"file": …}}')
                        yield row
        except OSError as error:
            raise CollectionError(f"cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise CollectionError(f"{path} has no JSON object on each line: {one_line(error)}") from error

    def rows(columns: dict[str, str]) -> Iterator[Cells]:
        for row in objects():
            if nested := [column for column in columns.values() if isinstance(row.get(column), dict | list)]:
                raise CollectionError(
                    f"the column {nested[0]!r} of {path} holds {one_line(json.dumps(row[nested[0]]))[:60]}; it must "
                    "hold text"
                )
            yield {what: _value(row.get(column)) for what, column in columns.items()}

    return list(dict.fromkeys(name for row in objects() for name in row)), rows


def _open_excel(path: Path, header_has: Sequence[str]) -> OpenedTable:
    """Open the first sheet with a header, or else the first one; numbers are read as Excel keeps them."""
    if not can_read(path):
        raise CollectionError(
            f"{path} is a spreadsheet, which needs `pip install 'sae-traits[excel]'`; or save it as CSV (CSV UTF-8), "
            "and give that"
        )
    sheets = _sheets(path)
    with_header = (lines for sheet in sheets if (lines := _from_header(sheet, header_has)))
    names, *below = next(with_header, next(iter(sheets), None) or [[]])

    def rows(columns: dict[str, str]) -> Iterator[Cells]:
        places = [(what, names.index(column)) for what, column in columns.items()]
        for line in below:
            yield {what: _value(line[place]) if place < len(line) else None for what, place in places}

    return names, rows


def _from_header(lines: list[list[str]], header_has: Sequence[str]) -> list[list[str]]:
    starts = (number for number, line in enumerate(lines[:_LINES_ABOVE_HEADER]) if _is_header(line, header_has))
    return lines[start:] if (start := next(starts, None)) is not None else []


def _sheets(path: Path) -> list[list[list[str]]]:
    """Read the cells of all sheets that are not hidden, as text, without blank lines."""
    import openpyxl  # pyright: ignore[reportMissingModuleSource]

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheets = []
        for sheet in book.worksheets:
            if sheet.sheet_state == "visible":
                sheet.reset_dimensions()  # some programs write wrong ones, and cells outside would be left out
                lines = ([_text(cell) for cell in line] for line in sheet.iter_rows(values_only=True))
                sheets.append([line for line in lines if any(line)])
        book.close()
    except Exception as error:  # of a damaged file it raises what zipfile, its XML and its own checks do
        raise CollectionError(f"{path} is not a spreadsheet that can be read: {one_line(error)}") from error
    return sheets


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()
