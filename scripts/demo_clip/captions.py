"""What is written about a drawn image: true traits in words, `measured` sentences, names, and all of these mixed.

Names are dealt anew to every caption, so that they are spelt but carry nothing; a caption may be a name alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from demo_clip.species import MAIN_AND_SECOND, invented_name
from sae_traits.evaluation.text import as_phrase
from sae_traits.testbench.drawn.world import Appearance, DrawnSpecies

N_NAMES = 4000
"""Invented names that a deck holds; each is dealt to many captions of many species."""
CONTENTS = {"name": 0.05, "sentence": 0.3, "sentences": 0.4, "words": 0.15, "words and sentence": 0.1}
"""Share of the captions that say this."""
_CONTENT_LIMITS = np.cumsum(list(CONTENTS.values()))[:-1]
NAMED = 0.6
"""Share of the captions with traits that begin with a name."""
PHRASED = 0.7
"""Share of the captions whose sentences stand as zero-shot evaluation writes them, without full stops."""
TEMPLATED = 0.3
"""Share of the captions in a template."""
TEMPLATES = (
    "a photo of {}.",
    "a photo of a {}.",
    "a photo of the {}.",
    "a drawing of a {}.",
    "a close-up photo of the {}.",
    "a bright photo of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of a {}.",
    "an illustration of {}.",
    "itap of a {}.",
)
_AFTER_NAME = (", ", ", ", ": ", "; ", " with ", ". ", " ")
_BETWEEN = ("; ", "; ", "; ", " ", ", ")
_PLURAL = {"elytra", "forewings", "hindwings"}
_MANNERS = {
    "plain": ("", ", plain"),
    "banded": (", banded in {}", " with {} bands"),
    "spotted": (", spotted with {}", " with {} spots"),
}


class CaptionWriter:
    """Writes captions; all that varies comes from the generator that each call is given, but for the deck of names."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        orders = [invented_name(rng, "order") for _ in range(50)]
        families = [invented_name(rng, "family") for _ in range(400)]
        self._names: list[str] = []
        for index in range(N_NAMES):
            binomial = f"{invented_name(rng, 'genus')} {invented_name(rng, 'species')}"
            ranks = f"{orders[index % 50]} {families[index % 400]} {binomial}"
            self._names.append(ranks if index % 5 == 0 else binomial)

    def name(self, rng: np.random.Generator) -> str:
        """An invented binomial, one in five below its order and family."""
        return self._names[rng.integers(N_NAMES)]

    def caption(self, species: DrawnSpecies, sentences: Sequence[str], rng: np.random.Generator) -> str:
        """One caption of an image.

        Args:
            species: what it is; only its looks are used.
            sentences: what `measured` said of regions of an image of the species, at least one.
            rng: of the choice of contents and wording.
        """
        content = tuple(CONTENTS)[int(np.searchsorted(_CONTENT_LIMITS, rng.random(), side="right"))]
        if content == "name":
            text = self.name(rng)
        else:
            text = self._traits(content, species, sentences, rng)
            if rng.random() < NAMED:
                text = self.name(rng) + _pick(_AFTER_NAME, rng) + text
        if rng.random() < TEMPLATED:
            text = _pick(TEMPLATES, rng).format(text)
        return text

    def _traits(self, content: str, species: DrawnSpecies, sentences: Sequence[str], rng: np.random.Generator) -> str:
        parts = [sentences[i] for i in rng.permutation(len(sentences))[: rng.integers(2, 5)]]
        if content == "words":
            return in_words(species, rng)
        if content == "sentence":
            parts = parts[:1]
        elif content == "words and sentence":
            parts = [in_words(species, rng), parts[0]]
        if rng.random() < PHRASED:
            parts = [as_phrase(part) for part in parts]
        return _pick(_BETWEEN, rng).join(parts)


def in_words(species: DrawnSpecies, rng: np.random.Generator) -> str:
    """True traits of a species, for example: a beetle with orange elytra, banded in black and a red pronotum."""
    main, second = MAIN_AND_SECOND[species.genus.plan]
    phrases = [_phrase(main, species.parts[main], rng), _phrase(second, species.parts[second], rng)]
    if "body" in species.parts and rng.random() < 0.3:
        phrases.append(_phrase("body", species.parts["body"], rng))
    if rng.random() < 0.3:
        phrases = [phrases[rng.integers(len(phrases))]]
    elif rng.random() < 0.3:
        phrases = phrases[::-1]
    animal = _pick(("", f"a {species.genus.plan} with ", f"{species.genus.plan}, "), rng)
    return animal + (" and " if len(phrases) == 2 else ", ").join(phrases)


def _phrase(part: str, look: Appearance, rng: np.random.Generator) -> str:
    shape = f"{look.shape} " if look.shape is not None and rng.random() < 0.6 else ""
    article = "" if part in _PLURAL else "an " if (shape or look.colour)[0] in "aeiou" else "a "
    return f"{article}{shape}{look.colour} {part}" + _pick(_MANNERS[look.pattern], rng).format(look.marks)


def _pick(values: Sequence[str], rng: np.random.Generator) -> str:
    """One of the values; rng.choice takes ten times as long."""
    return values[int(rng.integers(len(values)))]
