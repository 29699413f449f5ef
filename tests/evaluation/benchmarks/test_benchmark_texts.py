"""What labels stand for, what is said of their species, and captions without the name."""

import pytest
from labelled_worlds import class_name, row

from sae_traits.errors import ConfigError
from sae_traits.evaluation.benchmarks.captions import name_alone, read_captions, without_name
from sae_traits.evaluation.benchmarks.class_taxa import lineages, name_classes, species_of
from sae_traits.evaluation.benchmarks.trait_texts import rank_texts, trait_columns
from sae_traits.evaluation.measures.class_names import ClassName, class_text


def test_labels_that_are_binomials_have_genus_and_epithet_and_others_have_none():
    names = name_classes([row(0, "Apis_mellifera"), row(1, "Abeilles noires"), row(2, "Apis_mellifera")], None)
    assert [(name.label, species_of(name)) for name in names] == [
        ("Apis_mellifera", "Apis mellifera"),
        ("Abeilles noires", "Abeilles noires"),  # which no rule can tell from a binomial: a table says better
    ]
    (free,) = name_classes([row(0, "Mouches à damier (femelle)")], None)
    assert species_of(free) is None
    assert class_text(free, "sci") == free.label


def test_a_table_says_what_labels_stand_for_and_underscores_do_not_matter(tmp_path):
    table = tmp_path / "taxa.csv"
    table.write_text("label,species,family,vernacularName\nAbeille_Noire,Apis mellifera,Apidae,bee\nAutre,,,\n")
    names = name_classes([row(0, "abeille noire"), row(1, "Autre")], table)
    assert species_of(names[0]) == "Apis mellifera"
    assert lineages(names)[0][:3] == ["Apis mellifera", "Apis", "Apidae"]
    assert class_text(names[0], "sci_com") == "Apis mellifera with common name bee"
    assert names[1].family is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "label,species\nAutre,Apis mellifera\n",
            "'Abeille' \\(row 3\\) is not among the labels of .*taxa.csv; add a row",
        ),
        ("label,species\nAbeille,Apis mellifera\nAbeille,Apis cerana\n", "row 2 .* says something else of 'Abeille'"),
        ("label,species\nAbeille,Apis mellifera\n,Apis cerana\n", "row 2 below the header of .* has no label"),
        ("label,colour\nAbeille,black\n", "needs the column `label`, and ranks"),
    ],
)
def test_a_table_that_says_too_little_or_too_much_names_the_row(tmp_path, text, words):
    (tmp_path / "taxa.csv").write_text(text)
    with pytest.raises(ConfigError, match=words):
        name_classes([row(3, "Abeille")], tmp_path / "taxa.csv")


def test_traits_of_the_papers_columns_are_ranked_by_how_many_share_them():
    columns = trait_columns(["image", "species", "trait_description"], "osunlp/bioscan-traits")
    assert columns == {"species": "species", "text": "trait_description"}
    rows = [
        {"species": "genusa speciesa", "text": "Dark wings."},
        {"species": "Genusa speciesa", "text": "long antennae"},
        {"species": "Genusa_speciesa", "text": "dark wings"},
        {"species": "Genusa speciesb", "text": ""},
    ]
    traits = rank_texts("x", rows)
    assert traits.of_classes([class_name(0), class_name(1)], "toy") == {
        "Groupe 0": ("dark wings", "long antennae"),
        "Groupe 1": (),
    }


def test_of_a_released_dataset_only_what_was_said_of_training_images_counts():
    rows = [
        {"species": "A b", "text": "red head", "split": "train", "sha256": "1", "individual": "x"},
        {"species": "A b", "text": "blue head", "split": "test", "sha256": "2", "individual": "y"},
    ]
    traits = rank_texts("x", rows)
    assert traits.ranked == {"a b": ("red head",)}
    assert traits.described == {"1"}


def test_traits_of_other_species_are_refused_with_an_example_of_both():
    traits = rank_texts("traits.csv", [{"species": "Apis mellifera", "text": "hairy"}])
    with pytest.raises(ConfigError, match="such as 'apis mellifera', the classes such as 'Groupe 0'; say with --taxa"):
        traits.of_classes([class_name(0)], "toy")
    with pytest.raises(ConfigError, match="no column `text`; its columns are species, colour"):
        trait_columns(["species", "colour"], "traits.csv")


@pytest.mark.parametrize(
    ("caption", "bare"),
    [
        ("A photo of Apis mellifera on a flower.", "A photo of on a flower."),
        ("apis Mellifera, a honey bee with dark legs", "a with dark legs"),
        ("A. mellifera seen from above", "seen from above"),
        ("Honey bees, striped", "striped"),
        ("Capisco, an unrelated word", "Capisco, an unrelated word"),
    ],
)
def test_the_name_is_taken_out_of_a_caption_and_nothing_else(caption, bare):
    name = ClassName(label="Apis_mellifera", genus="Apis", epithet="mellifera", common_name="honey bee")
    assert without_name(caption, name) == bare
    assert name_alone(name) == "Apis mellifera"


def test_captions_are_of_images_at_hand_and_others_are_passed_over(tmp_path, caplog):
    table = tmp_path / "captions.csv"
    table.write_text("image,caption\na.png,a  red one\nb.png,\nelsewhere.png,x\nfolder/a.png,another\n")
    captions = read_captions(table, ["folder/a.png", "folder/b.png"])
    assert captions.texts == ("a red one", "another")
    assert captions.images == (0, 0)
    assert "2 rows of captions.csv have no text, are about other images" in caplog.text
    assert "such as row 2" in caplog.text
    with pytest.raises(ConfigError, match="is about an image at hand"):
        read_captions(table, ["z.png"])
