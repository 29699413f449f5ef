"""Photographs that nobody has named: folders of any shape, tables without species, and what cannot be used of them."""

from __future__ import annotations

import csv

import pytest

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError
from sae_traits.images import fingerprint, read_collection
from sae_traits.schema import Collection, Problem, Taxon


def without_labels(source):
    return CollectionConfig(source=str(source), labels=False)


def table(path, *rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_a_flat_and_a_nested_folder_name_no_one(images):
    root = images(["IMG_1.jpg", "2024/may/IMG_1.jpg", "train/Danaus_plexippus/a.png"])
    collection = read_collection(without_labels(root))
    assert [s.file for s in collection.images] == ["2024/may/IMG_1.jpg", "IMG_1.jpg", "train/Danaus_plexippus/a.png"]
    assert {s.taxon for s in collection.images} == {Taxon()}
    assert {s.split for s in collection.images} == {"test"}
    assert len({s.image_id for s in collection.images}) == 3
    assert collection.problems == ()


def test_they_are_kept_as_other_images_are(images, tmp_path):
    collection = read_collection(without_labels(images(["a.jpg", "b.png"])))
    collection.save(tmp_path / "images.parquet")
    assert Collection.load(tmp_path / "images.parquet").images == collection.images


def test_the_same_file_has_the_same_id_with_and_without_its_label(images):
    root = images(["Danaus_plexippus/a.jpg"])
    (labelled,) = read_collection(CollectionConfig(source=str(root))).images
    (unlabelled,) = read_collection(without_labels(root)).images
    assert labelled.image_id == unlabelled.image_id
    assert labelled.sha256 == unlabelled.sha256
    assert fingerprint(CollectionConfig(source=str(root))) != fingerprint(without_labels(root))


def test_what_cannot_be_used_is_reported_with_path_and_reason(images):
    root = images(["a.jpg"])
    (root / "deep").mkdir()
    (root / "deep" / "broken.jpg").write_bytes(b"not an image")
    (root / "empty.png").write_bytes(b"")
    (root / "raw.nef").write_bytes(b"x")
    (root / "notes.txt").write_text("no image")
    collection = read_collection(without_labels(root))
    assert [s.file for s in collection.images] == ["a.jpg"]
    reasons = {problem.file: problem.reason for problem in collection.problems}
    assert reasons.keys() == {"deep/broken.jpg", "empty.png", "raw.nef"}
    assert "not an image" in reasons["deep/broken.jpg"]
    assert reasons["empty.png"] == "the file is empty"


def test_a_table_needs_the_column_file_only_and_its_names_are_not_read(images):
    root = images(["a.jpg", "b.jpg", "unlisted.jpg"])
    source = table(
        root / "metadata.csv",
        ["file", "species", "genus", "split", "license", "mm_per_pixel"],
        ["a.jpg", "Danaus plexippus", "Danaus", "train", "CC0", "0.1"],
        ["b.jpg", "no name at all", "", "nonsense", "", "wide"],
    )
    for given in (source, root):
        collection = read_collection(without_labels(given))
        first, second = collection.images
        assert first.taxon == second.taxon == Taxon()
        assert {first.split, second.split} == {"test"}
        assert (first.license, first.mm_per_pixel, second.mm_per_pixel) == ("CC0", 0.1, None)
        assert collection.problems == (
            Problem("b.jpg", "mm_per_pixel 'wide' is not a number; the image goes without a scale"),
        )


def test_a_table_without_the_column_file_and_an_empty_folder_are_refused(images, tmp_path):
    with pytest.raises(CollectionError, match="no column `file`; its columns are picture"):
        read_collection(without_labels(table(tmp_path / "table.csv", ["picture"], ["a.jpg"])))
    with pytest.raises(CollectionError, match=r"no image in .*; expected photographs"):
        read_collection(without_labels(images([])))


def test_rows_of_a_table_are_selected_by_family_and_split(images):
    root = images([f"{n}.jpg" for n in "abc"])
    rows = [("a.jpg", "Nymphalidae", "train"), ("b.jpg", "Nymphalidae", "test"), ("c.jpg", "Pieridae", "test")]
    source = str(table(root / "metadata.csv", ("file", "family", "split"), *rows))
    for options, files in (({"family": "Nymphalidae"}, ["a.jpg", "b.jpg"]), ({"split": ("test",)}, ["b.jpg", "c.jpg"])):
        collection = read_collection(CollectionConfig(source=source, labels=False, **options))
        assert [record.file for record in collection.images] == files
        assert {(record.taxon, record.split) for record in collection.images} == {(Taxon(), "test")}
