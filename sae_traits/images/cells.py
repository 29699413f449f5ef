"""CSV, TSV and Parquet files as rows of text: no value is turned into a number or a date on the way."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_traits.errors import CollectionError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")

Cells = dict[str, str | None]
"""One row: column -> text without blanks around it, None where there is no value."""

_MISSING = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"})
"""What spreadsheets and pandas write where there is no value; compared in lower case."""
_ROWS_AT_A_TIME = 10_000


def column_names(path: Path) -> list[str]:
    """The names of a table's columns.

    Raises:
        CollectionError: the file is not the kind of table that its ending promises, or names a column twice.
    """
    if _is_parquet(path):
        names = _parquet_file(path).schema_arrow.names
    else:
        with _csv_lines(path) as lines:
            names = [name.strip() for name in next(lines, [])]
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    if repeated:
        raise CollectionError(f"{path} has more than one column {', '.join(repeated)}; rename or remove all but one")
    return names


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[Cells]:
    """The rows of a table, restricted to some of its columns.

    Raises:
        CollectionError: the file cannot be read to its end, or a row has more cells than the header.
    """
    return _parquet_rows(path, columns) if _is_parquet(path) else _csv_rows(path, columns)


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _value(value: Any) -> str | None:
    text = str(value).strip()
    return None if text.lower() in _MISSING else text


@contextmanager
def _csv_lines(path: Path) -> Iterator[Iterator[list[str]]]:
    """The lines of a CSV or TSV file, as lists of cells."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        # utf-8-sig: spreadsheets begin a CSV with a byte order mark, which is no part of the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as stream:
            yield csv.reader(stream, delimiter=delimiter, strict=True)
    except OSError as error:
        raise CollectionError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CollectionError(f"{path} is not UTF-8 text; save it as CSV UTF-8") from error
    except csv.Error as error:
        raise CollectionError(f"{path} is not a well-formed table: {error}") from error


def _csv_rows(path: Path, columns: Sequence[str]) -> Iterator[Cells]:
    header = column_names(path)
    places = [(column, header.index(column)) for column in columns]
    with _csv_lines(path) as lines:
        next(lines, None)
        for number, line in enumerate(lines, start=1):
            if len(line) > len(header):
                # The cells of such a row stand in the wrong columns, mostly because of a comma that is not quoted.
                raise CollectionError(
                    f"{path}: row {number} below the header has {len(line)} cells, the header {len(header)}; "
                    "put cells that contain the separator in double quotes"
                )
            if line:
                yield {column: _value(line[place]) if place < len(line) else None for column, place in places}


def _parquet_file(path: Path) -> pq.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise CollectionError(f"{path} is not a Parquet file that can be read: {_line(error)}") from error


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[Cells]:
    import pyarrow as pa

    parquet = _parquet_file(path)
    for field in parquet.schema_arrow:
        if field.name in columns and (pa.types.is_nested(field.type) or pa.types.is_binary(field.type)):
            raise CollectionError(f"the column {field.name!r} of {path} holds {field.type}; it must hold text")
    try:
        for batch in parquet.iter_batches(batch_size=_ROWS_AT_A_TIME, columns=list(columns)):
            for row in batch.to_pylist():
                yield {column: _value(value) for column, value in row.items()}
    except (OSError, pa.ArrowException) as error:
        raise CollectionError(f"{path} cannot be read to its end: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
