"""Tables of images with every wrong input."""

from __future__ import annotations

import pytest

from sae_traits.errors import CollectionError
from sae_traits.images.listing import Listing
from sae_traits.images.table import is_table_of_images, list_table
from sae_traits.schema import Problem, Taxon

FILES = ["a.jpg", "deep/b.jpg", "c.jpg"]


@pytest.fixture
def listed(images):
    """The listing of a CSV with these lines, beside the images of FILES."""

    def read(*lines: str) -> Listing:
        root = images(FILES)
        (root / "table.csv").write_text("\n".join(lines))
        return list_table(root / "table.csv")

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


def test_optional_columns_may_be_absent_or_empty(listed):
    listing = listed("species,file,family,split,mm_per_pixel", "Danaus plexippus,a.jpg,,NaN,")
    (row,) = listing.rows
    assert row.ranks == Taxon(species="Danaus plexippus")
    assert (row.split, row.license, row.mm_per_pixel, row.mask_file) == (None, None, None, None)


def test_licence_is_read_too_and_source_is_not_a_url(listed):
    (row,) = listed("file,species,licence,source", "a.jpg,Danaus plexippus,CC0,somewhere").rows
    assert (row.license, row.source_url) == ("CC0", None)


@pytest.mark.parametrize("written", ["deep/b.jpg", "./deep/b.jpg", "deep//b.jpg", "deep\\b.jpg"])
def test_paths_are_normalised(listed, written):
    (row,) = listed("file,species", f"{written},Danaus plexippus").rows
    assert row.file == "deep/b.jpg"


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("none.jpg", "cannot be found: No such file"),
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
    assert "the split 'holdout' is none of train, val" in problem.reason


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
        ("filename,species", "has no column `file`; its columns are filename, species"),
        ("file,label", "has no column `species`; its columns are file, label"),
        ("file;species", "has no column `file` and no column `species`; its columns are file;species"),
        ("", "its columns are none"),
    ],
)
def test_a_table_without_its_columns_is_refused_with_those_it_has(listed, header, message):
    with pytest.raises(CollectionError) as error:
        listed(header, "a.jpg,Danaus plexippus")
    assert message in str(error.value)


def test_a_table_without_rows_is_refused(listed):
    with pytest.raises(CollectionError, match="has no rows below its header"):
        listed("file,species")


def test_a_table_of_images_is_recognised_by_its_columns(tmp_path):
    (tmp_path / "a.csv").write_text("x,species,file\n")
    (tmp_path / "b.csv").write_text("x,species\n")
    assert is_table_of_images(tmp_path / "a.csv")
    assert not is_table_of_images(tmp_path / "b.csv")
