"""Answers of models: whole ones are read wherever they stand, and what is no answer is refused with a reason."""

import json

import pytest
from hypothesis import given
from hypothesis.strategies import booleans, builds, characters, lists, none, text

from sae_traits.describers.answers import (
    MAX_ATTRIBUTES,
    OF_REGIONS,
    AnswerError,
    RegionAnswer,
    SaidAttribute,
    read_answer,
    schema_hash,
)
from sae_traits.schema import Attribute, Description

ANSWER = {
    "is_background": False,
    "part": "forewing",
    "attributes": [{"name": "Color", "value": "dark  brown"}, {"name": "marking", "value": "none"}],
    "text": "A dark brown forewing.",
}
DESCRIPTION = Description(
    text="A dark brown forewing.", part="forewing", attributes=(Attribute("colour", "dark brown"),)
)


@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "Sure!\n```json\n{}\n```\nI hope this helps {{x}}.",
        "{{not json}} {}",
        '{{"a": 1}} {}',
        "<think>hm</think>{}",
        '{{"answer": {}}}',
        '{{"name": "describe", "arguments": {}}}',
    ],
)
def test_the_object_is_found_wherever_it_stands(around):
    assert read_answer(around.format(json.dumps(ANSWER))) == DESCRIPTION


def test_an_object_that_was_encoded_twice_is_read():
    assert read_answer(json.dumps(json.dumps(ANSWER))) == DESCRIPTION


def test_lines_are_read_where_there_is_no_object():
    answer = "**Background**: No\n- Part: forewing\n- Color: dark brown\n* Texture: hairy\nText: A brown forewing.\nBye"
    with pytest.raises(AnswerError):
        read_answer(answer.replace("Background", "Ground"))
    description = read_answer(answer)
    assert description.text == "A brown forewing."
    assert description.part == "forewing"
    assert description.attributes == (Attribute("colour", "dark brown"), Attribute("texture", "hairy"))
    assert not description.is_background


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "no JSON object"),
        ("I cannot see a picture.", "no JSON object"),
        (json.dumps(ANSWER)[:60], "no JSON object"),
        (json.dumps(ANSWER | {"text": " "}), "sentence is empty"),
        (json.dumps(ANSWER | {"text": "x" * 500}), "500 characters"),
        (json.dumps(ANSWER | {"is_background": "perhaps"}), "is_background"),
        (json.dumps(ANSWER | {"species": "Apis"}), "species"),
        (json.dumps({k: v for k, v in ANSWER.items() if k != "part"}), "part"),
        (json.dumps(ANSWER | {"attributes": ANSWER["attributes"][:1] * (MAX_ATTRIBUTES + 1)}), "attributes"),
        ("{" * 5000, "no JSON object"),
        (f'{json.dumps(ANSWER)[:-1]}, "n": {"9" * 5000}}}', "a number of thousands of digits"),
        *((json.dumps(ANSWER | {"text": nothing}), "sentence is empty") for nothing in ("N/A", "None.", "…", "-")),
    ],
)
def test_what_is_no_answer_is_refused_with_a_reason(answer, reason):
    with pytest.raises(AnswerError, match=reason):
        read_answer(answer)


def test_background_needs_no_words():
    assert read_answer(json.dumps(ANSWER | {"is_background": True, "text": "", "part": None})).is_background


@pytest.mark.parametrize("part", [None, "", "unknown", "N/A"])
def test_a_part_that_is_not_known_is_null(part):
    assert read_answer(json.dumps(ANSWER | {"part": part})).part is None


words = text(characters(exclude_categories=("C",)), min_size=1, max_size=30).filter(str.strip)


@given(
    answer=builds(
        RegionAnswer,
        is_background=booleans(),
        part=none() | words,
        attributes=lists(builds(SaidAttribute, name=words, value=words), max_size=4),
        text=words.filter(lambda said: any(map(str.isalnum, said)) and len(said.strip(" .")) > 11),
    )
)
def test_whatever_fits_the_schema_is_read(answer):
    description = read_answer(answer.model_dump_json())
    assert description.is_background == answer.is_background
    assert description.text == " ".join(answer.text.split())
    assert len(description.attributes) <= len(answer.attributes)


@given(noise=text(max_size=200))
def test_no_text_at_all_breaks_the_reader(noise):
    with pytest.raises(AnswerError, match=r"."):
        read_answer(noise)


def test_the_schema_has_not_changed_so_that_calls_of_earlier_runs_are_not_asked_again():
    assert schema_hash(OF_REGIONS.schema) == "156593d21ee1ca6a"


def test_the_schema_asks_for_every_field_and_allows_no_other():
    schema = OF_REGIONS.schema
    assert list(schema["properties"]) == ["is_background", "part", "attributes", "text"]
    assert schema["required"] == ["is_background", "part", "attributes", "text"]
    assert schema["additionalProperties"] is False


RIGHT = json.dumps(ANSWER)
DRAFT = json.dumps(ANSWER | {"text": "A draft."})


@pytest.mark.parametrize(
    "written",
    [
        "<think>Maybe {draft}? No.</think>\n{right}",
        "Maybe {draft}? No.\n</think>\n{right}",
        "<think>one <think>{draft}</think> two {draft}</think> {right}",
        "<thinking>{draft}</thinking>{right}",
        "<Reasoning effort='low'>{draft}</reasoning>{right}",
        "[THINK]{draft}[/THINK]{right}",
        "◁think▷{draft}◁/think▷{right}",
        "<|begin_of_thought|>{draft}<|end_of_thought|><|begin_of_solution|>{right}<|end_of_solution|>",
        "<|START_THINKING|>{draft}<|END_THINKING|>{right}",
        "<unused94>thought {draft}<unused95>{right}",
        "<|channel|>analysis<|message|>{draft}<|end|><|start|>assistant<|channel|>final<|message|>{right}<|return|>",
        "<mm:think>{draft}</mm:think>{right}",
        "{right}<longcat_think>Or rather {draft}</longcat_think>",
        "<|channel>thought\n{draft}<channel|>{right}",
        "<think>{draft}</think >{right}",
        "<|channel|>final <|constrain|>json<|message|>{right}",
        "<|channel|>analysis<|message|>{draft}<|start|>assistant<|channel|>final <|constrain|>json<|message|>{right}",
        "analysis{draft}assistantfinal{right}",
        "{right}<think>Or rather {draft}",
        "First {draft}, on a second look {right}",
    ],
)
def test_a_draft_is_not_the_answer(written):
    assert read_answer(written.replace("{draft}", DRAFT).replace("{right}", RIGHT)) == DESCRIPTION


@pytest.mark.parametrize(
    "written",
    [
        *("<think>{draft}", "<think>{draft}</think>", "<|channel|>analysis<|message|>{draft}<|end|>"),
        *("<seed:think>{draft}", "<mm:think>{draft}</mm:think>", "<|channel>thought\n{draft}<channel|>"),
    ],
)
def test_thinking_alone_is_no_answer(written):
    with pytest.raises(AnswerError, match="the model thought"):
        read_answer(written.replace("{draft}", DRAFT))


def test_line_feeds_in_strings_and_trailing_commas_are_read():
    assert read_answer(RIGHT.replace("brown forewing", "brown\n\tforewing")) == DESCRIPTION
    assert read_answer(f"{RIGHT[:-1]},}}".replace('"}]', '",},]')) == DESCRIPTION


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (RIGHT.replace("{", "{ // seen at once\n", 1), "Expecting property name enclosed in double quotes"),
        (RIGHT.replace('"', "'"), "Expecting property name enclosed in double quotes"),
        (RIGHT.replace(': "forewing"', " forewing"), "Expecting ':' delimiter"),
    ],
)
def test_the_reason_for_broken_json_is_what_json_says(broken, reason):
    with pytest.raises(AnswerError, match=f"no JSON object in the answer .*{reason}"):
        read_answer(broken)


def test_what_nobody_can_see_is_taken_out():
    hidden = "A\x1b[31m dark\u202e \x07brown\u2066\x1b]0;title\x07 fore\u200bwing\x9b0m."
    found = read_answer(json.dumps(ANSWER | {"text": hidden, "part": "fore\x00wing\ufeff"}))
    assert (found.text, found.part) == (DESCRIPTION.text, "forewing")
    with pytest.raises(AnswerError, match="sentence is empty"):
        read_answer(json.dumps(ANSWER | {"text": "\u202e\x1b[0m"}))
    assert read_answer(json.dumps(ANSWER | {"text": "می\u200cخواهم"})).text == "می\u200cخواهم"
