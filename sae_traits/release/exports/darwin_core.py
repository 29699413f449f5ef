"""A Darwin Core archive: occurrences (the core), MeasurementOrFact (the traits, with units) and Multimedia.

Source: TDWG, Darwin Core text guide (https://dwc.tdwg.org/text/); GBIF's extensions. A publisher adds the dataset's
metadata document (EML), which names people that this toolkit does not know.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from sae_traits.release.loading import Released
from sae_traits.release.tables import MEASURES, Row
from sae_traits.schema import RANKS

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
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Date of every member, so that the same dataset gives the same archive."""


def write(released: Released, folder: Path) -> dict[str, int]:
    """Write the archive: one occurrence per image, one measurement per thing said or measured of one of its regions."""
    files = {name: folder / f"{name}.txt" for name in ("occurrence", "measurementorfact", "multimedia")}
    counts = {"occurrences": 0, "measurements": 0, "media": 0}
    with (
        files["occurrence"].open("w", encoding="utf-8", newline="") as occurrences,
        files["measurementorfact"].open("w", encoding="utf-8", newline="") as measurements,
        files["multimedia"].open("w", encoding="utf-8", newline="") as media,
    ):
        occurrences.write(_header((), OCCURRENCE))
        measurements.write(_header(("coreid",), MEASUREMENT))
        media.write(_header(("coreid",), MULTIMEDIA))
        for split in released.splits("images"):
            for row in released.rows("images", split, images=False):
                occurrences.write(_line(_occurrence(row)))
                counts["occurrences"] += 1
                for trait in row["traits"]:
                    for values in _measurements(trait):
                        measurements.write(_line((row["image_id"], *values)))
                        counts["measurements"] += 1
                if row["source_url"]:
                    rights = row["license"], row["rights_holder"]
                    media.write(_line((row["image_id"], "StillImage", row["source_url"], *rights)))
                    counts["media"] += 1
    with zipfile.ZipFile(folder / ARCHIVE_FILE, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_member("meta.xml"), _descriptor())
        for file in files.values():
            with file.open("rb") as content, archive.open(_member(file.name), "w", force_zip64=True) as member:
                while block := content.read(2**20):
                    member.write(block)
            file.unlink()
    return counts


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


def _header(first: tuple[str, ...], terms: Iterable[str]) -> str:
    return _line((*first, *(term.rsplit("/", 1)[1] for term in terms)))


def _line(values: Iterable[Any]) -> str:
    """One line; no value holds a tab or a line break, since the format knows no quotes."""
    return "\t".join("" if value is None else " ".join(str(value).split()) for value in values) + "\n"


def _descriptor() -> bytes:
    """meta.xml: which file holds which terms."""
    ElementTree.register_namespace("", NAMESPACE)
    root = ElementTree.Element(f"{{{NAMESPACE}}}archive")
    _table(root, "core", f"{DWC}Occurrence", "occurrence.txt", OCCURRENCE, first=0)
    _table(root, "extension", f"{DWC}MeasurementOrFact", "measurementorfact.txt", MEASUREMENT, first=1)
    _table(root, "extension", f"{GBIF}Multimedia", "multimedia.txt", MULTIMEDIA, first=1)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)


def _table(root: ElementTree.Element, kind: str, row_type: str, file: str, terms: Sequence[str], *, first: int) -> None:
    """Describe a file; in the core the first term is the id, in an extension a column before the terms is."""
    attributes = {
        "encoding": "UTF-8",
        "fieldsTerminatedBy": "\\t",
        "linesTerminatedBy": "\\n",
        "fieldsEnclosedBy": "",
        "ignoreHeaderLines": "1",
        "rowType": row_type,
    }
    table = ElementTree.SubElement(root, f"{{{NAMESPACE}}}{kind}", attributes)
    files = ElementTree.SubElement(table, f"{{{NAMESPACE}}}files")
    ElementTree.SubElement(files, f"{{{NAMESPACE}}}location").text = file
    ElementTree.SubElement(table, f"{{{NAMESPACE}}}{'id' if kind == 'core' else 'coreid'}", {"index": "0"})
    for index, term in enumerate(terms, start=first):
        ElementTree.SubElement(table, f"{{{NAMESPACE}}}field", {"index": str(index), "term": term})


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, EPOCH)
    member.compress_type = zipfile.ZIP_DEFLATED
    return member
