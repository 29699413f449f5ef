"""The describer `measured`: reads colour, pattern, shape and size off the pixels and says only what it measured.

It needs no model, cannot know which part of the organism it looks at, and is the baseline that a model has to beat.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sae_traits.config.describer import Measured
from sae_traits.describers import colours, pattern, surface
from sae_traits.describers.base import Answer, Ask, Look, Question, TokenEstimate
from sae_traits.describers.pattern import pattern_of
from sae_traits.describers.surface import color_clusters, cut_out
from sae_traits.schema import Attribute, Description, Measurement, Region

RULES_VERSION = "2"
"""Raised whenever the same pixels could get other words; a test holds each version to its hash."""

SIZES = ((0.03, "small"), (0.12, "medium"), (float("inf"), "large"))
"""Share of the image's area below which a region is called so."""
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

    @property
    def look(self) -> Look:
        """Looking is describing."""
        return self.describe

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Ask]:
        """There is nothing to get ready: the answers were made while looking."""

        async def hand_over(questions: Sequence[Question]) -> list[Answer]:
            return [answer for question in questions for answer in question.looks]

        yield hand_over

    def estimate_tokens(self, images: Sequence[tuple[tuple[int, int], Region]]) -> TokenEstimate:
        return TokenEstimate(prompt=0, answer=0)

    def describe(
        self,
        image: NDArray[np.uint8],
        region: Region,
        measurement: Measurement,
        mask: NDArray[np.bool_] | None = None,
    ) -> Answer:
        """Put the measurement, the pattern and a second colour into words; the same pixels get the same words."""
        cutout = cut_out(image, region, mask)
        _, marking = color_clusters(cutout.lab)
        marking_name = None if marking is None else colours.color_name(marking.lab)
        named = {
            "colour": measurement.color_name,
            "marking colour": None if marking_name == measurement.color_name else marking_name,
            "pattern": pattern_of(cutout),
            "shape": _word(SHAPES, measurement.elongation),
            "size": _word(SIZES, region.area_fraction),
            "texture": _word(TEXTURES, measurement.texture_contrast),
        }
        raw = {
            "measurement": asdict(measurement),
            "area_fraction": region.area_fraction,
            "pattern": named["pattern"],
            "marking": None if marking is None else asdict(marking),
        }
        attributes = tuple(Attribute(name, value) for name, value in named.items() if value is not None)
        description = Description(text=_sentence(named), attributes=attributes)
        return Answer(description=description, raw=json.dumps(raw, sort_keys=True))


def _word(scale: tuple[tuple[float, str], ...], value: float) -> str:
    return next(word for limit, word in scale if value < limit)


def _sentence(named: Mapping[str, str | None]) -> str:
    """For example: A large, elongated orange area with black markings, banded."""
    area = f"A {named['size']}, {named['shape']} {named['colour']} area"
    if marking := named["marking colour"]:
        area += f" with {marking} markings"
    if named["pattern"] != "plain":
        return f"{area}, {named['pattern']}."
    # `plain` says that no pattern repeats; beside markings it would read as if there were none.
    return f"{area}." if marking else f"{area}, plain and {named['texture']} in lightness."


@cache
def _rules_hash() -> str:
    """First 16 hexadecimal digits of the sha256 of all that decides the words, apart from code."""
    modules = {module.__name__.rsplit(".", 1)[1]: _constants(vars(module)) for module in (colours, surface, pattern)}
    rules = modules | {"scales": [SIZES, SHAPES, TEXTURES], "version": RULES_VERSION}
    return hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()[:16]


def _constants(namespace: Mapping[str, object]) -> dict[str, object]:
    return {k: v for k, v in namespace.items() if k.isupper() and isinstance(v, int | float | dict)}
