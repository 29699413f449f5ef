from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import text
from toy_world import BagOfWords, make_specimen, make_trait

from sae_traits.errors import ConfigError
from sae_traits.evaluation.text import (
    Prompter,
    as_phrase,
    embed_prompts,
    name_classes,
    rank_traits,
    read_common_names,
    read_templates,
    write_fillers,
    write_prompts,
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
    names = name_classes([MAGPIE], text_type, COMMON)
    assert names.texts == (expected,)
    assert names.without_common_name == ()


def test_missing_ranks_are_skipped_and_case_is_mended_but_not_asis():
    taxon = Taxon(family="Corvidae", species="PICA Hudsonia")
    assert name_classes([taxon], "taxon", {}).texts == ("Corvidae Pica hudsonia",)
    assert name_classes([taxon], "sci", {}).texts == ("Pica hudsonia",)
    assert name_classes([taxon], "asis", {}).texts == ("PICA Hudsonia",)


def test_a_class_without_a_common_name_falls_back_and_is_counted():
    other = Taxon(family="Corvidae", species="Pica pica")
    names = name_classes([MAGPIE, other], "com", COMMON)
    assert names.texts == ("black-billed magpie", "Pica pica")
    assert names.without_common_name == ("Pica pica",)
    assert name_classes([MAGPIE, other], "taxon_com", COMMON).texts[1] == "Corvidae Pica pica"
    assert name_classes([MAGPIE, other], "sci", {}).without_common_name == ()


def test_common_names_come_from_a_csv_file(tmp_path):
    file = tmp_path / "names.csv"
    file.write_text("species,common_name\nPica pica,Elster\nApis mellifera,\n", encoding="utf-8-sig")
    assert read_common_names(file) == {"Pica pica": "Elster"}
    file.write_text("name,common\nPica pica,Elster\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="columns species and common_name"):
        read_common_names(file)
    with pytest.raises(ConfigError, match="cannot read common names"):
        read_common_names(tmp_path / "missing.csv")


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
        tuple(make_specimen(row, species, split) for row, (species, split) in enumerate(splits)),
    )


def test_traits_are_ranked_by_how_many_training_images_share_them_then_by_effect():
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


def test_equal_texts_are_encoded_once_and_templates_are_averaged():
    encoder = BagOfWords()
    prompter = Prompter(encoder, ("a photo of {}.", "art of the {}."))
    found = prompter.embed(["Aus bus", "Cus dus", "Aus bus"], "names")
    assert encoder.n_encoded == 4
    assert (found[0] == found[2]).all()
    parts = encoder.embed_texts(["a photo of Aus bus.", "art of the Aus bus."]).numpy().mean(axis=0)
    assert found[0] == pytest.approx(parts / np.linalg.norm(parts), abs=1e-6)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(3), abs=1e-6)


def test_many_texts_are_encoded_in_batches_in_the_order_given():
    prompter = Prompter(BagOfWords(), read_templates("openai"))
    texts = [f"word{number}" for number in range(60)]
    alone = [prompter.embed([text], "names")[0] for text in (texts[0], texts[59])]
    assert prompter.embed(texts, "names")[[0, 59]] == pytest.approx(np.array(alone), abs=1e-6)


def test_one_prompt_a_trait_or_all_in_one():
    prompter = Prompter(BagOfWords(), ("a photo of {}.",))
    names, traits = ["Aus bus", "Cus dus"], [("red head", "blue legs", "long horns"), ()]
    single = write_prompts(prompter, names, traits, "prompts", [2])[0]
    assert single.prompts == (("Aus bus, red head", "Aus bus, blue legs"), ())
    joined = write_prompts(prompter, names, traits, "joined", [2])[0]
    assert joined.prompts == (("Aus bus, red head; blue legs",), ())
    alone = write_prompts(prompter, ["", ""], traits, "joined", [8])[0]
    assert alone.prompts == (("red head; blue legs; long horns",), ())
    assert single.left_out == joined.left_out == alone.left_out == (0, 0)


def test_what_does_not_fit_is_left_out_and_counted():
    # Start, end and `a photo of Aus bus,` are 7 tokens: 3 words are left.
    prompter = Prompter(BagOfWords(context_length=10), ("{}", "a photo of {}."))
    traits = [("red head", "very long and curved horns", "blue legs", "bald")]
    single = write_prompts(prompter, ["Aus bus"], traits, "prompts", [8])[0]
    assert single.prompts == (("Aus bus, red head", "Aus bus, blue legs", "Aus bus, bald"),)
    assert single.left_out == (1,)
    joined = write_prompts(prompter, ["Aus bus"], traits, "joined", [8])[0]
    assert joined.prompts == (("Aus bus, red head; bald",),)
    assert joined.left_out == (2,)
    counted = write_prompts(prompter, ["Aus bus"], traits, "joined", [1, 2, 3, 5])
    assert [variant.left_out for variant in counted] == [(0,), (1,), (2,), (2,)]
    nothing = write_prompts(prompter, ["Aus bus"], [traits[0][1:2]], "joined", [8])[0]
    assert (nothing.prompts, nothing.left_out) == (((),), (1,))


def test_a_class_is_the_mean_of_its_prompts_and_zero_without():
    encoder = BagOfWords()
    prompter = Prompter(encoder, ("{}",))
    names, traits = ["Aus", "Bus"], [("red", "blue"), ()]
    variants = write_prompts(prompter, names, traits, "prompts", [1, 2])
    one, two = embed_prompts(prompter, variants, 96, "traits")
    assert encoder.n_encoded == 2  # the first prompt is in both
    expected = encoder.embed_texts(["Aus, red", "Aus, blue"]).numpy()
    assert one[0] == pytest.approx(expected[0], abs=1e-6)
    assert two[0] == pytest.approx(expected.mean(axis=0) / np.linalg.norm(expected.mean(axis=0)), abs=1e-6)
    assert not one[1].any()
    assert not two[1].any()


def test_a_filler_is_as_long_as_its_trait_and_says_nothing_of_it():
    encoder = BagOfWords()
    traits = [("a large red head with many small black spots on it " * 5, "bald"), ()]
    fillers = write_fillers(encoder, traits)
    assert [[encoder.count_tokens(one) for one in ranked] for ranked in fillers] == [
        [encoder.count_tokens(one) for one in ranked] for ranked in traits
    ]
    assert not {"red", "head", "black", "spots", "bald"} & set(" ".join(fillers[0]).split())
