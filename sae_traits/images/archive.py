"""A Darwin Core archive, as a folder or a zip file: its tables, and their rows.

meta.xml says where each table is, how its cells are separated, and which term of Darwin Core stands in which column
(Darwin Core Text Guide, https://dwc.tdwg.org/text/). Nothing is unpacked: the tables are read where they are.
"""

import csv
import io
import re
import xml.etree.ElementTree as ET
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sae_traits.errors import CollectionError
from sae_traits.images.columns import plain
from sae_traits.images.listing import inside_check
from sae_traits.schema import Problem

META_FILE = "meta.xml"
_MAX_META = 4 * 2**20
_MAX_LINE = 8 * 2**20
"""Characters; a longer line is no row of a table."""
_LOOKED_AT = 2**16
"""Bytes at the beginning of a table by which line ends are told."""
_ESCAPES = {r"\t": "\t", " ": "\t", r"\n": "\n", r"\r": "\r", r"\r\n": "\r\n"}
"""A tab that meta.xml has as itself is a blank to readers of XML."""


@dataclass(frozen=True, kw_only=True)
class ArchiveTable:
    """One table of an archive, as meta.xml describes it."""

    row_type: str
    """Last part of the term: Occurrence, Multimedia …"""
    locations: tuple[str, ...]
    """Of its files, inside the archive."""
    delimiter: str
    line_end: str
    quote: str
    """What cells are enclosed by; empty where quotes mean nothing, as in what GBIF hands out."""
    header_lines: int
    encoding: str
    id_column: int
    columns: Mapping[str, int]
    """Last part of a term, such as scientificName -> column."""
    defaults: Mapping[str, str]
    """Term -> value of all rows."""

    def names_columns(self, cells: list[str]) -> bool:
        """Whether one of the cells of a line is the name of a column."""
        names = {*map(plain, self.columns), "id", "coreid"}
        return any(plain(_last_part(cell)) in names for cell in cells)

    @property
    def n_columns(self) -> int:
        return 1 + max(self.id_column, *self.columns.values(), 0)


@dataclass(frozen=True)
class Archive:
    """A Darwin Core archive; nothing of it is in memory but meta.xml."""

    path: Path
    folder: str
    """Inside a zip file, where the archive begins; empty or with a slash at its end."""
    core: ArchiveTable
    extensions: tuple[ArchiveTable, ...]

    def rows(self, table: ArchiveTable, problems: list[Problem]) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the id of the core row and the non-empty cells by term, row by row.

        Rows with more cells than there are columns, whose cells stand in the wrong ones, are left out and reported. So
        is a line that meta.xml calls a header, but that names no column.

        Raises:
            CollectionError: the table is missing, is not text of its encoding, or has lines without end.
        """
        for location in table.locations:
            n_too_long = 0
            with _open(self.path, self.folder + location) as stream:
                try:
                    line_end = self._line_end(table, location)
                    lines = _lines(io.TextIOWrapper(stream, encoding=table.encoding, newline=line_end), table)
                    header = [next(lines, []) for _ in range(table.header_lines)]
                    if header and not table.names_columns(header[-1]):
                        begins = " ".join(" ".join(header[-1]).split())[:80]
                        reason = "names no column, and may be a row that is lost"
                        if len(header[-1]) == 1 < table.n_columns:
                            reason = f"is one cell: fieldsTerminatedBy of {META_FILE} is not what separates its cells"
                        problems.append(Problem(location, f"its header {reason}: {begins}"))
                    n_columns = max(table.n_columns, *(len(cells) for cells in [[], *header]))
                    for cells in lines:
                        if any(cell.strip() for cell in cells[n_columns:]):
                            n_too_long += 1
                        elif len(cells) > table.id_column:
                            values = {t: cells[n].strip() for t, n in table.columns.items() if n < len(cells)}
                            given = {term: value for term, value in values.items() if value}
                            yield cells[table.id_column].strip(), {**table.defaults, **given}
                except UnicodeError as error:
                    said = table.encoding.removesuffix("-sig")
                    raise CollectionError(
                        f"{location} of {self.path} is not text in {said}, as {META_FILE} says; correct its `encoding` "
                        f"there, mostly to windows-1252 ({error})"
                    ) from error
                except (csv.Error, LookupError) as error:
                    raise CollectionError(f"{location} of {self.path} cannot be read: {error}") from error
                except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
                    raise CollectionError(f"{location} of {self.path} is damaged: {error}") from error
            if n_too_long:
                problems.append(Problem(location, f"{n_too_long:,} rows have more cells than there are columns"))

    def _line_end(self, table: ArchiveTable, location: str) -> str:
        """Find the line end of a file: that of meta.xml, unless the file has none of it."""
        with _open(self.path, self.folder + location) as stream:
            start = stream.read(_LOOKED_AT)
        return "\r" if b"\r" in start and b"\n" not in start else table.line_end


def is_archive(path: Path) -> bool:
    """Whether a folder or zip file has a meta.xml; in a zip file it may lie in folders."""
    return _folder_inside(path) is not None


def _folder_inside(path: Path) -> str | None:
    if path.is_dir():
        return "" if (path / META_FILE).is_file() else None
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise CollectionError(f"{path} is damaged: {error}; get it again") from error
    places = [name.removesuffix(META_FILE) for name in names if name.rpartition("/")[2] == META_FILE]
    depth = min((place.count("/") for place in places), default=0)
    outermost = [place for place in places if place.count("/") == depth and not place.startswith("__MACOSX/")]
    if len(outermost) > 1:
        raise CollectionError(
            f"{path} holds several archives ({', '.join(sorted(outermost))}); unpack it, and give one"
        )
    return outermost[0] if outermost else None


def open_archive(path: Path) -> Archive:
    """Read the meta.xml of an archive; a CollectionError where it is not one, or declares a document type."""
    folder = _folder_inside(path) or ""
    with _open(path, folder + META_FILE) as stream:
        data = stream.read(_MAX_META + 1)
    if len(data) > _MAX_META:
        raise CollectionError(f"{META_FILE} of {path} is larger than {_MAX_META / 2**20:.0f} MiB")
    # Safe: expat fetches nothing by itself, and the target refuses document types before an entity can be used.
    parser = ET.XMLParser(target=_NoDocumentType())  # noqa: S314
    try:
        parser.feed(data)
        root = parser.close()
        core = root.find("{*}core")
        if core is None:
            raise CollectionError(f"{META_FILE} of {path} names no core table; is it a Darwin Core archive?")
        extensions = tuple(_table(element, "coreid") for element in root.findall("{*}extension"))
        return Archive(path, folder, _table(core, "id"), extensions)
    except (ET.ParseError, ValueError) as error:
        raise CollectionError(f"{META_FILE} of {path} is not that of a Darwin Core archive: {error}") from error


class _NoDocumentType(ET.TreeBuilder):  # with one come entities, which are never needed
    def doctype(self, name: str, *_: str | None) -> None:
        raise CollectionError(f"{META_FILE} declares a document type ({name}), which Darwin Core archives do not")


def _table(element: ET.Element, id_tag: str) -> ArchiveTable:
    """Read what an element `core` or `extension` says; ValueError where it says too little."""
    locations = tuple((place.text or "").strip() for place in element.findall("{*}files/{*}location"))
    id_element = element.find(f"{{*}}{id_tag}")
    if not all(locations) or not locations or id_element is None:
        raise ValueError(f"a table without a location or without <{id_tag}>")
    columns, defaults = {}, {}
    for field in element.findall("{*}field"):
        term = _last_part(field.get("term", ""))
        if (index := field.get("index")) is not None:
            columns[term] = _column(index)
        if default := field.get("default"):
            defaults[term] = default
    delimiter = element.get("fieldsTerminatedBy") or ","
    delimiter = _ESCAPES.get(delimiter, delimiter)
    # The guide's default is a quote, but those who separate cells by tabs and say nothing of quotes use none.
    quote = element.get("fieldsEnclosedBy", "" if delimiter == "\t" else '"')
    if len(delimiter) != 1 or len(quote) > 1:
        raise ValueError(f"cells of {locations[0]} are separated by {delimiter!r} and enclosed by {quote!r}")
    line_end = element.get("linesTerminatedBy", "\n")
    return ArchiveTable(
        row_type=_last_part(element.get("rowType", "")),
        locations=locations,
        delimiter=delimiter,
        line_end="\r" if _ESCAPES.get(line_end, line_end) == "\r" else "\n",
        quote=quote,
        header_lines=_column(element.get("ignoreHeaderLines") or "0"),
        encoding=_encoding(element.get("encoding") or "utf-8"),
        id_column=_column(id_element.get("index", "0")),
        columns=columns,
        defaults=defaults,
    )


def _encoding(name: str) -> str:
    """The encoding of that name; one of UTF-8 without the mark that some programs write at the beginning of a file."""
    return "utf-8-sig" if name.strip().lower().replace("_", "-") in ("utf-8", "utf8") else name.strip()


def _column(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(f"{number} is no column")
    return number


def _last_part(term: str) -> str:
    """Take the name from a term's address: http://rs.tdwg.org/dwc/terms/genus or dwc:genus -> genus."""
    return re.split(r"[/#:]", term)[-1]


def _lines(text: io.TextIOWrapper, table: ArchiveTable) -> Iterator[list[str]]:
    """Yield the cells of every line; without quotes a line break always ends a row."""
    lines = _whole_lines(text)
    if table.quote:
        yield from _quoted(lines, table)
    else:
        for line in lines:
            yield line.rstrip("\r\n").split(table.delimiter)


def _quoted(lines: Iterator[str], table: ArchiveTable) -> Iterator[list[str]]:
    """Yield the cells of every row; a csv.Error where a quote is never closed, which would swallow all rows behind."""
    csv.field_size_limit(_MAX_LINE)
    of_row: list[str] = []

    def remembered() -> Iterator[str]:
        for line in lines:
            of_row.append(line)
            yield line

    reader = csv.reader(remembered(), delimiter=table.delimiter, quotechar=table.quote)
    for cells in reader:
        if len(of_row) > 1:
            with_another = csv.reader([*of_row, "another"], delimiter=table.delimiter, quotechar=table.quote)
            if sum(1 for _ in with_another) == 1:
                begin = reader.line_num - len(of_row) + 1
                raise csv.Error(f"a quote in line {begin} is never closed; remove it, or double it within a cell")
        of_row.clear()
        yield cells


def _whole_lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(_MAX_LINE):
        if len(line) == _MAX_LINE:
            raise CollectionError(f"a table has a line of more than {_MAX_LINE:,} characters")
        yield line


@contextmanager
def _open(path: Path, location: str) -> Iterator[IO[bytes]]:
    """Open a file of the archive, which must be inside it."""
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
