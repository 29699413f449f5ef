"""The describer `measured`: what it says, and that it says only what it measured."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
import re
from typing import get_args

import numpy as np
import pytest

from sae_traits.describers import Answer, Describer
from sae_traits.describers import measured as rules
from sae_traits.describers.colours import VOCABULARY
from sae_traits.describers.measured import MeasuredDescriber
from sae_traits.describers.pattern import Pattern
from sae_traits.schema import Attribute, Description, Measurement, Region
from sae_traits.traits.measures import measure


def region_of(x: float, y: float, width: float, height: float, side: int = 200) -> Region:
    ring = (x, y, x + width, y, x + width, y + height, x, y + height)
    share = width * height / side**2
    return Region(box=(x, y, width, height), polygons=(ring,), patches=(0,), area_fraction=share)


def describe(image: np.ndarray, region: Region) -> tuple[Answer, Description, list[tuple[str, str]]]:
    describer: Describer = MeasuredDescriber()
    answer = describer.look(image, region, measure(image, region))
    assert answer.error is None
    assert answer.usage == {}
    assert answer.description is not None
    return answer, answer.description, [(a.name, a.value) for a in answer.description.attributes]


def paint(color: tuple[int, int, int]) -> np.ndarray:
    return np.full((200, 200, 3), color, dtype=np.uint8)


def test_a_banded_region_is_put_into_words():
    image = paint((230, 130, 20))
    for x in range(0, 200, 20):
        image[:, x : x + 7] = 15
    _, description, attributes = describe(image, region_of(0, 40, 200, 60))
    assert description.text == "A large, elongated orange area with black markings, banded."
    assert attributes == [
        ("colour", "orange"),
        ("colour", "black"),
        ("pattern", "banded"),
        ("shape", "elongated"),
        ("size", "large"),
        ("texture", "contrasting"),
    ]
    assert description.part is None
    assert not description.is_background


def test_a_plain_region_has_no_marking():
    _, description, attributes = describe(paint((60, 160, 60)), region_of(10, 10, 20, 20))
    assert description.text == "A small, rounded green area, plain and even in lightness."
    assert [value for name, value in attributes if name == "colour"] == ["green"]


def test_every_colour_is_said_the_larger_first_and_none_twice():
    image = paint((20, 20, 20))
    image[:, :60] = 230, 130, 20
    image[:, 60:90] = 240, 240, 240
    _, description, attributes = describe(image, region_of(0, 0, 200, 200))
    assert [value for name, value in attributes if name == "colour"] == ["black", "orange", "white"]
    assert description.text == "A large, rounded black area with orange and white markings."
    assert "pattern" not in dict(attributes), "neither bands nor spots, and not plain either"
    assert MeasuredDescriber().withhold(description, "colour").text == "A large, rounded area."
    image[:, 60:90] = 20, 150, 90  # differs from the first green clearly, and is called green, too
    image[:, :60] = 100, 170, 40
    _, description, attributes = describe(image, region_of(0, 0, 200, 200))
    assert [value for name, value in attributes if name == "colour"] == ["black", "green"]
    assert description.text == "A large, rounded black area with green markings."


def test_the_same_pixels_get_the_same_words_and_the_raw_answer_holds_the_numbers():
    image = np.random.default_rng(5).integers(0, 256, (200, 200, 3)).astype(np.uint8)
    region = region_of(20, 30, 90, 70)
    first, second = describe(image, region)[0], describe(image, region)[0]
    assert first == second
    raw = json.loads(first.raw)
    assert Measurement(**raw["measurement"] | {"color_lab": tuple(raw["measurement"]["color_lab"])}) == measure(
        image, region, None
    )
    assert raw["area_fraction"] == region.area_fraction


@pytest.mark.parametrize("side", [1, 2, 7])
def test_a_tiny_region_is_described_too(side):
    _, description, attributes = describe(paint((20, 20, 20)), region_of(200 - side, 0, side, side))
    assert ("pattern", "plain") in attributes
    assert description.text.startswith("A small, rounded black area")


def test_every_combination_of_words_is_one_plain_sentence():
    combinations = itertools.product(
        [word for _, word in rules.SIZES],
        [word for _, word in rules.SHAPES],
        [None, *VOCABULARY],
        [(), ("black",), ("orange", "dark blue")],
        get_args(Pattern),
        [word for _, word in rules.TEXTURES],
        [None, "end", "halfway to a side"],
    )
    form = re.compile(
        r"A (small|medium|large), (rounded|oval|elongated)( [a-z]+)?( [a-z]+)? area"
        r"( with (black|orange and dark blue) markings)?"
        r"(, (banded|spotted)|, (plain and (even|uneven)|contrasting) in lightness)?"
        r"(, at an end of the organism|, halfway from the organism's centre to a side)?\."
    )
    for size, shape, main, further, pattern, texture, place in combinations:
        named = {"size": size, "shape": shape, "pattern": pattern, "texture": texture, "place": place}
        colors = (main, *further) if main else ()
        said = [("colour", color) for color in colors] + list(named.items())
        sentence = rules._sentence([Attribute(name, value) for name, value in said if value is not None])
        assert form.fullmatch(sentence), sentence


def on_animal(distance: float | None, along: float | None = None, share: float = 0.05) -> Measurement:
    return dataclasses.replace(
        measure(paint((20, 20, 20)), region_of(10, 10, 20, 20)),
        animal_source="background",
        share_of_animal=share,
        distance_from_centre=distance,
        position_along_axis=along,
    )


@pytest.mark.parametrize(
    ("measurement", "place"),
    [
        (on_animal(0.1, 0.1), "centre"),
        (on_animal(0.5, 0.5), "halfway to an end"),
        (on_animal(0.5, 0.2), "halfway to a side"),
        (on_animal(0.5), "halfway"),
        (on_animal(0.9, 0.9), "end"),
        (on_animal(0.9, 0.1), "side"),
        (on_animal(1.0), "edge"),
        (on_animal(0.1, 0.1, share=0.7), "most of the organism"),
        (on_animal(None, share=0.0), None),  # off the animal of a mask
        (measure(paint((20, 20, 20)), region_of(10, 10, 20, 20)), None),
    ],
)
def test_the_place_is_said_where_the_animal_is_known(measurement, place):
    answer = MeasuredDescriber().look(paint((20, 20, 20)), region_of(10, 10, 20, 20), measurement)
    assert answer.description is not None
    said = {attribute.name: attribute.value for attribute in answer.description.attributes}
    assert said.get("place") == place
    assert answer.description.text.endswith(f", {rules.PLACES[place]}." if place else "even in lightness.")


def test_the_size_is_that_beside_the_animal_where_it_is_known():
    image, region = paint((20, 20, 20)), region_of(10, 10, 60, 60)  # 0.09 of the image
    for share, size in ((0.05, "small"), (0.2, "medium"), (0.5, "large")):
        answer = MeasuredDescriber().look(image, region, on_animal(0.5, 0.5, share))
        assert answer.description is not None
        assert f"A {size}, " in answer.description.text


def test_a_description_is_said_without_what_is_withheld():
    image = paint((230, 130, 20))
    for x in range(0, 200, 20):
        image[:, x : x + 7] = 15
    _, description, _ = describe(image, region_of(0, 40, 200, 60))
    withheld = MeasuredDescriber().withhold(description, "colour")
    assert withheld.text == "A large, elongated area, banded."
    assert {attribute.name for attribute in withheld.attributes} == {"pattern", "shape", "size", "texture"}
    assert MeasuredDescriber().withhold(description, "part") == description


def test_model_and_prompt_name_the_version_and_the_hash_of_the_rules():
    describer = pickle.loads(pickle.dumps(MeasuredDescriber()))
    assert describer.name == "measured"
    assert describer.model == f"sae-traits-measured@{rules.RULES_VERSION}"
    assert re.fullmatch(rf"rules-{rules.RULES_VERSION} sha256:[0-9a-f]{{16}}", describer.prompt)


def test_rules_do_not_change_without_a_new_version():
    """Whoever changes a threshold, a word or the vocabulary raises RULES_VERSION and adds the new hash here."""
    hashes = {"5": "c397a6432589fbd6"}
    assert MeasuredDescriber().prompt == f"rules-{rules.RULES_VERSION} sha256:{hashes[rules.RULES_VERSION]}"


def test_the_rules_that_are_hashed_hold_the_vocabulary_and_the_thresholds():
    assert rules._constants(vars(rules.colours))["VOCABULARY"] == VOCABULARY
    assert "BAND_COHERENCE" in rules._constants(vars(rules.pattern))
    assert "COLOR_RADIUS" in rules._constants(vars(rules.surface))
