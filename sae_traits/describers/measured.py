"""The describer `measured`: reads colour, pattern, shape and size off the pixels and says only what it measured.

It needs no model, cannot know which part of the organism it looks at, and is the baseline that a model has to beat.
Where the animal is known it says where on it the region lies, and how large it is beside it. It knows no species: how
often something is found in which species is said where species are compared, not in its sentences, of which prompts are
made.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sae_traits.config.describer import Measured
from sae_traits.describers import colours, pattern, surface
from sae_traits.describers.base import Answer, Ask, Question, TokenEstimate
from sae_traits.describers.pattern import pattern_of
from sae_traits.describers.surface import color_clusters, cut_out
from sae_traits.schema import Attribute, Description, Measurement, Region

RULES_VERSION = "5"
"""Raised whenever the same pixels could get other words; a test holds each version to its hash."""

SIZES = ((0.03, "small"), (0.12, "medium"), (float("inf"), "large"))
"""Share of the image's area below which a region is called so."""
SIZES_ON_ANIMAL = ((0.1, "small"), (0.4, "medium"), (float("inf"), "large"))
"""Share of the animal's area below which a region is called so, where the animal is known."""
MOST_OF_ANIMAL = 0.5
"""A region of a larger share of the animal has no place on it."""
DISTANCES = ((1 / 3, "centre"), (2 / 3, "halfway"), (float("inf"), "edge"))
"""Distance from the animal's middle, 0, towards its edge, 1, below which a region lies there; each is a third."""
TOWARDS_END = 0.7
"""A region lies towards an end, not a side, when its place along the longest axis is more than this share of its
distance from the middle: the cosine of 45 degrees."""
PLACES = {
    "most of the organism": "over most of the organism",
    "centre": "in the centre of the organism",
    "halfway": "halfway from the organism's centre to its edge",
    "halfway to an end": "halfway from the organism's centre to an end",
    "halfway to a side": "halfway from the organism's centre to a side",
    "edge": "at the organism's edge",
    "end": "at an end of the organism",
    "side": "at a side of the organism",
}
"""A place as an attribute, and in a sentence. Ends are those of the animal's longest axis: of a butterfly with spread
wings, the wing tips."""
SHAPES = ((1.6, "rounded"), (2.5, "oval"), (float("inf"), "elongated"))
"""Elongation below which a region is called so."""
TEXTURES = ((5.0, "even"), (12.0, "uneven"), (float("inf"), "contrasting"))
"""Standard deviation of CIELAB lightness below which a region is called so."""


class MeasuredDescriber:
    """A describer without a model, whose work is all done where an image is looked at, in the worker processes."""

    name = "measured"
    model = f"sae-traits-measured@{RULES_VERSION}"
    names_species = False
    reads_masks = True
    images_per_description = 1
    batch_size = 16
    in_flight = 1

    @classmethod
    def of(cls, config: Measured) -> Self:
        return cls()

    @property
    def prompt(self) -> str:
        """Version and hash of the vocabulary and of every threshold."""
        return f"rules-{RULES_VERSION} sha256:{_rules_hash()}"

    @property
    def settings(self) -> dict[str, Any]:
        return {}  # the hash of the rules says it all

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Ask]:
        """There is nothing to get ready: the answers were made while looking."""

        async def hand_over(questions: Sequence[Question]) -> list[Answer]:
            return [answer for question in questions for answer in question.looks]

        yield hand_over

    def estimate_tokens(self, images: Sequence[tuple[tuple[int, int], Region]], told: str = "") -> TokenEstimate:
        return TokenEstimate(prompt=0, answer=0)

    def look(
        self,
        image: NDArray[np.uint8],
        region: Region,
        measurement: Measurement,
        mask: NDArray[np.bool_] | None = None,
    ) -> Answer:
        """Looking is describing: the measurement, the pattern and every colour are put into words.

        The same pixels get the same words. The first `colour` is the one that covers most.
        """
        cutout = cut_out(image, region, mask)
        _, *further = color_clusters(cutout.lab)
        color_names = dict.fromkeys([measurement.color_name, *(colours.color_name(color.lab) for color in further)])
        seen, share = pattern_of(cutout), measurement.share_of_animal
        # No bands and no spots were found: beside several colours `plain` would read as if there were one.
        is_silent = seen == "plain" and len(color_names) > 1
        named = {
            "pattern": None if is_silent else seen,
            "place": place_of(share, measurement.distance_from_centre, measurement.position_along_axis),
            "shape": _word(SHAPES, measurement.elongation),
            "size": _word(SIZES, region.area_fraction) if share is None else _word(SIZES_ON_ANIMAL, share),
            "texture": _word(TEXTURES, measurement.texture_contrast),
        }
        raw = {
            "measurement": asdict(measurement),
            "area_fraction": region.area_fraction,
            "pattern": seen,
            "further_colors": [asdict(color) for color in further],
        }
        said = [("colour", name) for name in color_names] + list(named.items())
        attributes = tuple(Attribute(name, value) for name, value in said if value is not None)
        description = Description(text=_sentence(attributes), attributes=attributes)
        return Answer(description=description, raw=json.dumps(raw, sort_keys=True))

    def withhold(self, description: Description, name: str) -> Description:
        """The description without the attributes of a name, of which its sentence is made."""
        attributes = tuple(attribute for attribute in description.attributes if attribute.name != name)
        return replace(description, text=_sentence(attributes), attributes=attributes)


def place_of(share: float | None, distance: float | None, along: float | None) -> str | None:
    """One of PLACES: where on the animal a region lies; None where that is not known.

    Args:
        share: of the animal in the region.
        distance: of its middle from the animal's, 0, towards its edge, 1.
        along: the same along the longest axis; None where there is none.
    """
    if distance is None or share is None:
        return None
    if share > MOST_OF_ANIMAL:
        return "most of the organism"
    word = _word(DISTANCES, distance)
    if word == "centre" or along is None:
        return word
    towards = "end" if along > TOWARDS_END * distance else "side"
    return towards if word == "edge" else f"{word} to {'an' if towards == 'end' else 'a'} {towards}"


def _word(scale: tuple[tuple[float, str], ...], value: float) -> str:
    return next(word for limit, word in scale if value < limit)


def _sentence(attributes: Sequence[Attribute]) -> str:
    """For example: A large, elongated orange area with black markings, banded, at an end of the organism."""
    named = {attribute.name: attribute.value for attribute in attributes}
    main, *further = [one.value for one in attributes if one.name == "colour"] or [""]
    said = f"A {named['size']}, {named['shape']}{main and f' {main}'} area"
    said += f" with {' and '.join(further)} markings" if further else ""
    if (seen := named.get("pattern")) == "plain":
        said += f", {'' if named['texture'] == 'contrasting' else 'plain and '}{named['texture']} in lightness"
    elif seen:
        said += f", {seen}"
    return f"{said}, {PLACES[named['place']]}." if "place" in named else f"{said}."


@cache
def _rules_hash() -> str:
    """First 16 hexadecimal digits of the sha256 of all that decides the words, apart from code."""
    modules = {module.__name__.rsplit(".", 1)[1]: _constants(vars(module)) for module in (colours, surface, pattern)}
    places = [MOST_OF_ANIMAL, DISTANCES, TOWARDS_END, PLACES]
    scales = [SIZES, SIZES_ON_ANIMAL, SHAPES, TEXTURES]
    rules = modules | {"scales": scales, "places": places, "version": RULES_VERSION}
    return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()[:16]


def _constants(namespace: Mapping[str, object]) -> dict[str, object]:
    return {k: v for k, v in namespace.items() if k.isupper() and isinstance(v, int | float | dict)}
