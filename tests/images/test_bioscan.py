"""BIOSCAN-5M in small: its layout, its partitions, what is left out and why."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest
from tiny_bioscan import row, small, write_images, write_metadata

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError
from sae_traits.images import fingerprint, list_source, read_collection
from sae_traits.images.bioscan import METADATA_FILE, PARTITIONS, find_bioscan
from sae_traits.schema import Taxon


@pytest.fixture
def root(tmp_path):
    return small(tmp_path / "bioscan5m")


def read(source, **options):
    return read_collection(CollectionConfig(source=str(source), **options), workers=1)


def test_labelled_images_become_images_with_their_partition_licence_and_page(root):
    found = read(root)
    assert [s.file for s in found.images] == [
        "test/AAA4-20.jpg",
        "test/BBB2-21.jpg",
        "train/0/AAA1-20.jpg",
        "train/0/BBB1-21.jpg",
        "train/1e/AAA2-20.jpg",
        "val/AAA3-20.jpg",
    ]
    assert Counter(s.split for s in found.images) == {"train": 3, "validation": 1, "test": 2}
    last = found.images[-1]
    assert last.taxon == Taxon(
        "Animalia", "Arthropoda", "Insecta", "Diptera", "Phoridae", "Megaselia", "Megaselia scalaris"
    )
    assert (last.license, last.rights_holder) == ("CC BY 3.0", "CBG Photography Group")
    assert last.source_url == "https://portal.boldsystems.org/record/AAA3-20"
    assert last.mm_per_pixel is None
    assert found.path(last) == root / "images/cropped_256/val/AAA3-20.jpg"


def test_what_has_no_name_is_counted_by_its_reason(root, caplog):
    caplog.set_level("INFO", "sae_traits")
    reasons = sorted(problem.reason for problem in read(root).problems)
    assert "not read" not in caplog.text, "its many other columns are known not to be needed"
    assert reasons == [
        "1 rows of the partition key_unseen have placeholders for species names",
        "1 rows of the partition other_heldout have placeholders for species names",
        "1 rows of the partition test_unseen have placeholders for species names",
        "1 rows of the partition val_unseen have placeholders for species names",
        "2 rows of the partition pretrain have no species",
    ]
    assert "1 rows have names that the dataset's authors inferred" in caplog.text


def test_the_source_is_the_folder_or_the_one_that_holds_it(root):
    assert find_bioscan(root.parent) == find_bioscan(root) == root
    assert find_bioscan(root / "images") is None
    assert read(root.parent).images == read(root).images


def test_a_package_is_chosen_and_ids_do_not_depend_on_it(root):
    for package in ("original_full", "cropped", "original_256"):
        shutil.copytree(root / "images/cropped_256", root / "images" / package)
        other = read(root, image_package=package)
        assert other.root == root / "images" / package
        assert [s.image_id for s in other.images] == [s.image_id for s in read(root).images]
    shutil.rmtree(root / "images/cropped")
    with pytest.raises(
        CollectionError, match="no images/cropped; choose --image-package among cropped_256, original_256"
    ):
        read(root, image_package="cropped")


def test_family_and_partitions_narrow_what_is_read_and_what_is_counted(root):
    found = read(root, family="sciaridae", split=("train", "test"))
    assert {s.file for s in found.images} == {"train/0/BBB1-21.jpg", "test/BBB2-21.jpg"}
    assert found.problems == ()
    assert [s.split for s in read(root, split=("validation",)).images] == ["validation"]
    with pytest.raises(CollectionError, match="no row of --family Apidae"):
        read(root, family="Apidae")
    with pytest.raises(CollectionError, match="no partition 'dev'; --split knows pretrain, train, val, test"):
        read(root, split=("dev",))
    with pytest.raises(CollectionError, match="1 rows of the partition key_unseen have placeholders"):
        read(root, split=("key_unseen",))


def test_images_of_a_species_are_drawn_by_the_seed_among_the_images_that_are_there(tmp_path):
    files = [f"train/0/P{n}-20.jpg" for n in range(40)]
    write_metadata(tmp_path, [row(f"P{n}-20", "train", "Megaselia scalaris", chunk="0") for n in range(40)])
    write_images(tmp_path, files[:30])

    def drawn(seed: int, number: int = 10) -> set[str]:
        rows = list_source(CollectionConfig(source=str(tmp_path), per_species=number, split_seed=seed)).rows
        return {found.file for found in rows}

    assert drawn(0) == drawn(0)
    assert len(drawn(0)) == len(drawn(1)) == 10
    assert drawn(0) != drawn(1)
    assert drawn(0, 5) < drawn(0) < set(files[:30])


def test_missing_images_are_reported_by_path_and_the_rest_goes_on(root):
    (root / "images/cropped_256/train/0/AAA1-20.jpg").unlink()
    found = read(root)
    assert len(found.images) == 5
    assert {p.file: p.reason for p in found.problems}["train/0/AAA1-20.jpg"] == (
        "it cannot be found: No such file or directory"
    )


def test_no_row_leads_out_of_the_package(tmp_path):
    hostile = ["../../../secret", "/etc/passwd", "a\nb", "..", "", "a/b", "a\\b", ".hidden", "-rf", "a\0b"]
    rows = [row(name, "train", "Megaselia scalaris") for name in hostile]
    rows += [
        row(f"OK{n}-20", "train", "Megaselia scalaris", chunk=name) for n, name in enumerate(["../..", "/", ".", "a/b"])
    ]
    rows += [row("OK9-20", "train/../..", "Megaselia scalaris"), row("OK-20", "train", "Megaselia scalaris")]
    write_metadata(tmp_path / "bioscan5m", rows)
    write_images(tmp_path / "bioscan5m", ["train/OK-20.jpg", "OK1-20.jpg", "OK9-20.jpg"])
    (tmp_path / "secret.jpg").write_bytes(b"x")
    found = read(tmp_path)
    assert [s.file for s in found.images] == ["train/OK-20.jpg"]
    refused = [p.reason for p in found.problems if "cannot be a file name" in p.reason]
    assert len(refused) == 14
    assert not any("\n" in p.reason or "\n" in p.file for p in found.problems)
    assert any("'train/../..', a partition that is not known" in p.reason for p in found.problems)


def test_a_link_that_leads_out_and_a_repeated_row_are_reported(root):
    outside = root.parent / "outside.jpg"
    target = root / "images/cropped_256/val/AAA3-20.jpg"
    outside.write_bytes(target.read_bytes())
    target.unlink()
    target.symlink_to(outside)
    path = root / METADATA_FILE
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1]]) + "\n")
    reasons = {p.file: p.reason for p in read(root).problems}
    assert reasons["val/AAA3-20.jpg"] == "a symbolic link leads out of the collection's folder"
    assert reasons["train/0/AAA1-20.jpg"] == "it is listed 2 times; its first row is taken"


def test_a_row_of_a_wrong_length_is_reported_and_a_wrong_table_refused(root):
    path = root / METADATA_FILE
    path.write_text(path.read_text() + "EEE1-20,too,short\n")
    assert any("the row 'EEE1-20,too,short' has 3 cells, not 23" in p.reason for p in read(root).problems)
    path.write_bytes(path.read_bytes().replace(b",species,", b",name,", 1))
    with pytest.raises(CollectionError, match=r"lacks a column of BIOSCAN-5M: .*species"):
        read(root)
    path.write_bytes(b"\xff\xfe,\x00\n1,2\n")
    with pytest.raises(CollectionError):
        read(root)


def test_fillers_are_no_names(tmp_path):
    rows = [row("AAA1-20", "train", "Megaselia scalaris", family="unassigned Phoroidea")]
    write_metadata(tmp_path, rows)
    write_images(tmp_path, ["train/AAA1-20.jpg"])
    assert read(tmp_path).images[0].taxon.family is None


def test_without_labels_every_partition_is_read(root):
    write_images(root, ["pretrain/00/DDD1-22.jpg", "other_heldout/3/CCC4-22.jpg"])
    listing = list_source(CollectionConfig(source=str(root), labels=False))
    assert len(listing.rows) == 8
    assert {found.label for found in listing.rows} == {None}


def test_the_fingerprint_follows_the_choice_and_ignores_how_images_are_fetched(root):
    config = CollectionConfig(source=str(root))
    seen = fingerprint(config)
    assert fingerprint(CollectionConfig(source=str(root), connections=3)) == seen
    assert fingerprint(CollectionConfig(source=str(root), per_species=1)) != seen
    assert fingerprint(config, list_source(config)) == seen


def test_the_documented_partitions_are_those_of_the_dataset():
    assert [name for name, split in PARTITIONS.items() if split] == ["train", "val", "test"]
    assert len(PARTITIONS) == 8
