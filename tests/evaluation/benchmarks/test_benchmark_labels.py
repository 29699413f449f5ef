"""Labels may be any text, in tables and folders of every published shape; what cannot be used is named."""

import csv
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sae_traits.errors import CollectionError
from sae_traits.evaluation.benchmarks.class_taxa import name_classes
from sae_traits.evaluation.benchmarks.embeddings import read_embeddings, write_embeddings
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
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "a-0.tar").touch()
    table = write_table(tmp_path / "other.csv", ["name", "colour"], [["a", "b"]])
    lost = write_table(tmp_path / "lost.csv", ["file", "label"], [["gone.png", "one"]])
    out = write_table(tmp_path / "flat" / "out.csv", ["file", "label"], [["../lost.csv", "one"]])
    for source, words in (
        (tmp_path / "none", "does not exist; name a folder with a folder of images per class"),
        (tmp_path / "flat", "has no folder of images in it"),
        (tmp_path / "shards", r"holds WebDataset shards \(a-0\.tar\), which `finetune` alone reads"),
        (tmp_path / "flat" / "a.png", "is neither a folder nor a table"),
        (table, "no column `label`; name it with --label-column; its columns are name, colour"),
        (lost, "gone.png: row 1 below the header of lost.csv names it, and it is not in"),
        (out, "and it is not in"),
    ):
        with pytest.raises(CollectionError, match=words):
            list_labelled(str(source), cache=tmp_path / "cache")
    assert len(list_labelled(str(lost), cache=tmp_path, with_files=False).rows) == 1  # embeddings need no files


def put_parquet(path, rows, **columns):
    """A Parquet file with a picture per row, whose colour is a number, or none."""

    def encoded(colour):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 6), (colour, colour, 0)).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    pictures = {name: [None if n is None else encoded(n) for n in numbers] for name, numbers in rows.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({**pictures, **columns}), path)


def test_rows_of_parquet_files_without_label_or_image_are_named(tmp_path):
    file = tmp_path / "data" / "train-0.parquet"
    put_parquet(file, {"image": [1, 2, 3, None, 1]}, label=["a", "b", None, "b", "b"])
    listed = list_labelled(str(tmp_path), cache=tmp_path / "out")
    assert [row.label for row in listed.rows] == ["a", "b"]
    assert [(problem.file, problem.reason) for problem in listed.problems] == [
        ("row 2 of train-0.parquet", "it has no label"),
        ("row 3 of train-0.parquet", "it holds no image"),
        ("row 4 of train-0.parquet", "it has the image of row 0 of train-0.parquet, here as 'b'; the first is taken"),
    ]
    put_parquet(file, {"image": [1, 2]})
    with pytest.raises(CollectionError, match="no column `label`; name it with --label-column"):
        list_labelled(str(tmp_path), cache=tmp_path / "out")


def test_the_column_with_the_image_is_the_one_that_is_asked_for(tmp_path):
    put_parquet(tmp_path / "data" / "train-0.parquet", {"image": [1, 2], "wing": [100, 200]}, label=["a", "b"])
    (first, _) = list_labelled(str(tmp_path), cache=tmp_path / "out", image_column="wing").rows
    with Image.open(tmp_path / "out" / first.file) as picture:
        assert picture.getpixel((0, 0)) == (100, 100, 0)
    with pytest.raises(CollectionError, match="no column 'label' with images; such are image, wing"):
        list_labelled(str(tmp_path), cache=tmp_path / "out", image_column="label")


@pytest.mark.parametrize("option", ["label_column", "image_column", "source_config"])
def test_an_option_that_says_nothing_of_a_folder_of_classes_is_refused(option, tmp_path):
    put_image(tmp_path / "bee" / "a.png")
    with pytest.raises(CollectionError, match=rf"--{option.replace('_', '-')} x says nothing of a folder with"):
        list_labelled(str(tmp_path), cache=tmp_path / "out", **{option: "x"})


@pytest.mark.parametrize("name", ["labels.csv", ""])
def test_embeddings_need_no_files_and_are_found_by_table_or_folder_with_files_and_without(name, tmp_path):
    write_table(tmp_path / "labels.csv", ["file", "label"], [["0.png", "a"], ["1.png", "b"]])
    source, embeddings = str(tmp_path / name), np.eye(2, dtype=np.float32)
    bare = [row.file for row in list_labelled(source, cache=tmp_path, with_files=False).rows]
    put_image(tmp_path / "images" / "0.png")
    put_image(tmp_path / "images" / "1.png")
    there = [row.file for row in list_labelled(source, cache=tmp_path).rows]
    assert (bare, there) == (["0.png", "1.png"], ["images/0.png", "images/1.png"])
    for ids, files in ((bare, there), (there, bare), (bare, bare), (there, there)):
        write_embeddings(tmp_path / "e.safetensors", embeddings, ids, {})
        assert read_embeddings(tmp_path / "e.safetensors", files)[0].tolist() == embeddings.tolist()
