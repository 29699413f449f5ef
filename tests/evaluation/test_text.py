import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis.strategies import text
from toy_world import make_record, make_trait

from sae_traits.errors import ConfigError
from sae_traits.evaluation.text import (
    as_phrase,
    lacks_common_name,
    name_class,
    rank_traits,
    read_common_names,
    read_templates,
)
from sae_traits.schema import Collection, Taxon

MAGPIE = Taxon(
    kingdom="Animalia",
    phylum="Chordata",
    class_="Aves",
    order="Passeriformes",
    family="Corvidae",
    genus="Pica",
    species="Pica hudsonia",
)
COMMON = {"Pica hudsonia": "black-billed magpie"}


@pytest.mark.parametrize(
    ("text_type", "expected"),
    [
        ("asis", "Pica hudsonia"),
        ("sci", "Pica hudsonia"),
        ("taxon", "Animalia Chordata Aves Passeriformes Corvidae Pica hudsonia"),
        ("com", "black-billed magpie"),
        ("sci_com", "Pica hudsonia with common name black-billed magpie"),
        (
            "taxon_com",
            "Animalia Chordata Aves Passeriformes Corvidae Pica hudsonia with common name black-billed magpie",
        ),
    ],
)
def test_the_six_text_types_of_bioclip(text_type, expected):
    assert name_class(MAGPIE, text_type, COMMON) == expected
    assert not lacks_common_name("Pica hudsonia", text_type, COMMON)


def test_missing_ranks_are_skipped_and_case_is_mended_but_not_asis():
    taxon = Taxon(family="Corvidae", species="PICA Hudsonia")
    assert name_class(taxon, "taxon", {}) == "Corvidae Pica hudsonia"
    assert name_class(taxon, "sci", {}) == "Pica hudsonia"
    assert name_class(taxon, "asis", {}) == "PICA Hudsonia"


def test_a_class_without_a_common_name_falls_back_and_is_counted():
    other = Taxon(family="Corvidae", species="Pica pica")
    assert [name_class(taxon, "com", COMMON) for taxon in (MAGPIE, other)] == ["black-billed magpie", "Pica pica"]
    assert [lacks_common_name(name, "com", COMMON) for name in ("Pica hudsonia", "Pica pica")] == [False, True]
    assert name_class(other, "taxon_com", COMMON) == "Corvidae Pica pica"
    assert not any(lacks_common_name(name, "sci", {}) for name in ("Pica hudsonia", "Pica pica"))


def test_common_names_come_from_a_csv_file(tmp_path):
    file = tmp_path / "names.csv"
    file.write_text("species,common_name\nPica pica,Elster\nApis mellifera,\n", encoding="utf-8-sig")
    assert read_common_names(file) == {"Pica pica": "Elster"}
    file.write_text("name,common\nPica pica,Elster\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="columns species and common_name"):
        read_common_names(file)
    with pytest.raises(ConfigError, match="cannot read common names"):
        read_common_names(tmp_path / "missing.csv")


@pytest.mark.parametrize("missing", ["nan", "NA", "N/A", "null", "None", "", "  "])
def test_a_word_for_missing_is_no_common_name(tmp_path, missing):
    file = tmp_path / "names.csv"
    file.write_text(f"species,common_name\nPica pica,{missing}\nPica hudsonia,Nana's magpie\n")
    common = read_common_names(file)
    assert [name_class(taxon, "com", common) for taxon in (Taxon(species="Pica pica"), MAGPIE)] == [
        "Pica pica",
        "Nana's magpie",
    ]
    assert [lacks_common_name(name, "com", common) for name in ("Pica pica", "Pica hudsonia")] == [True, False]


@pytest.mark.parametrize(
    "label", ["Pica_hudsonia", " Pica  hudsonia ", "pica hudsonia", "Pica hudsonia (Sabine, 1823)", "PICA HUDSONIA"]
)
def test_species_of_common_names_are_read_as_labels_are(tmp_path, label):
    file = tmp_path / "names.csv"
    file.write_text(f'Scientific Name,common_name,notes\n"{label}",Elster,{"x" * 200_000}\n')
    for species in ("Pica hudsonia", "Pica_hudsonia"):
        assert name_class(Taxon(species=species), "com", read_common_names(file)) == "Elster"


def test_names_that_are_no_binomials_are_compared_too(tmp_path):
    file = tmp_path / "names.csv"
    file.write_text("species,common_name\nViola_v01,a violet\n")
    assert name_class(Taxon(species="Viola v01"), "com", read_common_names(file)) == "a violet"


def test_the_template_sets():
    assert read_templates("none") == ("{}",)
    assert read_templates("one") == ("a photo of {}.",)
    openai = read_templates("openai")
    assert len(openai) == len(set(openai)) == 80
    assert all(template.count("{}") == 1 and template.endswith(".") for template in openai)
    assert (openai[0], openai[-1]) == ("a bad photo of a {}.", "a tattoo of the {}.")


@given(text())
def test_a_phrase_can_stand_within_a_sentence(sentence):
    phrase = as_phrase(sentence)
    assert phrase == phrase.strip()
    assert not phrase.endswith((".", ",", ";", ":", " "))
    assert as_phrase(phrase) == phrase


def test_phrases_begin_small_and_end_without_a_full_stop():
    assert as_phrase(" A large,  orange area. ") == "a large, orange area"
    assert as_phrase("UV-dark wings.") == "UV-dark wings"
    assert as_phrase("...") == ""


def a_collection(*splits):
    return Collection(
        Path("x"),
        tuple(make_record(row, species, split) for row, (species, split) in enumerate(splits)),
    )


def test_traits_are_ranked_by_how_many_training_individuals_share_them_then_by_effect():
    collection = a_collection(
        ("Aus bus", "train"), ("Aus bus", "train"), ("Aus bus", "test"), ("Cus dus", "validation")
    )
    traits = [
        make_trait(0, "Weak one.", effect=1),
        make_trait(0, "Strong one.", effect=3),
        make_trait(0, "A shared one.", effect=0.1),
        make_trait(0, "A SHARED one", effect=0.1),  # twice in one image counts once
        make_trait(1, "a shared one", effect=0.2),
        make_trait(1, ".", effect=9),
        *[make_trait(2, "Seen in the test split.", effect=9)] * 5,
        make_trait(3, "Seen in the validation split.", effect=9),
    ]
    assert rank_traits(collection, traits) == {"Aus bus": ("a shared one", "strong one", "weak one")}


def test_photographs_of_one_individual_do_not_outvote_two_individuals():
    collection = a_collection(*[("Aus bus", "train")] * 5)
    images = tuple(
        dataclasses.replace(record, individual_id="beetle" if row < 3 else f"another-{row}")
        for row, record in enumerate(collection.images)
    )
    traits = [make_trait(row, "Of one beetle.", effect=9) for row in range(3)]
    traits += [make_trait(row, "Of two beetles.") for row in (3, 4)]
    assert rank_traits(dataclasses.replace(collection, images=images), traits) == {
        "Aus bus": ("of two beetles", "of one beetle")
    }
