"""What is said of an image: names in BioCLIP's ways, traits, captions; and which of it a step says."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sae_traits.config.benchmark import TextType
from sae_traits.evaluation.text import as_phrase, name_class
from sae_traits.schema import Taxon

Texts = Mapping[str, tuple[str, ...]]
"""Type of text (one of PAIR_TEXTS) -> all texts of that type, as the model reads them; a type without any is absent."""

MAX_COUNTED = 100_000
"""Images whose texts are counted: reading millions of texts would take minutes."""
_OF_NAMES: tuple[TextType, ...] = ("sci", "com", "taxon", "sci_com", "taxon_com")


@dataclass(frozen=True, slots=True)
class CutTexts:
    """Texts of a type that a model does not read to their end."""

    n_cut: int
    n_texts: int
    """Different ones that were looked at."""


def name_texts(taxon: Taxon, template: str, common_names: Mapping[str, str]) -> Texts:
    """The five texts of a name, in a template.

    Without a common name they are the texts without it, as in BioCLIP's data; without a species there are none.
    """
    if taxon.species is None:
        return {}
    return {kind: (template.replace("{}", name_class(taxon, kind, common_names)),) for kind in _OF_NAMES}


def trait_text(species: str | None, trait: str) -> str:
    """An image's species with one of its traits.

    Source: Pahuja et al. 2026, utils/create_train_json.py:51.
    """
    return f"A photo of {species} with {as_phrase(trait)}" if species else trait


def count_cut(
    texts: Sequence[Texts], types: Sequence[str], n_tokens: Callable[[str], int], max_tokens: int
) -> dict[str, CutTexts]:
    """How many different texts of each type have more tokens than a model reads; types without any are left out.

    Of more than MAX_COUNTED images, equally spaced ones are looked at.
    """
    some = texts[:: -(-len(texts) // MAX_COUNTED)]
    cut = {}
    for kind in types:
        different = {text for of_image in some for text in of_image.get(kind, ())}
        if n_cut := sum(n_tokens(text) > max_tokens for text in different):
            cut[kind] = CutTexts(n_cut, len(different))
    return cut


def text_type_of_step(types: Sequence[str], weights: Sequence[float], step: int) -> str:
    """The type that all images of a step get: the same in every process, because it depends on the step alone.

    Without weights it is the published schedule. Source: BioCLIP 2, src/training/train.py:120-124.
    """
    generator = random.Random(step)
    return generator.choices(types, weights)[0] if weights else generator.choice(types)


def choose_text(texts: Texts, types: Sequence[str], weights: Sequence[float], rng: np.random.Generator) -> str:
    """A text of one of the types that an image has, equally often or by their weights, and of that type any."""
    had = [pair for pair in zip(types, weights or [1.0] * len(types), strict=True) if pair[0] in texts]
    shares = np.asarray([weight for _, weight in had]) / sum(weight for _, weight in had)
    of_type = texts[had[int(rng.choice(len(had), p=shares))][0]]
    return of_type[int(rng.integers(len(of_type)))]
