"""Tables of images with every wrong input."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError
from sae_traits.evaluation.text import read_common_names
from sae_traits.images import read_collection
from sae_traits.images.columns import plain
from sae_traits.images.listing import Listing
from sae_traits.images.sources import list_source
from sae_traits.images.table import TABLE_COLUMNS, list_table, table_of
from sae_traits.images.table_files import Cells, open_table
from sae_traits.schema import Problem, Taxon

HAS_OPENPYXL = find_spec("openpyxl") is not None
FILES = ["a.jpg", "deep/b.jpg", "c.jpg"]


@pytest.fixture
def listed(images):
    """The listing of a CSV with these lines, beside the images of FILES."""

    def read(*lines: str) -> Listing:
        root = images(FILES)
        (root / "table.csv").write_text("\n".join(lines))
        return list_table(root / "table.csv", CollectionConfig(source=str(root / "table.csv")))

    return read


def test_all_columns_are_read(listed):
    listing = listed(
        "file,species,kingdom,phylum,class,order,family,genus,split,license,rights_holder,source_url,mm_per_pixel,mask_file,x",
        "a.jpg,Danaus plexippus,Animalia,Arthropoda,Insecta,Lepidoptera,Nymphalidae,Danaus,val,CC BY 4.0,A. Nyone,"
        "https://example.org/1,0.05,c.jpg,ignored",
    )
    (row,) = listing.rows
    assert listing.problems == ()
    assert (row.file, row.label, row.split) == ("a.jpg", "Danaus plexippus", "validation")
    assert row.ranks == Taxon(
        "Animalia", "Arthropoda", "Insecta", "Lepidoptera", "Nymphalidae", "Danaus", "Danaus plexippus"
    )
    assert (row.license, row.rights_holder, row.source_url) == ("CC BY 4.0", "A. Nyone", "https://example.org/1")
    assert (row.mm_per_pixel, row.mask_file) == (0.05, "c.jpg")


def test_a_doubt_in_a_column_of_its_own_is_part_of_the_label(listed):
    listing = listed(
        "file,species,identificationQualifier",
        "a.jpg,Danaus plexippus,cf. plexippus",
        "deep/b.jpg,Danaus plexippus,cf. ssp. nigrippus",
        "c.jpg,Danaus chrysippus,",
    )
    assert [row.label for row in listing.rows] == ["Danaus plexippus cf.", "Danaus plexippus", "Danaus chrysippus"]


def test_optional_columns_may_be_absent_or_empty(listed):
    listing = listed("species,file,family,split,mm_per_pixel", "Danaus plexippus,a.jpg,,NaN,")
    (row,) = listing.rows
    assert row.ranks == Taxon(species="Danaus plexippus")
    assert (row.split, row.license, row.mm_per_pixel, row.mask_file) == (None, None, None, None)


def test_licence_is_read_too_and_source_is_not_a_url(listed):
    (row,) = listed("file,species,licence,source", "a.jpg,Danaus plexippus,CC0,somewhere").rows
    assert (row.license, row.source_url) == ("CC0", None)


@pytest.mark.parametrize(
    "column", ["attribution", "Photographer", "copyright", "rightsholder", "dcterms:rightsHolder", "Credit"]
)
def test_rights_holders_are_read_by_the_names_that_portals_give_them(listed, caplog, column):
    (row,) = listed(f"file,species,license,{column}", "a.jpg,Danaus plexippus,CC BY 4.0,(c) A. Nyone").rows
    assert row.rights_holder == "(c) A. Nyone"
    assert lines_of_unread(caplog) == []


def test_every_name_of_a_column_is_in_the_docs():
    page = (Path(__file__).parents[2] / "docs" / "inputs.md").read_text(encoding="utf-8").split("## Notes on")[0]
    said = set(map(plain, re.findall(r"`(\w+)`", page)))
    names = {name for what, called in TABLE_COLUMNS.items() for name in called}
    assert [name for name in sorted(names) if plain(name) not in said] == []


@pytest.mark.parametrize(
    "header",
    [
        "#file,species*",
        "\ufeff\ufeffFile,dwc.scientificName",
        "File\u00a0Name,Scientific\u00a0name",
        "file,species\u200b",
    ],
)
def test_signs_and_what_nobody_sees_are_no_part_of_a_columns_name(listed, header):
    (row,) = listed(header, "a.jpg,Danaus plexippus").rows
    assert (row.file, row.label) == ("a.jpg", "Danaus plexippus")


@pytest.mark.parametrize("written", ["deep/b.jpg", "./deep/b.jpg", "deep//b.jpg", "deep\\b.jpg"])
def test_paths_are_normalised(listed, written):
    (row,) = listed("file,species", f"{written},Danaus plexippus").rows
    assert row.file == "deep/b.jpg"


def test_a_file_listed_under_two_spellings_of_its_species_is_taken(listed):
    listing = listed("file,species", "a.jpg,Danaus plexippus", 'a.jpg,"Danaus plexippus (Linnaeus, 1758)"')
    assert [row.label for row in listing.rows] == ["Danaus plexippus"]


def test_the_address_of_the_file_comes_before_that_of_a_page(listed):
    (row,) = listed(
        "file,species,references,image_url", "a.jpg,Danaus plexippus,https://p.org,https://p.org/a.jpg"
    ).rows
    assert row.source_url == "https://p.org/a.jpg"


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("none.jpg", "cannot be found: No such file"),
        ("A.JPG", "No such file or directory; there is a.jpg"),
        ("deep/b.jpeg", "No such file or directory; there is deep/b.jpg"),
        ("deep/b", "No such file or directory; there is deep/b.jpg"),
        ("%61.jpg", "No such file or directory; there is a.jpg"),
        ("https://example.org/a.jpg", "it is an address, not a file beside the table"),
        ("file:///photos/a.jpg", "it is an address, not a file beside the table"),
        ("deep", "not a regular file"),
        ("/etc/passwd", "absolute"),
        ("C:\\images\\a.jpg", "absolute"),
        ("\\\\server\\share\\a.jpg", "absolute"),
        ("../outside.jpg", "climbs"),
        ("deep/../../outside.jpg", "climbs"),
        ("deep\\..\\a.jpg", "climbs"),
        ("a.jpg\0.png", "zero byte"),
        ("x" * 5000, "File name too long"),
        (".", "leads out|not a regular file"),
    ],
)
def test_files_that_cannot_be_used_are_reported_by_path(listed, written, reason):
    listing = listed("file,species", f"{written},Danaus plexippus", "c.jpg,Danaus plexippus")
    assert [row.file for row in listing.rows] == ["c.jpg"]
    (problem,) = listing.problems
    assert problem.file == written
    assert any(part in problem.reason for part in reason.split("|"))


def test_links_that_lead_out_are_reported(listed, images, tmp_path):
    root = images(FILES)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "o.jpg").write_bytes(b"x")
    (root / "link.jpg").symlink_to(tmp_path / "outside" / "o.jpg")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "inner").symlink_to("deep")
    listing = listed(
        "file,species,mask_file",
        "link.jpg,Danaus plexippus,",
        "folder/o.jpg,Danaus plexippus,",
        "inner/b.jpg,Danaus plexippus,folder/o.jpg",
    )
    assert [(row.file, row.mask_file) for row in listing.rows] == [("inner/b.jpg", None)]
    assert [problem.file for problem in listing.problems] == ["link.jpg", "folder/o.jpg", "inner/b.jpg"]
    assert all("leads out" in problem.reason for problem in listing.problems)


def test_a_row_without_a_file_is_reported_by_its_number(listed):
    listing = listed("file,species", "a.jpg,Danaus plexippus", ",Danaus plexippus")
    assert listing.problems == (Problem("table.csv, row 2 below the header", "it names no file"),)


def test_an_unknown_split_is_reported_and_never_guessed(listed):
    listing = listed("file,species,split", "a.jpg,Danaus plexippus,holdout", "c.jpg,Danaus plexippus,TEST")
    assert [(row.file, row.split) for row in listing.rows] == [("c.jpg", "test")]
    (problem,) = listing.problems
    assert problem.file == "a.jpg"
    assert "the split 'holdout' is none of train, training, val" in problem.reason


def test_a_repeated_file_is_taken_once_and_reported(listed):
    listing = listed("file,species,license", "a.jpg,Danaus plexippus,first", "./a.jpg,Danaus plexippus,second")
    assert [(row.file, row.license) for row in listing.rows] == [("a.jpg", "first")]
    assert listing.problems == (Problem("a.jpg", "it is listed 2 times; its first row is taken"),)


def test_a_file_of_two_species_is_not_taken(listed):
    listing = listed("file,species", "a.jpg,Danaus plexippus", "a.jpg,Vanessa cardui", "c.jpg,Vanessa cardui")
    assert [row.file for row in listing.rows] == ["c.jpg"]
    (problem,) = listing.problems
    assert problem == Problem(
        "a.jpg", "it is listed as several species, none of which is taken: Danaus plexippus, Vanessa cardui"
    )


@pytest.mark.parametrize("scale", ["0", "-0.1", "inf", "1e999", "five", "0;05", "0.05 mm"])
def test_an_unusable_scale_is_dropped_and_reported(listed, scale):
    listing = listed("file,species,mm_per_pixel", f"a.jpg,Danaus plexippus,{scale}")
    assert [row.mm_per_pixel for row in listing.rows] == [None]
    (problem,) = listing.problems
    assert problem.file == "a.jpg"
    assert "goes without a scale" in problem.reason
    assert scale in problem.reason


@pytest.mark.parametrize("mask", ["none.png", "../mask.png", "/mask.png", "deep"])
def test_an_unusable_mask_path_is_dropped_and_reported(listed, mask):
    listing = listed("file,species,mask_file", f"a.jpg,Danaus plexippus,{mask}")
    assert [row.mask_file for row in listing.rows] == [None]
    (problem,) = listing.problems
    assert problem.file == "a.jpg"
    assert problem.reason.startswith(f"mask {mask}: ")
    assert problem.reason.endswith("the image goes without it")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("picture,species", "has no column `file`; its columns are picture, species"),
        ("file,label", "has no column `species`; its columns are file, label"),
        ("x;species", "has no column `file` and no column `species`; its columns are x;species"),
    ],
)
def test_a_table_without_its_columns_is_refused_with_those_it_has(listed, header, message):
    with pytest.raises(CollectionError) as error:
        listed(header, "a.jpg,Danaus plexippus")
    assert message in str(error.value)


def test_a_table_without_rows_is_refused(listed):
    with pytest.raises(CollectionError, match="has no rows below its header"):
        listed("file,species")


def test_a_folders_metadata_is_its_table_if_it_has_the_columns(tmp_path, caplog):
    config = CollectionConfig(source=str(tmp_path))
    (tmp_path / "metadata.csv").write_text("x,species\n")
    assert table_of(config) is None
    assert "metadata.csv is not read: it has no column `file`; its columns are x, species" in caplog.text
    (tmp_path / "metadata.tsv").write_text("x\tspecies\tfile\n")
    assert table_of(config) == tmp_path / "metadata.tsv"


def test_a_folders_spreadsheet_is_not_passed_over_in_silence(tmp_path, caplog):
    (tmp_path / "metadata.ods").write_bytes(b"PK")
    assert table_of(CollectionConfig(source=str(tmp_path))) is None
    assert "metadata.ods is not read; save it as metadata.csv" in caplog.text


def test_no_table_in_a_folder_is_passed_over_in_silence(tmp_path, caplog):
    config = CollectionConfig(source=str(tmp_path))
    for name in ("labels.csv", "labels.jsonl", ".hidden.csv", "~$open.xlsx", "notes.txt", "metadata.txt"):
        (tmp_path / name).write_text("file,species\n")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "metadata.jsonl").write_text("{}\n")
    assert table_of(config) is None
    assert "labels.csv is not read: a table beside folders is called metadata.csv" in caplog.text
    assert "labels.jsonl is not read: a table beside folders is called metadata.csv" in caplog.text
    assert "metadata.txt is not read; save it as metadata.csv" in caplog.text
    assert not any(name in caplog.text for name in ("hidden.csv", "~$open", "notes.txt"))
    inner = f"train/metadata.jsonl is not read: the table of a collection lies in {tmp_path} itself, with files such as"
    assert f"{inner} train/a.jpg and a column split; or give {tmp_path}/train as the source" in caplog.text
    (tmp_path / "Metadata.CSV").write_text("file,species\n")
    assert table_of(config) == tmp_path / "Metadata.CSV"


def test_tables_in_the_folders_of_species_are_not_passed_over_in_silence(tmp_path, caplog):
    for name in ("Danaus_plexippus", "Vanessa_cardui"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metadata.csv").write_text("file,species\n")
    assert table_of(CollectionConfig(source=str(tmp_path))) is None
    first = tmp_path / "Danaus_plexippus"
    assert f"{first / 'metadata.csv'} is not read (nor are 1 more): the table of a collection lies in" in caplog.text
    assert f"with files such as Danaus_plexippus/a.jpg; or give {first} as the source" in caplog.text


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("NYMPHALIDAE", "Nymphalidae"),
        ("nymphalidae ", "Nymphalidae"),
        ("Nymphalidae Rafinesque, 1815", "Nymphalidae"),
        ('"Nymphalidae', "Nymphalidae"),
        ("Incertae sedis", None),
        ("unassigned", None),
        ("True Bugs", "True Bugs"),
    ],
)
def test_a_family_is_read_as_it_is_usually_written(images, written, read):
    root = images(["a.jpg"])
    quoted = '"' + written.replace('"', '""') + '"'
    (root / "metadata.tsv").write_text(f"file\tspecies\tfamily\na.jpg\tVanessa cardui\t{quoted}\n")
    (record,) = read_collection(CollectionConfig(source=str(root))).images
    assert record.taxon.family == read


def test_a_spreadsheet_names_the_extra_that_it_needs(tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)  # not installed
    (tmp_path / "metadata.xlsx").write_bytes(b"PK")
    assert table_of(CollectionConfig(source=str(tmp_path))) is None
    assert "metadata.xlsx is not read; save it as metadata.csv" in caplog.text
    with pytest.raises(CollectionError, match=r"needs `pip install 'sae-traits\[excel\]'`; or save it as CSV"):
        open_table(tmp_path / "metadata.xlsx")


@pytest.mark.skipif(not HAS_OPENPYXL, reason="needs the extra `excel` (openpyxl)")
def test_a_spreadsheet_is_read_from_the_sheet_with_the_images(images, tmp_path):
    import openpyxl

    root = images(["1.png", "b.png"])
    book = openpyxl.Workbook()
    book.active.append(["Notes on the", "collection"])
    hidden = book.create_sheet("old")
    hidden.append(["file", "species"])
    hidden.sheet_state = "hidden"
    sheet = book.create_sheet("photographs")
    for row in (
        ["Beetles of 2023"],
        [],
        ["File", "Scientific name", "mm per pixel", "Catalogue number", "collected"],
        ["1.png", "Carabus nitens", 0.05, 17, date(2023, 5, 1)],
        [None, "  "],
        ["b.png", "Carabus auratus ", "0,1", "0018", None],
        ["c.png", "NA"],
    ):
        sheet.append(row)
    book.save(root / "metadata.xlsx")
    collection = read_collection(CollectionConfig(source=str(root)))
    assert [(r.file, r.species, r.mm_per_pixel) for r in collection.images] == [
        ("1.png", "Carabus nitens", 0.05),
        ("b.png", "Carabus auratus", 0.1),
    ]
    assert [problem.file for problem in collection.problems] == ["c.png"]
    (root / "metadata.xlsx").write_bytes((root / "metadata.xlsx").read_bytes()[:300])
    with pytest.raises(CollectionError, match=r"metadata.xlsx is not a spreadsheet that can be read: .*zip"):
        read_collection(CollectionConfig(source=str(root)))


WRITTEN = {
    "semicolons": "file;species;mm_per_pixel\na.jpg;Vanessa cardui;0,05\n",
    "tabs": "file\tspecies\tmm_per_pixel\na.jpg\tVanessa cardui\t0.05\n",
    "capitals": "File,SPECIES,Mm_per_pixel\na.jpg,Vanessa cardui,0.05\n",
    "a blank line above": "\n\nfile,species,mm_per_pixel\na.jpg,Vanessa cardui,0.05\n",
    "a title above": "Butterflies 2024,,\nfile,species,mm_per_pixel\na.jpg,Vanessa cardui,0.05\n",
    "surplus empty cells": "file,species,mm_per_pixel,,\na.jpg,Vanessa cardui,0.05,,,,\n,,,,\n",
    "Darwin Core": "file,dwc:scientificName,mm per pixel\na.jpg,Vanessa cardui,0.05\n",
    "bars": "file|species|mm_per_pixel\na.jpg|Vanessa cardui|0.05\n",
    "an epithet of Darwin Core": "image_path,genus,specificEpithet,mm_per_pixel\na.jpg,Vanessa,cardui,0.05\n",
    "genus and epithet": "file_name,genus,species,mm_per_pixel\na.jpg,Vanessa,cardui,0.05\n",
    "a long cell": f"file,species,mm_per_pixel,label\na.jpg,Vanessa cardui,0.05,{'x' * 200_000}\n",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("written", WRITTEN)
def test_tables_are_read_as_spreadsheets_write_them(images, written, encoding):
    root = images(["a.jpg", "Müller.jpg"])
    more = WRITTEN[written].splitlines()[-1].replace("a.jpg", "Müller.jpg")
    text = WRITTEN[written] + (f"{more}\n" if "a.jpg" in WRITTEN[written].splitlines()[-1] else "")
    (root / "metadata.csv").write_text(text, encoding=encoding)
    collection = read_collection(CollectionConfig(source=str(root)))
    assert {(record.species, record.mm_per_pixel) for record in collection.images} == {("Vanessa cardui", 0.05)}
    assert len(collection.images) == text.count(".jpg")
    assert collection.problems == ()


@pytest.mark.parametrize("layout", ["Species;Common name\n\n{};{}\n", "Names of 2020,,\nspecies,common_name\n{},{}\n"])
def test_tables_of_common_names_are_read_as_spreadsheets_write_them(tmp_path, layout):
    (tmp_path / "names.csv").write_text(layout.format("Vanessa_cardui", "painted lady"), encoding="utf-16")
    assert read_common_names(tmp_path / "names.csv") == {"Vanessa cardui": "painted lady"}


@pytest.mark.parametrize(("on_disk", "in_table"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_an_accent_may_be_part_of_its_letter_or_not(images, on_disk, in_table):
    root = images([unicodedata.normalize(on_disk, "Müller.jpg")])
    (root / "table.csv").write_text(unicodedata.normalize(in_table, "file,species\nMüller.jpg,Vanessa cardui\n"))
    (record,) = read_collection(CollectionConfig(source=str(root / "table.csv"))).images
    assert record.file == unicodedata.normalize(on_disk, "Müller.jpg")


def test_families_in_other_letters_are_one_family_and_two_kingdoms_of_a_species_are_reported(images):
    root = images(["a.jpg", "b.jpg", "c.jpg"])
    rows = ["a.jpg,Acmella pusilla,NYMPHALIDAE,Animalia", "b.jpg,Acmella pusilla,nymphalidae,animalia"]
    rows.append("c.jpg,Acmella pusilla,Nymphalidae,PLANTAE")
    (root / "metadata.csv").write_text("\n".join(["file,species,family,kingdom", *rows]))
    collection = read_collection(CollectionConfig(source=str(root), family="Nymphalidae"))
    assert {record.taxon.family for record in collection.images} == {"Nymphalidae"}
    assert [record.taxon.kingdom for record in collection.images] == ["Animalia", "Animalia", "Plantae"]
    (problem,) = collection.problems
    assert problem.file == "c.jpg"
    assert problem.reason.startswith("Acmella pusilla is of the kingdom Plantae here and Animalia in a.jpg")


def names_of(path: Path) -> list[str]:
    return open_table(path)[0]


def cells_of(path: Path, columns: list[str]) -> Iterator[Cells]:
    return open_table(path)[1]({column: column for column in columns})


def test_values_stay_text(tmp_path):
    (tmp_path / "a.csv").write_text("file,code,date\n001,1e5,2020-01-01\n")
    assert list(cells_of(tmp_path / "a.csv", ["date", "code", "file"])) == [
        {"date": "2020-01-01", "code": "1e5", "file": "001"}
    ]


def test_a_spreadsheets_csv_is_read(tmp_path):
    """With a byte order mark, Windows line ends, blanks, quotes and an empty line."""
    (tmp_path / "a.csv").write_bytes('file, species ,x\r\n a.jpg ,"Magnolia × ""a"", b",\r\n\r\n'.encode("utf-8-sig"))
    assert names_of(tmp_path / "a.csv") == ["file", "species", "x"]
    assert list(cells_of(tmp_path / "a.csv", ["file", "species", "x"])) == [
        {"file": "a.jpg", "species": 'Magnolia × "a", b', "x": None}
    ]


def test_a_tsv_is_split_at_tabs_only(tmp_path):
    (tmp_path / "a.tsv").write_text("file\tspecies\na,b.jpg\tDanaus plexippus\n")
    assert list(cells_of(tmp_path / "a.tsv", ["file"])) == [{"file": "a,b.jpg"}]


@pytest.mark.parametrize("missing", ["", " ", "NA", "N/A", "nan", "NaN", "null", "None", "<NA>"])
def test_missing_values_are_none(tmp_path, missing):
    (tmp_path / "a.csv").write_text(f"file,species\n{missing},Nanus\n")
    assert list(cells_of(tmp_path / "a.csv", ["file", "species"])) == [{"file": None, "species": "Nanus"}]


def test_a_short_row_lacks_its_last_values(tmp_path):
    (tmp_path / "a.csv").write_text("file,species,split\na.jpg\n")
    assert list(cells_of(tmp_path / "a.csv", ["file", "split"])) == [{"file": "a.jpg", "split": None}]


def test_a_row_with_too_many_cells_stops_the_reading(tmp_path):
    (tmp_path / "a.csv").write_text("file,species\na.jpg,Danaus plexippus\nb.jpg,Papilio machaon L., 1758\n")
    with pytest.raises(CollectionError, match=r"row 2 below the header has 3 cells, the header 2; .* double quotes"):
        list(cells_of(tmp_path / "a.csv", ["file"]))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"file,species\n\x81,b\n", "is not text in cp1252"),
        (b'file,species\n"a,b\n', "is not a well-formed table: line 2: .*; close every double quote"),
        (b'A title\nfile,species\na,"b" c\n', "is not a well-formed table: line 3: .*; close every double quote"),
        (b"file,file,species\na,b,c\n", "has more than one column file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", "git lfs pull"),
    ],
)
def test_a_csv_that_cannot_be_read_is_refused(tmp_path, content, reason):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(CollectionError, match=reason):
        list(cells_of(path, names_of(path)))


def test_a_parquet_file_of_pandas_is_read_as_text(tmp_path):
    frame = pd.DataFrame({"file": ["001", "b"], "species": ["Danaus plexippus", None], "mm": [0.05, float("nan")]})
    frame["order"] = pd.Categorical(["Lepidoptera", None])
    frame.to_parquet(tmp_path / "a.parquet")
    assert list(cells_of(tmp_path / "a.parquet", ["file", "species", "mm", "order"])) == [
        {"file": "001", "species": "Danaus plexippus", "mm": "0.05", "order": "Lepidoptera"},
        {"file": "b", "species": None, "mm": None, "order": None},
    ]


def test_a_parquet_column_that_is_no_text_is_refused(tmp_path):
    images = pa.array([{"bytes": b"x", "path": "a.jpg"}])
    pq.write_table(pa.table({"file": images, "species": ["Danaus plexippus"]}), tmp_path / "a.parquet")
    with pytest.raises(CollectionError, match=r"column 'file' .* holds images, not the names"):
        list(cells_of(tmp_path / "a.parquet", ["file", "species"]))


def test_a_broken_parquet_file_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_text("file,species\n")
    with pytest.raises(CollectionError, match="is not a Parquet file"):
        names_of(path)
    pq.write_table(pa.table({"file": [f"{i}.jpg" for i in range(5000)]}), path)
    content = bytearray(path.read_bytes())
    content[50:20_000] = bytes(19_950)
    path.write_bytes(content)
    with pytest.raises(CollectionError, match="cannot be read to its end"):
        list(cells_of(path, ["file"]))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CollectionError, match=r"cannot read .*none\.csv: No such file"):
        names_of(tmp_path / "none.csv")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".csv", ".tsv", ".parquet"]))
def test_any_bytes_give_rows_or_a_reason(tmp_path, content, suffix):
    path = tmp_path / f"any{suffix}"
    path.write_bytes(content)
    with suppress(CollectionError):
        columns = names_of(path)
        assert all(row.keys() == set(columns) for row in cells_of(path, columns))


def test_boxes_are_read_and_those_that_are_none_reported(listed):
    listing = listed(
        "file,species,bbox_x,bbox_y,bbox_w,bbox_height",
        "a.jpg,Danaus plexippus,-1,2.5,30,40",
        "c.jpg,Danaus plexippus,1,2,3,",
        "deep/b.jpg,Danaus plexippus,1,2,0,4",
    )
    assert [row.animal_box for row in listing.rows] == [(-1, 2.5, 30, 40), None, None]
    assert [problem.reason for problem in listing.problems] == [
        "its box: it needs x, y, width and height; the image goes without it",
        "its box: '0' is not a positive number; the image goes without it",
    ]


def test_that_a_column_of_a_box_is_not_there_is_reported_once(listed):
    listing = listed(
        "file,species,bbox_x,bbox_y,BBOX_W",
        "a.jpg,Danaus plexippus,1,2,3",
        "c.jpg,Danaus plexippus,1,2,3",
    )
    assert [row.animal_box for row in listing.rows] == [None, None]
    assert listing.problems == (
        Problem("table.csv", "it has the columns bbox_x, bbox_y, BBOX_W, but not bbox_height; no box is read"),
    )
    with pytest.raises(CollectionError, match="has no rows below its header"):
        listed("file,species,bbox_x")


def test_an_image_without_a_box_has_nothing_to_report(listed):
    listing = listed("file,species,bbox_x,bbox_y,bbox_width,bbox_height", "a.jpg,Danaus plexippus,,NA,,")
    assert (listing.rows[0].animal_box, listing.problems) == (None, ())


def lines_of_unread(caplog):
    """What was said of columns that are not read."""
    return [record.getMessage() for record in caplog.records if "that are not read" in record.getMessage()]


def test_columns_that_are_not_read_are_told_with_what_may_have_been_meant(listed, caplog):
    listed("file,species,sex,famly,Licens,,indvidual id,bbox_widht", "a.jpg,Vanessa cardui,f,Nymphalidae,CC0,,7,3")
    assert lines_of_unread(caplog) == [
        "columns of table.csv that are not read: sex, famly (did you mean family?), Licens (did you mean license?), "
        "indvidual id (did you mean individual_id?), bbox_widht (did you mean bbox_width?)"
    ]


def test_of_columns_that_are_all_read_nothing_is_told(listed, caplog):
    listed("FILE,dwc:scientificName,dwc:Family,organism ID,Licence", "a.jpg,Vanessa cardui,Nymphalidae,7,CC0")
    assert lines_of_unread(caplog) == []


def test_a_column_is_not_asked_about_where_another_says_what_it_may_mean(listed, caplog):
    listed("file,species,family,famly,image_url,url", "a.jpg,Vanessa cardui,Nymphalidae,x,y,z")
    assert lines_of_unread(caplog) == ["columns of table.csv that are not read: famly, url"]


def test_of_many_columns_that_are_not_read_the_misspelt_ones_are_told_and_the_rest_counted(listed, caplog):
    others = [f"measure {number}\x1b[31m" for number in range(40)]
    listed(",".join(["file,species", *others, "famly"]), ",".join(["a.jpg,Vanessa cardui", *"1" * 41]))
    (line,) = lines_of_unread(caplog)
    assert "not read: famly (did you mean family?), measure 0 [31m, measure 1 [31m" in line
    assert line.endswith("measure 10 [31m and 29 more")


def test_the_metadata_of_a_folder_tells_of_columns_and_photographs_without_labels_of_misspelt_ones(images, caplog):
    root = images(FILES)
    (root / "metadata.csv").write_text("file,species,sex,famly\na.jpg,Vanessa cardui,f,Nymphalidae\n")
    read_collection(CollectionConfig(source=str(root)))
    assert lines_of_unread(caplog) == ["columns of metadata.csv that are not read: sex, famly (did you mean family?)"]
    caplog.clear()
    (root / "metadata.csv").write_text("file,species,genus,sex,mask_file,lisence,licens\na.jpg,a b,a,f,x,y,z\n")
    list_table(root / "metadata.csv", CollectionConfig(source=str(root), labels=False))
    assert lines_of_unread(caplog) == ["columns of metadata.csv that are not read: licens (did you mean license?)"]


def test_the_json_lines_of_an_image_folder_are_read_as_a_table(images):
    root = images(FILES)
    rows = [
        {"file_name": "a.jpg", "species": "Danaus plexippus", "mm_per_pixel": 0.05},
        {"file_name": "deep/b.jpg", "species": "Vanessa atalanta", "license": "CC0", "objects": {"bbox": [1]}},
        {"species": None, "file_name": "c.jpg"},
    ]
    (root / "metadata.jsonl").write_text("\n\n".join(map(json.dumps, rows)), encoding="utf-8")
    listing = list_source(CollectionConfig(source=str(root)))
    found = [(row.file, row.label, row.mm_per_pixel, row.license) for row in listing.rows]
    assert found == [
        ("a.jpg", "Danaus plexippus", 0.05, None),
        ("deep/b.jpg", "Vanessa atalanta", None, "CC0"),
        ("c.jpg", None, None, None),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"file": "a.jpg", "species": ["Danaus plexippus"]}', r"column 'species' of .* holds \["),
        ('["file", "species"]', "line 1 of .* is no JSON object"),
        ('{"file": "a.jpg"', "has no JSON object on each line: "),
        ("", "has no column `file` and no column `species`; its columns are none"),
    ],
)
def test_json_lines_that_are_no_table_are_refused(tmp_path, text, reason):
    (tmp_path / "table.jsonl").write_text(text)
    with pytest.raises(CollectionError, match=reason) as refused:
        list_source(CollectionConfig(source=str(tmp_path / "table.jsonl")))
    assert "\n" not in str(refused.value)
