"""Darwin Core archives of a few occurrences, as GBIF writes them: tabs, no quotes, meta.xml."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

DWC = "http://rs.tdwg.org/dwc/terms/"
OCCURRENCE_TERMS = (
    *(
        "http://rs.gbif.org/terms/1.0/gbifID",
        "http://purl.org/dc/terms/license",
        "http://purl.org/dc/terms/rightsHolder",
    ),
    *("http://purl.org/dc/terms/references", f"{DWC}scientificName", f"{DWC}kingdom", f"{DWC}phylum", f"{DWC}class"),
    *(f"{DWC}order", f"{DWC}family", f"{DWC}genus", "http://rs.gbif.org/terms/1.0/species"),
    *("http://rs.gbif.org/terms/1.0/acceptedScientificName", f"{DWC}organismID", f"{DWC}catalogNumber"),
)
MEDIA_TERMS = (
    "http://rs.gbif.org/terms/1.0/gbifID",
    *(f"http://purl.org/dc/terms/{name}" for name in ("type", "format", "identifier")),
    *(f"http://purl.org/dc/terms/{name}" for name in ("references", "license", "rightsHolder")),
)
META = """<archive xmlns="http://rs.tdwg.org/dwc/text/" metadata="metadata.xml">
{core}
{extension}
</archive>
"""
TABLE = """<{tag} encoding="UTF-8" fieldsTerminatedBy="\\t" linesTerminatedBy="\\n" fieldsEnclosedBy=""
 ignoreHeaderLines="1" rowType="{row_type}"><files><location>{location}</location></files><{id} index="0"/>
{fields}</{tag}>"""


def table(tag: str, row_type: str, location: str, terms: Sequence[str]) -> str:
    """An element of meta.xml."""
    fields = "\n".join(f'<field index="{index}" term="{term}"/>' for index, term in enumerate(terms))
    id_tag = "id" if tag == "core" else "coreid"
    return TABLE.format(tag=tag, row_type=row_type, location=location, id=id_tag, fields=fields)


def meta(core: str = "occurrence.txt", media: str = "multimedia.txt", core_type: str = f"{DWC}Occurrence") -> str:
    """The meta.xml of an archive with occurrences and media."""
    return META.format(
        core=table("core", core_type, core, OCCURRENCE_TERMS),
        extension=table("extension", "http://rs.gbif.org/terms/1.0/Multimedia", media, MEDIA_TERMS),
    )


def lines(terms: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str:
    """A table without quotes; cells by the last part of their term."""
    names = [term.rsplit("/", 1)[-1] for term in terms]
    return (
        "\n".join("\t".join(cells) for cells in [names, *([row.get(name, "") for name in names] for row in rows)])
        + "\n"
    )


def write_archive(
    path: Path,
    occurrences: Sequence[Mapping[str, str]],
    media: Sequence[Mapping[str, str]],
    meta_xml: str | None = None,
) -> Path:
    """A folder, or a zip file where the path ends so."""
    files = {
        "meta.xml": meta_xml or meta(),
        "occurrence.txt": lines(OCCURRENCE_TERMS, occurrences),
        "multimedia.txt": lines(MEDIA_TERMS, media),
    }
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        return path
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / name).write_text(text, encoding="utf-8")
    return path
