"""A Darwin Core archive, as a folder or a zip file: which tables it has, and their rows.

meta.xml says where each table is, how its cells are separated, and which term of Darwin Core stands in which column
(Darwin Core Text Guide, https://dwc.tdwg.org/text/). Nothing is unpacked: the tables are read where they are.
"""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sae_traits.errors import CollectionError
from sae_traits.images.listing import inside_check

META_FILE = "meta.xml"
_LARGEST_META = 4 * 2**20
_LONGEST_LINE = 8 * 2**20
"""Characters; a longer line is no row of a table."""
_ESCAPES = {r"\t": "\t", r"\n": "\n", r"\r": "\r", r"\r\n": "\r\n"}


@dataclass(frozen=True, kw_only=True)
class ArchiveTable:
    """One table of an archive, as meta.xml describes it."""

    row_type: str
    """Last part of the term: Occurrence, Multimedia …"""
    location: str
    """Inside the archive."""
    delimiter: str
    quote: str
    """What cells are enclosed by; empty where quotes mean nothing, as in what GBIF hands out."""
    header_lines: int
    encoding: str
    id_column: int
    columns: Mapping[str, int]
    """Last part of a term, such as scientificName -> column."""
    defaults: Mapping[str, str]
    """Term -> value of all rows."""


@dataclass(frozen=True)
class Archive:
    """A Darwin Core archive; nothing of it is in memory but meta.xml."""

    path: Path
    core: ArchiveTable
    extensions: tuple[ArchiveTable, ...]

    def extension(self, *row_types: str) -> ArchiveTable | None:
        """The first extension of one of some types."""
        return next((table for table in self.extensions if table.row_type in row_types), None)

    def rows(self, table: ArchiveTable) -> Iterator[tuple[str, dict[str, str]]]:
        """Id of the core row and non-empty cells by term, row by row.

        Raises:
            CollectionError: the table is missing, is not text of its encoding, or has lines without end.
        """
        with _open(self.path, table.location) as stream:
            try:
                text = io.TextIOWrapper(stream, encoding=table.encoding, newline="\n")
                lines = _lines(text, table)
                for _ in range(table.header_lines):
                    next(lines, None)
                for cells in lines:
                    if len(cells) <= table.id_column:
                        continue
                    found = dict(table.defaults)
                    for term, place in table.columns.items():
                        if place < len(cells) and (cell := cells[place].strip()):
                            found[term] = cell
                    yield cells[table.id_column], found
            except (UnicodeError, csv.Error, LookupError) as error:
                raise CollectionError(f"{table.location} of {self.path} cannot be read: {error}") from error
            except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
                raise CollectionError(f"{table.location} of {self.path} is damaged: {error}") from error


def is_archive(path: Path) -> bool:
    """Whether a folder or zip file has a meta.xml."""
    if path.is_dir():
        return (path / META_FILE).is_file()
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return META_FILE in archive.namelist()


def open_archive(path: Path) -> Archive:
    """Read the meta.xml of an archive.

    Raises:
        CollectionError: it is not that of a Darwin Core archive, or declares a document type (and so might name
            entities, which are never needed).
    """
    with _open(path, META_FILE) as stream:
        data = stream.read(_LARGEST_META + 1)
    if len(data) > _LARGEST_META:
        raise CollectionError(f"{META_FILE} of {path} is larger than {_LARGEST_META / 2**20:.0f} MiB")
    # Safe: expat fetches nothing by itself, and the target refuses document types before an entity can be used.
    parser = ET.XMLParser(target=_NoDocumentType())  # noqa: S314
    try:
        parser.feed(data)
        root = parser.close()
        core = root.find("{*}core")
        if core is None:
            raise CollectionError(f"{META_FILE} of {path} names no core table; is it a Darwin Core archive?")
        return Archive(path, _table(core, "id"), tuple(_table(e, "coreid") for e in root.findall("{*}extension")))
    except (ET.ParseError, ValueError) as error:
        raise CollectionError(f"{META_FILE} of {path} is not that of a Darwin Core archive: {error}") from error


class _NoDocumentType(ET.TreeBuilder):
    def doctype(self, name: str, *_: str | None) -> None:
        raise CollectionError(f"{META_FILE} declares a document type ({name}), which Darwin Core archives do not")


def _table(element: ET.Element, id_tag: str) -> ArchiveTable:
    """What an element `core` or `extension` says; ValueError where it says too little."""
    location = element.findtext("{*}files/{*}location", "").strip()
    id_element = element.find(f"{{*}}{id_tag}")
    if not location or id_element is None:
        raise ValueError(f"a table without a location or without <{id_tag}>")
    columns, defaults = {}, {}
    for field in element.findall("{*}field"):
        term = _last_part(field.get("term", ""))
        if (index := field.get("index")) is not None:
            columns[term] = _column(index)
        if default := field.get("default"):
            defaults[term] = default
    delimiter = element.get("fieldsTerminatedBy", ",")
    delimiter = _ESCAPES.get(delimiter, delimiter)
    quote = element.get("fieldsEnclosedBy", '"')
    if len(delimiter) != 1 or len(quote) > 1:
        raise ValueError(f"cells of {location} are separated by {delimiter!r} and enclosed by {quote!r}")
    return ArchiveTable(
        row_type=_last_part(element.get("rowType", "")),
        location=location,
        delimiter=delimiter,
        quote=quote,
        header_lines=_column(element.get("ignoreHeaderLines", "0")),
        encoding=element.get("encoding", "utf-8"),
        id_column=_column(id_element.get("index", "0")),
        columns=columns,
        defaults=defaults,
    )


def _column(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(f"{number} is no column")
    return number


def _last_part(term: str) -> str:
    """Of a term's address: http://rs.tdwg.org/dwc/terms/genus -> genus."""
    return term.replace("#", "/").rsplit("/", 1)[-1]


def _lines(text: io.TextIOWrapper, table: ArchiveTable) -> Iterator[list[str]]:
    """The cells of every line; without quotes a line break always ends a row."""
    lines = _whole_lines(text, table.location)
    if table.quote:
        yield from csv.reader(lines, delimiter=table.delimiter, quotechar=table.quote)
    else:
        for line in lines:
            yield line.rstrip("\r\n").split(table.delimiter)


def _whole_lines(text: io.TextIOWrapper, location: str) -> Iterator[str]:
    while line := text.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise CollectionError(f"{location} has a line of more than {_LONGEST_LINE:,} characters")
        yield line


@contextmanager
def _open(path: Path, location: str) -> Iterator[IO[bytes]]:
    """A file of the archive, which must be inside it."""
    with ExitStack() as stack:
        try:
            if path.is_dir():
                inside_check(path)(location)
                stream: IO[bytes] = stack.enter_context((path / location).open("rb"))
            else:
                stream = stack.enter_context(stack.enter_context(zipfile.ZipFile(path)).open(location))
        except KeyError as error:
            raise CollectionError(f"{path} has no {location!r}") from error
        except (CollectionError, OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise CollectionError(f"{location!r} of {path} cannot be read: {error}") from error
        yield stream
