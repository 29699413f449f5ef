"""Archives as their meta.xml describes them, and those that mean harm."""

from __future__ import annotations

import zipfile

import pytest
from tiny_archive import META, OCCURRENCE_TERMS, meta, table, write_archive

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError
from sae_traits.images import list_source
from sae_traits.images.archive import is_archive, open_archive


def test_quotes_mean_nothing_and_cells_are_found_by_their_terms(tmp_path):
    rows = [{"gbifID": "7", "scientificName": '"Vanessa, cardui'}, {"gbifID": "8", "family": " Nymphalidae "}]
    archive = open_archive(write_archive(tmp_path / "a.zip", rows, []))
    assert archive.core.row_type == "Occurrence"
    assert [(table.row_type, table.locations) for table in archive.extensions] == [("Multimedia", ("multimedia.txt",))]
    first, second = archive.rows(archive.core, [])
    assert first == ("7", {"gbifID": "7", "scientificName": '"Vanessa, cardui'})
    assert second == ("8", {"gbifID": "8", "family": "Nymphalidae"})


def test_commas_quotes_defaults_and_other_encodings_are_read_as_meta_xml_says(tmp_path):
    xml = """<archive xmlns="http://rs.tdwg.org/dwc/text/"><core encoding="ISO-8859-1"
      fieldsTerminatedBy="," fieldsEnclosedBy='"' ignoreHeaderLines="0" rowType="http://rs.tdwg.org/dwc/terms/Occurrence"><files><location>o.csv</location></files>
      <id index="1"/><field index="0" term="http://rs.tdwg.org/dwc/terms/locality"/>
      <field term="http://rs.tdwg.org/dwc/terms/kingdom" default="Animalia"/></core></archive>"""
    (tmp_path / "meta.xml").write_text(xml)
    (tmp_path / "o.csv").write_bytes('"Zürich, ""See""",1\nshort\n'.encode("iso-8859-1"))
    archive = open_archive(tmp_path)
    assert list(archive.rows(archive.core, [])) == [("1", {"kingdom": "Animalia", "locality": 'Zürich, "See"'})]


ENTITIES = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd"><!ENTITY y "yyyyyyyy">]>
<archive xmlns="http://rs.tdwg.org/dwc/text/"><core><files><location>&x;&y;</location></files><id/></core></archive>"""


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (ENTITIES, "declares a document type"),
        (ENTITIES.encode("utf-16"), "declares a document type"),
        ("<archive", "not that of a Darwin Core archive"),
        ("<archive/>", "names no core table"),
        (META.format(core="<core><id/></core>", extension=""), "without a location"),
        (
            META.format(core=table("core", "x", "o.txt", ["t"]).replace('index="0"', 'index="-1"'), extension=""),
            "no column",
        ),
        (
            META.format(core=table("core", "x", "o.txt", ["t"]).replace("\\t", "ab"), extension=""),
            "are separated by 'ab'",
        ),
        (" " * (4 * 2**20 + 1), "larger than 4 MiB"),
    ],
)
def test_a_meta_xml_that_means_harm_or_nothing_is_refused(tmp_path, xml, message):
    data = xml.encode() if isinstance(xml, str) else xml
    (tmp_path / "meta.xml").write_bytes(data)
    with pytest.raises(CollectionError, match=message):
        open_archive(tmp_path)


@pytest.mark.parametrize(
    "location", ["../outside.txt", "/etc/passwd", "link.txt", "missing.txt", "https://x.example/o.txt"]
)
def test_a_table_outside_the_archive_is_not_read(tmp_path, location):
    folder = tmp_path / "archive"
    write_archive(folder, [], [], meta(core=location))
    (tmp_path / "outside.txt").write_text("1\n")
    (folder / "link.txt").symlink_to(tmp_path / "outside.txt")
    archive = open_archive(folder)
    with pytest.raises(CollectionError, match="cannot be read"):
        list(archive.rows(archive.core, []))
    zipped = open_archive(write_archive(tmp_path / "a.zip", [], [], meta(core=location)))
    with pytest.raises(CollectionError, match="has no"):
        list(zipped.rows(zipped.core, []))


CORE = """<archive xmlns="http://rs.tdwg.org/dwc/text/"><core encoding="UTF-8" {attributes} ignoreHeaderLines="1"
  rowType="http://rs.tdwg.org/dwc/terms/Occurrence"><files>{locations}</files><id index="0"/>
  <field index="1" term="http://rs.tdwg.org/dwc/terms/family"/></core></archive>"""


@pytest.mark.parametrize(
    ("attributes", "files"),
    [
        ("fieldsTerminatedBy='\\t' linesTerminatedBy='\\r'", ["id\tfamily\r1\tApidae\r2\tPieridae\r"]),
        ("fieldsTerminatedBy='\\t'", ["id\tfamily\r1\tApidae\r 2\tPieridae\r"]),
        ("fieldsTerminatedBy='\t' linesTerminatedBy='\n'", ["id\tfamily\n1\tApidae\n2\tPieridae\n"]),
        ("fieldsTerminatedBy='' linesTerminatedBy=''", ["id,family\n1,Apidae\n2,Pieridae\n"]),
        ("fieldsTerminatedBy='\\t'", ['id\tfamily\n1\tApidae\n2\tPieridae\n3\t"stray\n']),
        ("fieldsTerminatedBy=','", ["id,family\n1,Apidae\n", "id,family\n2,Pieridae,,\n"]),
        ("fieldsTerminatedBy=','", ["id,family\n1,Apidae\n2,Pieridae\n3,one,cell too many\n"]),
        ("fieldsTerminatedBy=','", ["id,family,x\n1,Apidae," + 200_000 * "x" + "\n2,Pieridae,\n"]),
    ],
)
def test_tables_are_read_as_publishers_write_them(tmp_path, attributes, files):
    locations = "".join(f"<location>{n}.txt</location>" for n in range(len(files)))
    (tmp_path / "meta.xml").write_text(CORE.format(attributes=attributes, locations=locations))
    for n, content in enumerate(files):
        (tmp_path / f"{n}.txt").write_bytes(content.encode())
    archive, problems = open_archive(tmp_path), []
    rows = dict(archive.rows(archive.core, problems))
    assert [rows[key]["family"] for key in "12"] == ["Apidae", "Pieridae"]
    assert [problem.reason for problem in problems] == (
        ["1 rows have more cells than there are columns"] if "too many" in files[0] else []
    )
    assert rows.get("3", {}).get("family") == ('"stray' if "stray" in files[0] else None)


def test_a_row_that_is_called_a_header_is_reported(tmp_path):
    attributes = "fieldsTerminatedBy='\\t'"
    (tmp_path / "meta.xml").write_text(CORE.format(attributes=attributes, locations="<location>o.txt</location>"))
    for header, is_reported in (("1\tApidae", True), ("ID\tFamilie", False), ("gbifID\tdwc:family", False)):
        (tmp_path / "o.txt").write_text(f"{header}\n2\tPieridae\n")
        archive, problems = open_archive(tmp_path), []
        assert dict(archive.rows(archive.core, problems)) == {"2": {"family": "Pieridae"}}
        reason = "its header names no column, and may be a row that is lost: 1 Apidae"
        assert [problem.reason for problem in problems] == ([reason] if is_reported else [])


def test_a_table_that_is_separated_by_something_else_is_told(tmp_path):
    (tmp_path / "meta.xml").write_text(CORE.format(attributes="", locations="<location>o.txt</location>"))
    (tmp_path / "o.txt").write_text("id\tfamily\n1\tApidae\n")
    archive, problems = open_archive(tmp_path), []
    list(archive.rows(archive.core, problems))
    reason = "its header is one cell: fieldsTerminatedBy of meta.xml is not what separates its cells: id family"
    assert [problem.reason for problem in problems] == [reason]


def test_a_second_header_line_that_names_no_column_is_reported(tmp_path):
    xml = CORE.replace('ignoreHeaderLines="1"', 'ignoreHeaderLines="2"').format(
        attributes="", locations="<location>o.txt</location>"
    )
    (tmp_path / "meta.xml").write_text(xml)
    for lines, is_reported in (("id,family\n1,Apidae\n", True), ("made by hand,\nid,family\n", False)):
        (tmp_path / "o.txt").write_text(f"{lines}2,Pieridae\n")
        archive, problems = open_archive(tmp_path), []
        assert dict(archive.rows(archive.core, problems)) == {"2": {"family": "Pieridae"}}
        assert any("may be a row that is lost: 1 Apidae" in problem.reason for problem in problems) == is_reported


def test_a_mark_of_utf8_before_the_first_row_is_no_part_of_its_id(tmp_path):
    xml = CORE.replace('ignoreHeaderLines="1"', 'ignoreHeaderLines=""').format(
        attributes="fieldsEnclosedBy='&quot;'", locations="<location>o.txt</location>"
    )
    for encoding in ("UTF-8", "utf8", ""):
        (tmp_path / "meta.xml").write_text(xml.replace("UTF-8", encoding))
        (tmp_path / "o.txt").write_text('"1","Apidae"\n2,Pieridae\n', encoding="utf-8-sig")
        archive = open_archive(tmp_path)
        assert dict(archive.rows(archive.core, [])) == {"1": {"family": "Apidae"}, "2": {"family": "Pieridae"}}


def test_of_several_archives_in_a_zip_file_none_is_taken(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for folder in ("moths", "bees"):
            archive.writestr(f"downloads/{folder}/meta.xml", meta())
    with pytest.raises(CollectionError, match=r"several archives .downloads/bees/, downloads/moths/.; unpack it"):
        is_archive(tmp_path / "a.zip")


def test_an_archive_may_be_zipped_with_its_folder(tmp_path):
    write_archive(tmp_path / "moths", [{"gbifID": "7", "family": "Apidae"}], [])
    with zipfile.ZipFile(tmp_path / "moths.zip", "w") as zipped:
        for file in (tmp_path / "moths").iterdir():
            zipped.write(file, f"moths/{file.name}")
    assert is_archive(tmp_path / "moths.zip")
    archive = open_archive(tmp_path / "moths.zip")
    assert list(archive.rows(archive.core, [])) == [("7", {"gbifID": "7", "family": "Apidae"})]


def test_damage_is_told(tmp_path):
    path = write_archive(tmp_path / "a.zip", [{"gbifID": str(n) * 50} for n in range(500)], [])
    archive = open_archive(path)
    data = bytearray(path.read_bytes())
    start = data.index(b"occurrence.txt") + 200
    data[start : start + 40] = bytes(40)
    path.write_bytes(data)
    with pytest.raises(CollectionError, match=r"occurrence.txt of .* is damaged"):
        list(archive.rows(archive.core, []))
    folder = write_archive(tmp_path / "folder", [], [])
    (folder / "occurrence.txt").write_bytes(b"gbifID\n\xff\xfe\n")
    broken = open_archive(folder)
    with pytest.raises(CollectionError, match=r"not text in utf-8, as meta.xml says; correct its `encoding`"):
        list(broken.rows(broken.core, []))
    (folder / "occurrence.txt").write_text("gbifID\n" + "x" * (8 * 2**20 + 1))
    with pytest.raises(CollectionError, match="a line of more than"):
        list(broken.rows(broken.core, []))


def test_a_quote_that_is_never_closed_is_told_and_swallows_no_rows(tmp_path):
    xml = """<archive xmlns="http://rs.tdwg.org/dwc/text/"><core fieldsTerminatedBy="," fieldsEnclosedBy='"'
      ignoreHeaderLines="1" rowType="http://rs.tdwg.org/dwc/terms/Occurrence"><files><location>o.csv</location></files>
      <id index="0"/><field index="1" term="http://rs.tdwg.org/dwc/terms/locality"/></core></archive>"""
    (tmp_path / "meta.xml").write_text(xml)
    archive = open_archive(tmp_path)
    rows = ["id,locality", "1,field", '2,"on two\nlines, and ""so"""', '3,5" long', "4,end"]
    (tmp_path / "o.csv").write_text("\n".join(rows))
    assert [name for name, _ in archive.rows(archive.core, [])] == ["1", "2", "3", "4"]
    rows[1] = "1,\"Kate's field"
    rows[2] = "2,wood"
    (tmp_path / "o.csv").write_text("\n".join(rows).replace('5"', "5"))
    with pytest.raises(CollectionError, match=r"o\.csv of .* a quote in line 2 is never closed"):
        list(archive.rows(archive.core, []))


@pytest.mark.parametrize("name", ["a.zip", "metadata.xlsx"])
def test_a_damaged_directory_of_a_zip_file_is_told(tmp_path, name):
    written = write_archive(tmp_path / "a.zip", [], []).read_bytes()
    path = tmp_path / name
    path.write_bytes(written.replace(b"PK\x01\x02", b"\0K\x01\x02", 1))
    with pytest.raises(CollectionError, match=rf"{name} is damaged"):
        list_source(CollectionConfig(source=str(path)))


def test_what_is_an_archive(tmp_path):
    assert is_archive(write_archive(tmp_path / "a.zip", [], []))
    assert is_archive(write_archive(tmp_path / "folder", [], []))
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        other.writestr("occurrence.csv", "x")
    assert not is_archive(tmp_path / "other.zip")
    assert not is_archive(tmp_path)
    (tmp_path / "text.csv").write_text("x")
    assert not is_archive(tmp_path / "text.csv")


def test_the_columns_of_gbif_are_found_by_the_last_part_of_their_terms(tmp_path):
    archive = open_archive(write_archive(tmp_path / "folder", [], []))
    assert set(archive.core.columns) >= {"gbifID", "species", "acceptedScientificName", "scientificName", "license"}
    assert archive.core.columns["gbifID"] == archive.core.id_column == 0
    assert len(archive.core.columns) == len(OCCURRENCE_TERMS)
