"""Names that people give latents: read, put into traits, and refused for another SAE."""

import json
from dataclasses import replace

import pytest
from release.small_releases import LATENTS, odd_photographs, traits_of

from sae_traits.errors import ConfigError
from sae_traits.traits.latent_names import LatentNames, named_latents, named_traits, sentence_with_part


def no_hub(repository, revision):
    raise AssertionError(f"nobody asks for {repository}@{revision}")


def test_names_come_back_as_they_were_saved(tmp_path):
    names = LatentNames("local@sha256:abc", {7: "hind wing", 550: "abdomen", 8: ""})
    names.save(tmp_path / "names.json")
    assert LatentNames.read(tmp_path / "names.json") == LatentNames(
        "local@sha256:abc", {7: "hind wing", 550: "abdomen"}
    )


def test_a_table_of_names_needs_no_sae(tmp_path):
    (tmp_path / "names.csv").write_text("\ufefflatent,name\n7, hind\twing \n8,\n", encoding="utf-8")
    assert LatentNames.read(tmp_path / "names.csv") == LatentNames(None, {7: "hind wing", 8: ""})


def test_a_table_is_read_as_spreadsheets_write_it_and_one_without_names_is_told(tmp_path):
    file = tmp_path / "names.csv"
    file.write_bytes("Latent;Name;SAE\n7;Flügel;\n".encode("cp1252"))
    assert LatentNames.read(file) == LatentNames(None, {7: "Flügel"})
    file.write_text("number,name\n7,wing\n")
    with pytest.raises(ConfigError, match="it has no column latent"):
        LatentNames.read(file)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"format": "something else", "sae": null, "names": {}}',
        json.dumps({"format": "sae-traits names", "sae": None, "names": {"-1": "wing"}}),
        json.dumps({"format": "sae-traits names", "sae": None, "names": {"1": 5}}),
        json.dumps({"format": "sae-traits names", "sae": None, "names": {"1": "x" * 81}}),
    ],
)
def test_what_are_no_names_is_refused_with_what_to_give(tmp_path, content):
    (tmp_path / "names.json").write_text(content)
    with pytest.raises(ConfigError, match="give the file that an atlas exported"):
        LatentNames.read(tmp_path / "names.json")


def test_a_table_of_names_of_two_saes_is_refused(tmp_path):
    (tmp_path / "names.csv").write_text("latent,name,sae\n7,wing,a/b@1\n8,leg,a/c@1\n")
    with pytest.raises(ConfigError, match="several SAEs"):
        LatentNames.read(tmp_path / "names.csv")


@pytest.mark.parametrize(
    ("sae", "expected"),
    [
        (None, True),
        ("local@sha256:abc", True),
        ("org/sae@sha256:abc", True),
        ("local@sha256:abd", False),
        ("org/sae@v1", True),
        ("org/sae@v2", False),
        ("pca", False),
    ],
)
def test_names_are_of_the_sae_with_the_same_weights(sae, expected):
    def hash_of(repository, revision):
        return {("org/sae", "v1"): "abc", ("org/sae", "v2"): "abd"}[repository, revision]

    assert LatentNames(sae, {}).are_of("here@sha256:abc", "abc", hash_of) is expected


def test_the_name_by_which_the_run_calls_its_sae_needs_no_hub():
    assert LatentNames("org/sae@v1", {}).are_of("org/sae@v1", "abc", no_hub)


def test_a_name_fills_the_part_that_nobody_has_said_and_begins_the_sentence(tmp_path):
    trait, *_ = traits_of(replace(odd_photographs(tmp_path, lambda name: None)), 1)
    said = replace(trait, description=replace(trait.description, part="leg"))
    other = replace(trait, candidate=replace(trait.candidate, latent=1))
    named, kept, bare = (one.description for one in named_traits([trait, said, other], {0: "abdomen"}))
    assert (named.part, named.part_source, named.text) == ("abdomen", "named", "Abdomen: a small area.")
    assert (kept.part, kept.part_source, kept.text) == ("leg", "describer", "A small area.")
    assert (bare.part, bare.part_source, bare.text) == (None, None, "A small area.")


def test_chosen_latents_carry_their_names():
    assert [one.name for one in named_latents(LATENTS, {3: "abdomen"})] == ["abdomen"]
    assert [one.name for one in named_latents(LATENTS, {})] == [None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Black with yellow bands.", "Abdomen: black with yellow bands."),
        ("A black area.", "Abdomen: a black area."),
        ("DNA-like stripes.", "Abdomen: DNA-like stripes."),
        ("", "Abdomen: "),
    ],
)
def test_a_sentence_begins_with_the_part(text, expected):
    assert sentence_with_part("abdomen", text) == expected
