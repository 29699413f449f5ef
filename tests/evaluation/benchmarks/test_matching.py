"""Which image a row of a user's table is about, and that no two rows contradict each other."""

import pytest

from sae_traits.errors import ConfigError
from sae_traits.evaluation.benchmarks.attribute_tables import read_attributes
from sae_traits.evaluation.benchmarks.captions import read_captions
from sae_traits.evaluation.benchmarks.class_taxa import read_taxa
from sae_traits.evaluation.benchmarks.labels import LabelledRow
from sae_traits.evaluation.benchmarks.matching import places_of
from sae_traits.evaluation.benchmarks.trait_texts import read_references
from sae_traits.evaluation.measures.class_names import ClassName


@pytest.mark.parametrize(
    ("names", "files", "places"),
    [
        (["a/1.jpg", "b/1.jpg"], ["b/1.jpg", "a/1.jpg"], [1, 0]),  # by their paths
        (["1.jpg", "1.jpg"], ["a/1.jpg", "a/2.jpg"], [0, 0]),  # the only one of that name
        (["x\\1.jpg", "x/2.jpg"], ["images/1.jpg", "2.jpg"], [0, 1]),  # in another folder
        (["1.jpg"], ["a/1.jpg", "b/1.jpg"], [None]),  # of which of the two?
        (["x/1.jpg", "y/1.jpg"], ["1.jpg"], [None, None]),
        (["a/1.jpg", "b/1.jpg"], ["a/1.jpg"], [0, None]),
        (["2.jpg"], ["1.jpg"], [None]),
    ],
)
def test_a_name_is_of_the_image_with_that_path_or_of_the_only_one_with_that_base_name(names, files, places):
    assert places_of(names, files) == places


def labelled(*files):
    return [LabelledRow(file=file, label=file.split("/")[0], where=f"row of {file}") for file in files]


def written(tmp_path, text):
    table = tmp_path / "table.csv"
    table.write_text(text)
    return table


def test_attributes_are_those_of_the_path_where_folders_have_files_of_one_name(tmp_path):
    rows = labelled("a/001.jpg", "b/001.jpg")
    table = written(tmp_path, "file,striped\na/001.jpg,1\nb/001.jpg,0\n")
    assert read_attributes(table, rows).present.tolist() == [[1], [0]]
    table = written(tmp_path, "file,striped\n001.jpg,1\n")
    with pytest.raises(ConfigError, match=r"no row of 'a/001\.jpg' .*under its path where several files have its name"):
        read_attributes(table, rows)


def test_captions_of_a_name_that_several_images_have_are_passed_over(tmp_path, caplog):
    table = written(tmp_path, "file,text\n001.jpg,one\nb/001.jpg,two\n")
    captions = read_captions(table, ["a/001.jpg", "b/001.jpg"])
    assert (captions.images, captions.texts) == ((1,), ("two",))
    assert "which of several images of the same name" in caplog.text


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("file,striped\na/1.jpg,1\n1.jpg,0\n", lambda table: read_attributes(table, labelled("a/1.jpg"))),
        ("label,striped\nThe_bee,1\nthe bee,0\n", lambda table: read_attributes(table, labelled("the bee"))),
        ("label,family\nbee,Apidae\nBee,Halictidae\n", read_taxa),
        ("label,text\nbee,red\nBee,blue\n", lambda table: read_references(table, [ClassName(label="bee")])),
    ],
)
def test_rows_that_contradict_each_other_are_refused(text, read, tmp_path):
    with pytest.raises(ConfigError, match=r"row 2 below the header of .* says something else of .* than an earlier"):
        read(written(tmp_path, text))


def test_rows_that_agree_are_one(tmp_path):
    table = written(tmp_path, "label,striped\nbee,1\nBee,1\n")
    assert read_attributes(table, labelled("bee")).present.tolist() == [[1]]
