"""Prompts: the words fit the pictures, the hash follows the words, and no species is named unless asked."""

import itertools
from typing import get_args

import pytest

from sae_traits.describers.answers import OF_REGIONS
from sae_traits.describers.prompts import FILES, VERSIONS, Prompt, PromptName, Show

EVERY = list(itertools.product(get_args(PromptName), get_args(Show), (False, True)))
PICTURES = ("data:image/jpeg;base64,AA==",)


def load(name="region", show="overlay", name_species=False) -> Prompt:
    return Prompt.load(name, show=show, name_species=name_species)


def words(messages) -> str:
    return "\n".join(part["text"] for message in messages for part in message["content"] if part["type"] == "text")


@pytest.mark.parametrize(("name", "show", "name_species"), EVERY)
def test_every_prompt_is_whole_and_asks_for_the_answer_that_is_read(name, show, name_species):
    prompt_words = words(load(name, show, name_species).messages([PICTURES, PICTURES], "Apis mellifera"))
    assert "$" not in prompt_words
    assert all(f'"{field}"' in prompt_words for field in OF_REGIONS.schema["properties"])
    assert all(aspect in prompt_words for aspect in ("shape", "size", "colour", "texture", "marking", "background"))
    assert ("Apis" in prompt_words) is name_species


def test_different_words_have_different_labels():
    labels = [load(*options).label for options in EVERY if options[:2] not in {("whole", "crop"), ("whole", "both")}]
    assert len(set(labels)) == len(labels)


def test_the_label_does_not_depend_on_species_or_number_of_images():
    prompt = load("agreement", name_species=True)
    before = prompt.label
    prompt.messages([PICTURES] * 3, "Apis mellifera")
    assert prompt.label == before
    assert before.startswith("agreement-1 sha256:")


def test_the_words_come_first_and_the_name_last_so_that_servers_can_keep_the_beginning():
    prompt = load(name_species=True)
    first, second = (
        prompt.messages([PICTURES], species)[0]["content"] for species in ("Apis mellifera", "Bombus terrestris")
    )
    assert [part["type"] for part in first] == ["text", "image_url", "text"]
    assert first[:2] == second[:2]
    assert first[2] != second[2]


def test_pictures_of_several_images_are_numbered():
    content = load("agreement", "both").messages([PICTURES * 2, PICTURES * 2], "Apis mellifera")[0]["content"]
    kinds = [part["text"] if part["type"] == "text" else "picture" for part in content[1:]]
    assert kinds == ["Image 1:", "picture", "picture", "Image 2:", "picture", "picture"]
    assert "2 images" in content[0]["text"]


def test_there_are_no_files_that_no_one_reads():
    used = {f"{name}-{version}.md" for name, version in VERSIONS.items()}
    assert {path.name for path in FILES.iterdir() if path.suffix == ".md"} >= used
