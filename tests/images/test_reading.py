"""Whole collections: read from a folder or a table, on drawn files and on photographs."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError
from sae_traits.images import fingerprint, open_image, read_collection
from sae_traits.images.reading import image_id_of
from sae_traits.schema import Collection, Taxon

SHARED = os.environ.get("SAE_TRAITS_SHARED")


def config_of(source: Path, **options) -> CollectionConfig:
    return CollectionConfig(source=str(source), **options)


def species_files(**numbers: int) -> list[str]:
    return [f"{name}/{n:03d}.png" for name, count in numbers.items() for n in range(count)]


def test_a_folder_becomes_a_collection(images):
    root = images(species_files(Danaus_plexippus=10, Vanessa_cardui=2, Magnolia_x_soulangeana=1), size=(12, 8))
    collection = read_collection(config_of(root))
    assert collection.problems == ()
    assert [s.file for s in collection.images] == sorted(s.file for s in collection.images)
    assert Counter(s.species for s in collection.images) == {
        "Danaus plexippus": 10,
        "Vanessa cardui": 2,
        "Magnolia × soulangeana": 1,
    }
    assert Counter(s.split for s in collection.images) == {"train": 9, "test": 3, "validation": 1}
    first = collection.images[0]
    assert first.taxon == Taxon(genus="Danaus", species="Danaus plexippus")
    assert (first.width, first.height) == (12, 8)
    assert open_image(collection.path(first)).size == (12, 8)


def test_a_collection_is_the_same_whatever_the_number_of_processes(images):
    root = images(species_files(Danaus_plexippus=600, Vanessa_cardui=450))
    (root / "Danaus_plexippus/broken.png").write_bytes(b"no image")
    collection = read_collection(config_of(root), workers=0)
    assert len(collection.images) == 1050
    assert collection == read_collection(config_of(root), workers=2)


def test_a_collection_survives_its_file(images, tmp_path):
    collection = read_collection(config_of(images(species_files(Danaus_plexippus=3))))
    collection.save(tmp_path / "images.parquet")
    assert Collection.load(tmp_path / "images.parquet").images == collection.images


def test_what_cannot_be_used_is_reported_and_the_rest_goes_on(images):
    root = images([*species_files(Danaus_plexippus=2, Papilio_sp=1, Magnolia=1), "loose.jpg"])
    (root / "Danaus_plexippus/empty.jpg").touch()
    (root / "Danaus_plexippus/text.jpg").write_text("no image")
    frames = [Image.new("L", (9, 9), 255 * n) for n in range(2)]
    frames[0].save(root / "Danaus_plexippus/moving.gif", save_all=True, append_images=frames[1:])
    collection = read_collection(config_of(root))
    assert len(collection.images) == 2
    found = {problem.file: problem.reason for problem in collection.problems}
    assert list(found) == sorted(found)
    assert set(found) == {
        "Danaus_plexippus/empty.jpg",
        "Danaus_plexippus/moving.gif",
        "Danaus_plexippus/text.jpg",
        "Magnolia/000.png",
        "Papilio_sp/000.png",
        "loose.jpg",
    }
    assert "'Papilio_sp' cannot be placed at a species" in found["Papilio_sp/000.png"]
    assert "2 frames" in found["Danaus_plexippus/moving.gif"]


def test_folders_of_which_no_image_is_left_are_named(images):
    files = species_files(Danaus_plexippus=2, unsorted=3, Vanessa_cardui=1, Papilio_machaon=1)
    root = images([*files, "Heliconius_erato; rm/a.png", "train/Aglais_io/a.png", "Danaus plexippus L., 1758/a.png"])
    (root / "Vanessa_cardui/000.png").write_bytes(b"broken")
    (root / "Papilio_machaon/000.png").rename(root / "Papilio_machaon/000.cr2")
    (root / "Danaus plexippus L., 1758/a.png").write_bytes(b"broken, but the species has others")
    (root / "loose.png").touch()
    (root / "Pieris_napi").symlink_to(root / "Danaus_plexippus")
    collection = read_collection(config_of(root))
    assert collection.without_images == tuple(
        sorted(["unsorted", "Heliconius_erato; rm", "Vanessa_cardui", "Papilio_machaon", "Pieris_napi"])
    )
    counts = collection.counts()
    assert (counts["n_without_images"], counts["without_images"]) == (5, list(collection.without_images[:3]))
    assert read_collection(config_of(root, split=("train",))).without_images == (), "others were not asked for"
    assert read_collection(config_of(root, labels=False)).without_images == ()


def test_species_of_a_table_of_which_no_image_is_left_are_named(images):
    root = images(["a.png", "b.png", "c.png"])
    rows = "a.png,Danaus,plexippus,\ngone.png,Danaus,plexippus,\nb.png,,Vanessa,\ngone.png,Papilio,machaon,\nc.png,,,"
    (root / "metadata.csv").write_text(f"file,genus,species,family\n{rows}\n")
    assert read_collection(config_of(root)).without_images == ("Vanessa", "machaon")


def test_splits_of_folders_are_kept_and_the_others_drawn(images):
    root = images(
        [*(f"test/{file}" for file in species_files(Danaus_plexippus=4)), *species_files(Danaus_plexippus=10)]
    )
    collection = read_collection(config_of(root))
    assert all(s.split == "test" for s in collection.images if s.file.startswith("test/"))
    drawn = Counter(s.split for s in collection.images if not s.file.startswith("test/"))
    assert drawn == {"train": 7, "validation": 1, "test": 2}


def test_an_image_that_cannot_be_opened_takes_no_place_in_a_split(images):
    """A species of two images, one of them broken, is trained on the other."""
    root = images(species_files(Danaus_plexippus=2))
    for broken in ("000.png", "001.png"):
        copy = root.parent / f"without-{broken}"
        shutil.copytree(root, copy)
        (copy / "Danaus_plexippus" / broken).write_bytes(b"")
        assert [s.split for s in read_collection(config_of(copy)).images] == ["train"]


BOXES = ["file", "species", "bbox_x", "bbox_y", "bbox_width", "bbox_height"]


def test_boxes_come_with_the_collection_and_one_beside_its_image_is_reported(images, tmp_path):
    root = images(species_files(a=2))
    rows = [("a/000.png", "Danaus plexippus", 1, 2, 3, 4), ("a/001.png", "Danaus plexippus", 12, 2, 3, 4)]
    pd.DataFrame(rows, columns=BOXES).to_csv(root / "table.csv", index=False)
    collection = read_collection(config_of(root / "table.csv"))
    assert [record.animal_box for record in collection.images] == [(1, 2, 3, 4), None]
    outside = "its box of 3 x 4 pixels at (12, 2) reaches out of its 12 x 8 pixels; the image goes without it"
    assert [(problem.file, problem.reason) for problem in collection.problems] == [("a/001.png", outside)]
    collection.save(tmp_path / "images.parquet")
    assert Collection.load(tmp_path / "images.parquet").images == collection.images
    table = pq.read_table(tmp_path / "images.parquet")
    pq.write_table(table.drop_columns(["animal_box"]), tmp_path / "former.parquet")  # as runs before had it
    assert [r.animal_box for r in Collection.load(tmp_path / "former.parquet").images] == [None, None]


def boxed(images, boxes, size):
    """The collection of images of a size with these boxes."""
    files = species_files(a=len(boxes))
    root = images(files, size)
    rows = [(file, "Danaus plexippus", *box) for file, box in zip(files, boxes, strict=True)]
    pd.DataFrame(rows, columns=BOXES).to_csv(root / "table.csv", index=False)
    return read_collection(config_of(root / "table.csv"))


def test_a_box_that_reaches_a_little_beyond_its_image_is_cut_and_one_that_reaches_far_is_left_out(images, caplog):
    inside, at_the_edge = (3.3, 0.1, 20, 20), (0, 0, 500, 50)
    little = [(-2, 1, 30, 20), (480, 1, 30, 20), (10, -2, 30, 20), (10, 40, 30, 12)]
    far = [(-11, 1, 30, 20), (480, 1, 31, 20), (10, -3, 30, 20), (10, 40, 30, 13), (10, 10, 9999, 20)]
    many_more = [inside] * 45
    collection = boxed(images, [inside, at_the_edge, *little, *far, *many_more], (500, 50))
    assert [record.animal_box for record in collection.images][:11] == [
        *(inside, at_the_edge, (0, 1, 28, 20), (480, 1, 20, 20), (10, 0, 30, 18), (10, 40, 30, 10)),
        *[None] * 5,
    ]
    assert [problem.file for problem in collection.problems] == [f"a/{number:03d}.png" for number in range(6, 11)]
    assert "9999 x 20 pixels at (10, 10) reaches out of its 500 x 50 pixels" in collection.problems[-1].reason
    assert "corners" not in caplog.text, "five of 56 boxes are mistakes of those alone"


def test_a_table_of_corners_is_told_that_boxes_are_widths_and_heights(images, caplog):
    corners = [(10, 10, 60, 40), (30, 5, 95, 45), (50, 20, 90, 48), (1, 1, 20, 20)]
    collection = boxed(images, corners, (100, 50))
    assert [record.animal_box is None for record in collection.images] == [False, True, True, False]
    (line,) = [record.getMessage() for record in caplog.records if "corners" in record.getMessage()]
    assert line.startswith("2 of 4 boxes reach out of their images and are left out; a box is x, y, width and height")


def test_images_without_a_licence_and_licences_without_a_holder_are_counted(images):
    rights = {"a.png": "CC0,A. Nyone", "b.png": "CC0,", "c.png": ",A. Nyone", "d.png": ","}
    root = images(rights)
    rows = [f"{file},Danaus plexippus,{cells}" for file, cells in rights.items()]
    (root / "metadata.csv").write_text("\n".join(["file,species,license,rights_holder", *rows]))
    counts = read_collection(config_of(root)).counts()
    assert (counts["n_without_license"], counts["n_without_rights_holder"]) == (2, 1)


def test_a_table_becomes_a_collection(images, caplog, capsys):
    caplog.set_level("INFO", "sae_traits")
    root = images(species_files(a=4))
    masks = {"good": (12, 8), "small": (6, 4)}
    for name, size in masks.items():
        Image.new("L", size, 255).save(root / f"{name}.png")
    Image.new("L", (12, 8), 1).save(root / "dark.png")
    rows = [
        ("a/000.png", "Danaus plexippus (L.)", "Nymphalidae", "Danaida", "train", 0.05, "good.png"),
        ("a/001.png", "Danaus plexippus", "Nymphalidae", "Danaus", "test", None, "small.png"),
        ("a/002.png", "Danaus plexippus", None, None, "train", -1, "dark.png"),
        ("a/003.png", "Danaus sp.", None, None, "train", None, None),
    ]
    columns = ["file", "species", "family", "genus", "split", "mm_per_pixel", "mask_file"]
    pd.DataFrame(rows, columns=columns).to_parquet(root / "table.parquet")
    collection = read_collection(config_of(root / "table.parquet"))

    first, second, _ = collection.images
    assert first.taxon == second.taxon == Taxon(family="Nymphalidae", genus="Danaus", species="Danaus plexippus")
    assert [s.split for s in collection.images] == ["train", "test", "train"]
    assert [s.mm_per_pixel for s in collection.images] == [0.05, None, None]
    assert [s.mask_file for s in collection.images] == ["good.png", None, None]
    assert collection.mask_path(first) == root / "good.png"
    assert collection.mask_path(second) is None

    assert [problem.file for problem in collection.problems] == ["a/001.png", "a/002.png", "a/002.png", "a/003.png"]
    reasons = [problem.reason for problem in collection.problems]
    assert "mask small.png: it is 6 x 4 pixels, the image 12 x 8" in reasons[0]
    assert "mask dark.png: it has no foreground" in reasons[1]
    assert "'-1.0' is not a positive number" in reasons[2]

    assert capsys.readouterr().out == ""
    assert "1 labels are shortened" in caplog.text
    assert "'Danaus plexippus (L.)' to 'Danaus plexippus'" in caplog.text
    assert "'Danaida' beside 'Danaus plexippus'" in caplog.text


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.tsv", "metadata.parquet"])
def test_a_folder_with_its_metadata_is_read_as_that_table(images, name):
    root = images(species_files(Danaus_plexippus=3))
    table = pd.DataFrame({"file": ["Danaus_plexippus/001.png"], "species": ["Vanessa cardui"]})
    if name.endswith(".parquet"):
        table.to_parquet(root / name)
    else:
        table.to_csv(root / name, sep="\t" if name.endswith(".tsv") else ",", index=False)
    assert [s.species for s in read_collection(config_of(root)).images] == ["Vanessa cardui"]


def test_metadata_of_another_kind_do_not_matter(images):
    root = images(species_files(Danaus_plexippus=3))
    (root / "metadata.csv").write_text("camera,lens\nx,y\n")
    assert len(read_collection(config_of(root)).images) == 3


def test_ids_are_stable_unique_and_safe():
    files = ["a/1.jpg", "b/1.jpg", "a/1.png", "a/蝶.jpg", "a/x y?.jpg", "a/x-y-.jpg", "A/1.jpg", "a/../#%.jpg"]
    files += ["a/" + "long" * 60 + ".jpg", "a/-rf.jpg", "a/.jpg"]
    ids = [image_id_of(file) for file in files]
    assert len({image_id.lower() for image_id in ids}) == len(files)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}", image_id) for image_id in ids)
    # Written down: an id must not change when a collection is released again.
    assert image_id_of("images/Danaus_plexippus/0010001.jpg") == "0010001-b7907b3ff22f9d9f"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "no images were given"),
        ("nowhere", "nowhere does not exist"),
        ("notes.txt", "notes.txt is neither a folder nor a table (.csv, .tsv, .parquet, .xlsx, .jsonl)"),
        ("rows.ods", "rows.ods is a spreadsheet; save it as CSV (CSV UTF-8) or .xlsx"),
        ("empty", "no image in"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused(tmp_path, source, message):
    for file in ("notes.txt", "rows.ods"):
        (tmp_path / file).write_text("x")
    (tmp_path / "empty").mkdir()
    config = CollectionConfig(source=None if source is None else str(tmp_path / source))
    for read in (read_collection, fingerprint):
        with pytest.raises(CollectionError, match=re.escape(message)):
            read(config)


def test_a_collection_of_nothing_usable_gives_the_first_reasons(images):
    root = images([f"unsorted/{n}.png" for n in range(5)])
    with pytest.raises(CollectionError) as error:
        read_collection(config_of(root))
    assert re.search(r"no image of .* can be used: unsorted/0.png: 'unsorted' cannot be placed", str(error.value))
    assert str(error.value).endswith("; and 2 more")


def table_of(root: Path, *, species: str = "Danaus plexippus", note: str = "x") -> None:
    (root / "metadata.csv").write_text(f"file,species,mask_file,note\na/000.png,{species},a/001.png,{note}\n")


def test_the_fingerprint_changes_with_what_the_result_depends_on(images):
    root = images(species_files(a=3))
    table_of(root)
    seen = {fingerprint(config_of(root))}

    def changed(**options) -> bool:
        print_now = fingerprint(config_of(root, **options))
        new = print_now not in seen
        seen.add(print_now)
        return new

    assert not changed()
    assert changed(split_seed=1)
    assert changed(test_share=0.3)
    table_of(root, species="Vanessa cardui")
    assert changed()
    os.utime(root / "a/000.png", ns=(1, 1))
    assert changed()
    Image.new("L", (12, 8), 255).save(root / "a/001.png")
    assert changed()
    (root / "a/001.png").unlink()
    assert changed()
    table_of(root, species="Vanessa cardui", note="another note, of a column that is not read"[:12])
    (root / "a/002.png").unlink()
    assert not changed()
    (root / "metadata.csv").unlink()
    assert changed()
    (root / "a/new.png").write_bytes(b"x")
    assert changed()


@pytest.mark.skipif(not SHARED, reason="needs the photographs that SAE_TRAITS_SHARED points to")
@pytest.mark.parametrize(
    ("name", "n_images", "n_species", "n_masks"),
    [("leeds_butterfly", 832, 10, 832), ("uci_leaf", 332, 30, 0), ("heliconius_landmarks", 95, 2, 0)],
)
def test_photographs_are_read_without_a_problem(name, n_images, n_species, n_masks):
    source = Path(str(SHARED)) / "data" / name
    collection = read_collection(config_of(source))
    assert collection.problems == ()
    assert len(collection.images) == n_images
    assert len({s.image_id for s in collection.images}) == n_images
    assert sum(s.mask_file is not None for s in collection.images) == n_masks
    trained = Counter(s.species for s in collection.images if s.split == "train")
    assert len(trained) == n_species
    for split, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        assert sum(s.split == split for s in collection.images) / n_images == pytest.approx(share, abs=0.02)
    assert ("Magnolia × soulangeana" in trained) == (name == "uci_leaf")
    # The tables of these sets state the upright size of each image.
    table = pd.read_csv(source / "metadata.csv").set_index("file")
    for record in collection.images:
        assert (record.width, record.height) == tuple(table.loc[record.file, ["width", "height"]])


def test_codes_are_species_of_their_own_with_ranks_from_columns(images):
    table = images(["a.jpg", "b.jpg", "c.jpg", "d.jpg"]) / "table.csv"
    lines = [
        "a.jpg,BOLD:AAB1234,Lasioglossum,Halictidae",
        "b.jpg,Viola v01,,Violaceae",
        "c.jpg,unknown,,",
        "d.jpg,Q 9,,",
    ]
    table.write_text("\n".join(["file,species,genus,family", *lines]))
    found = read_collection(config_of(table, species_codes=True))
    assert {record.file: record.taxon for record in found.images} == {
        "a.jpg": Taxon(family="Halictidae", genus="Lasioglossum", species="BOLD:AAB1234"),
        "b.jpg": Taxon(family="Violaceae", genus="Viola", species="Viola v01"),
        "d.jpg": Taxon(species="Q 9"),
    }
    with pytest.raises(CollectionError, match="add --species-codes"):
        read_collection(config_of(table))


def test_ranks_that_are_no_names_are_left_out_and_told(images):
    table = images(["a.jpg", "b.jpg", "c.jpg"]) / "table.csv"
    rows = [f"a.jpg,Viola alba,{'V' * 300}", "b.jpg,Viola riviniana,Viola\u202eceae", "c.jpg,Viola hirta,VIOLACEAE"]
    table.write_text("\n".join(["file,species,family", *rows]), encoding="utf-8")
    found = read_collection(config_of(table))
    assert [record.taxon.family for record in found.images] == [None, None, "Violaceae"]
    assert [problem.file for problem in found.problems] == ["a.jpg", "b.jpg"]
    assert all("its family is too long or has invisible characters" in problem.reason for problem in found.problems)
