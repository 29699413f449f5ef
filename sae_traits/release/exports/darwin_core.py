"""A Darwin Core archive: occurrences (the core), MeasurementOrFact (the traits, with units) and Multimedia.

Source: TDWG, Darwin Core text guide (https://dwc.tdwg.org/text/); GBIF's extensions. A publisher adds the dataset's
metadata document (EML), which names people that this toolkit does not know.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from sae_traits.release.loading import Released, web_address
from sae_traits.release.tables import MEASURES, Row
from sae_traits.vocabulary import RANKS

ARCHIVE_FILE = "darwin_core.zip"
DWC, DC, GBIF = "http://rs.tdwg.org/dwc/terms/", "http://purl.org/dc/terms/", "http://rs.gbif.org/terms/1.0/"
NAMESPACE = "http://rs.tdwg.org/dwc/text/"

OCCURRENCE = (
    f"{DWC}occurrenceID",
    f"{DWC}basisOfRecord",
    f"{DWC}scientificName",
    *(f"{DWC}{rank}" for rank in RANKS if rank != "species"),
    f"{DWC}taxonRank",
    f"{DC}license",
    f"{DC}rightsHolder",
)
MEASUREMENT = (
    f"{DWC}measurementID",
    f"{DWC}measurementType",
    f"{DWC}measurementValue",
    f"{DWC}measurementUnit",
    f"{DWC}measurementMethod",
    f"{DWC}measurementRemarks",
)
MULTIMEDIA = (f"{DC}type", f"{DC}identifier", f"{DC}license", f"{DC}rightsHolder")
TABLES = {
    "occurrence": ("core", f"{DWC}Occurrence", OCCURRENCE),
    "measurementorfact": ("extension", f"{DWC}MeasurementOrFact", MEASUREMENT),
    "multimedia": ("extension", f"{GBIF}Multimedia", MULTIMEDIA),
}
"""File -> its kind, what a row of it is, and its columns."""
_LAYOUT = {
    "encoding": "UTF-8", "fieldsTerminatedBy": "\\t", "linesTerminatedBy": "\\n", "fieldsEnclosedBy": "",
    "ignoreHeaderLines": "1",
}  # fmt: skip
_NUMBERS = re.compile(r"[-+.,\deE ]+")
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Date of every member, so that the same dataset gives the same archive."""


def write(released: Released, folder: Path) -> dict[str, int]:
    """Write the archive: one occurrence per image, one measurement per thing said or measured of one of its regions."""
    counts = Counter[str]()
    with ExitStack() as opened:
        files = {
            name: opened.enter_context((folder / f"{name}.txt").open("w", encoding="utf-8", newline=""))
            for name in TABLES
        }
        for name, (kind, _, terms) in TABLES.items():
            first = ("coreid",) if kind == "extension" else ()
            files[name].write(_line((*first, *(term.rsplit("/", 1)[1] for term in terms))))
        for row in released.all_rows("images"):
            for name, lines in _lines_of(row).items():
                files[name].writelines(lines)
                counts[name] += len(lines)
    with zipfile.ZipFile(folder / ARCHIVE_FILE, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_member("meta.xml"), _descriptor())
        for name in TABLES:
            file = folder / f"{name}.txt"
            with file.open("rb") as content, archive.open(_member(file.name), "w", force_zip64=True) as member:
                shutil.copyfileobj(content, member, 2**20)
            file.unlink()
    return {
        "occurrences": counts["occurrence"],
        "measurements": counts["measurementorfact"],
        "media": counts["multimedia"],
    }


def _lines_of(row: Row) -> dict[str, list[str]]:
    """File -> the lines of an image in it."""
    image_id, rights, url = row["image_id"], (row["license"], row["rights_holder"]), web_address(row)
    return {
        "occurrence": [_line(_occurrence(row))],
        "measurementorfact": [_line((image_id, *values)) for trait in row["traits"] for values in _measurements(trait)],
        "multimedia": [_line((image_id, "StillImage", url, *rights))] if url else [],
    }


def _occurrence(row: Row) -> Iterable[Any]:
    ranks = [rank for rank in reversed(RANKS) if row[rank]]
    name = row[ranks[0]] if ranks else None
    higher = (row[rank] for rank in RANKS if rank != "species")
    # What kind of record an image is of (museum image, live observation) is not known here; this term covers all.
    return (row["image_id"], "Occurrence", name, *higher, ranks[0] if ranks else None,
            row["license"], row["rights_holder"])  # fmt: skip


def _measurements(trait: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """What was said and measured of a region: id, type, value, unit, method, remarks."""
    described = f"{trait['describer']} {trait['describer_model']}, {trait['prompt']}"
    box = ", ".join(f"{value:g}" for value in trait["box"])
    part = f"{trait['part']}; " if trait["part"] else ""
    latent = "" if trait["latent"] is None else f"; latent {trait['latent']} of {trait['sae']}"
    remarks = f"{part}region x, y, width, height in pixels: {box}{latent}"
    described_as = [("description", trait["text"]), *((item["name"], item["value"]) for item in trait["attributes"])]
    for number, (name, value) in enumerate(described_as):
        yield f"{trait['trait_id']}/said/{number}", name, value, "", described, remarks
    for measure in MEASURES:
        name, value = measure.name, trait[measure.name]
        if value is not None:
            words, unit = name.replace("_", " "), measure.unit
            yield f"{trait['trait_id']}/{name}", words, _shown(value), unit, "image analysis", remarks


def _shown(value: str | float | list[float]) -> str:
    if isinstance(value, list):
        return ", ".join(f"{number:.2f}" for number in value)
    return value if isinstance(value, str) else f"{value:.6g}"


def _line(values: Iterable[Any]) -> str:
    return "\t".join("" if value is None else _cell(str(value)) for value in values) + "\n"


def _cell(text: str) -> str:
    """A cell without tabs and line breaks (the format knows no quotes) that no spreadsheet takes for a formula."""
    cell = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return f"'{cell}" if cell[:1] in tuple("=+-@") and not _NUMBERS.fullmatch(cell) else cell


def _descriptor() -> bytes:
    """meta.xml: which file holds which terms; the id is the first term of the core, and precedes those of others."""
    archive = ElementTree.Element("archive", {"xmlns": NAMESPACE})
    for file, (kind, row_type, terms) in TABLES.items():
        first = int(kind == "extension")
        table = ElementTree.SubElement(archive, kind, _LAYOUT | {"rowType": row_type})
        ElementTree.SubElement(ElementTree.SubElement(table, "files"), "location").text = f"{file}.txt"
        ElementTree.SubElement(table, "coreid" if first else "id", {"index": "0"})
        for index, term in enumerate(terms, start=first):
            ElementTree.SubElement(table, "field", {"index": str(index), "term": term})
    ElementTree.indent(archive)
    return ElementTree.tostring(archive, encoding="UTF-8", xml_declaration=True)


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, EPOCH)
    member.compress_type = zipfile.ZIP_DEFLATED
    return member
