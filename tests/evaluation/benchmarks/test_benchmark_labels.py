"""Labels may be any text, in tables and folders of every published shape; what cannot be used is named."""

import csv

import pytest
from PIL import Image

from sae_traits.errors import CollectionError
from sae_traits.evaluation.benchmarks.class_taxa import name_classes
from sae_traits.evaluation.benchmarks.labels import list_label_table, list_labelled


def write_table(path, header, rows, *, delimiter=",", encoding="utf-8"):
    with path.open("w", encoding=encoding, newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def put_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (90, 120, 40)).save(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_meta_album_free_labels_whose_images_lie_in_a_folder_beside_the_table(tmp_path, encoding):
    labels = ["Abeille mellifère", "Diptères autres", "Mâle de Cétoine"]
    for n in range(3):
        put_image(tmp_path / "images" / f"{n}.png")
    rows = [[f"{n}.png", label, "SUPER"] for n, label in enumerate(labels)]
    write_table(tmp_path / "labels.csv", ["FILE_NAME", "CATEGORY", "SUPER_CATEGORY"], rows, encoding=encoding)
    listed = list_labelled(str(tmp_path), cache=tmp_path / "out")
    assert [row.label for row in listed.rows] == labels
    assert [row.file for row in listed.rows] == ["images/0.png", "images/1.png", "images/2.png"]
    assert not listed.problems
    assert not listed.notes()


def test_letters_that_were_broken_before_are_kept_and_named(tmp_path):
    garbled = "Mâle".encode().decode("cp1252")
    table = write_table(tmp_path / "l.csv", ["file", "label"], [["a.png", garbled], ["b.png", "Mâle"]], delimiter=";")
    listed = list_label_table(table)
    assert [row.label for row in listed.rows] == [garbled, "Mâle"]
    (note,) = listed.notes()
    assert "(1, such as 'MÃ¢le')" in note


def test_a_table_of_nabirds_size_is_listed_without_looking_for_an_image(tmp_path):
    rows = [[f"images/{n % 555:04d}/{n:05d}.jpg", f"Bird {n % 555}"] for n in range(48_562)]
    listed = list_label_table(write_table(tmp_path / "nabirds.csv", ["file", "label"], rows))
    assert len(listed.rows) == 48_562
    assert len({row.label for row in listed.rows}) == 555


def test_camera_traps_have_missing_ranks_and_epithets_beside_a_genus(tmp_path):
    header = ["filename", "kingdom", "class", "order", "family", "genus", "species", "common"]
    rows = [
        ["0.jpg", "Animalia", "Mammalia", "Carnivora", "Felidae", "Panthera", "leo", "lion"],
        ["1.jpg", "Animalia", "Aves", "", "", "", "", "bird"],
        ["2.jpg", "Animalia", "Mammalia", "Carnivora", "Canidae", "Canis", "mesomelas", "jackal"],
    ]
    listed = list_label_table(write_table(tmp_path / "traps.csv", header, rows))
    assert [row.label for row in listed.rows] == ["Panthera leo", "Canis mesomelas"]
    assert listed.rows[0].taxon["class"] == "Mammalia"
    assert listed.rows[0].taxon["common_name"] == "lion"
    (problem,) = listed.problems
    assert problem.file == "1.jpg"
    assert "row 2 below the header of traps.csv has no label" in problem.reason
    by_name = list_label_table(tmp_path / "traps.csv", label_column="common")
    assert [row.label for row in by_name.rows] == ["lion", "bird", "jackal"]


def test_species_of_one_common_name_are_a_class_of_what_they_share_and_are_named(tmp_path, caplog):
    header = ["filename", "order", "family", "genus", "species", "common"]
    rows = [
        ["0.jpg", "Rodentia", "Muridae", "Rattus", "rattus", "rat"],
        ["1.jpg", "Rodentia", "", "", "", "rat"],
        ["2.jpg", "Rodentia", "Muridae", "Rattus", "norvegicus", "rat"],
        ["3.jpg", "Rodentia", "Muridae", "Mus", "musculus", "mouse"],
        ["4.jpg", "", "", "", "", "bird"],
    ]
    listed = list_label_table(write_table(tmp_path / "traps.csv", header, rows), label_column="common")
    rat, mouse, bird = name_classes(listed.rows, None)
    assert (rat.order, rat.family, rat.genus, rat.epithet) == ("Rodentia", "Muridae", "Rattus", None)
    assert (mouse.genus, mouse.epithet) == ("Mus", "musculus")
    assert (bird.order, bird.genus) == (None, None)
    assert "1 label stands for several species" in caplog.text
    assert "'rat': rattus (row 1 below the header of traps.csv), norvegicus (row 3 below" in caplog.text


def test_a_file_with_two_labels_keeps_the_first_and_says_so(tmp_path):
    rows = [["a.png", "one"], ["a.png", "two"], ["", "three"], ["b.png", ""]]
    listed = list_label_table(write_table(tmp_path / "t.tsv", ["file", "label"], rows, delimiter="\t"))
    assert [(row.file, row.label) for row in listed.rows] == [("a.png", "one")]
    reasons = [problem.reason for problem in listed.problems]
    assert reasons[0].startswith("row 2 below the header of t.tsv lists it again, as 'two'; row 1 below")
    assert "names no file" in reasons[1]
    assert "row 4 below the header of t.tsv has no label" in reasons[2]


def test_plantdoc_has_folders_for_training_that_testing_has_not(tmp_path):
    labels = [f"Leaf {n}" for n in range(28)]
    for label in labels:
        put_image(tmp_path / "train" / label / "0.png")
        if label != "Leaf 7":
            put_image(tmp_path / "test" / label / "0.png")
    listed = list_labelled(str(tmp_path), cache=tmp_path / "out")
    assert len({row.label for row in listed.of_splits(["train"]).rows}) == 28
    assert {row.label for row in listed.of_splits(["test"]).rows} == set(labels) - {"Leaf 7"}
    with pytest.raises(CollectionError, match="no image of --split validation; it has test, train"):
        listed.of_splits(["validation"])


def test_sources_that_cannot_be_used_are_one_line_with_what_to_do(tmp_path):
    (tmp_path / "flat").mkdir()
    put_image(tmp_path / "flat" / "a.png")
    table = write_table(tmp_path / "other.csv", ["name", "colour"], [["a", "b"]])
    lost = write_table(tmp_path / "lost.csv", ["file", "label"], [["gone.png", "one"]])
    out = write_table(tmp_path / "flat" / "out.csv", ["file", "label"], [["../lost.csv", "one"]])
    for source, words in (
        (tmp_path / "none", "does not exist; name a folder with a folder of images per class"),
        (tmp_path / "flat", "has no folder of images in it"),
        (tmp_path / "flat" / "a.png", "is neither a folder nor a table"),
        (table, "no column `label`; name it with --label-column; its columns are name, colour"),
        (lost, "gone.png: row 1 below the header of lost.csv names it, and it is not in"),
        (out, "and it is not in"),
    ):
        with pytest.raises(CollectionError, match=words):
            list_labelled(str(source), cache=tmp_path / "cache")
    assert len(list_labelled(str(lost), cache=tmp_path, with_files=False).rows) == 1  # embeddings need no files
