"""Colours that a latent's training individuals do not agree on, and that its sentences are therefore not to name."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection

from sae_traits.schema import ImageRecord, Trait
from sae_traits.traits.consistency import Group, excluding_classes

MIN_AGREEING = 0.5
"""A colour is named at a latent of a species when at least this share of the training individuals has one like it."""
COLOUR = "colour"
"""The attribute; a region may have several."""


class ColourVotes:
    """Counts the colours that were said of training individuals, one each, at every latent of a species."""

    def __init__(self) -> None:
        self._said: dict[Group, dict[str, frozenset[str]]] = defaultdict(dict)

    def add(self, species: str, trait: Trait, record: ImageRecord) -> None:
        """Count a trait that describes a species; of an individual its first image with a colour counts."""
        if record.split != "train" or trait.candidate.latent is None:
            return
        values = [attribute.value for attribute in trait.description.attributes if attribute.name == COLOUR]
        if classes := excluding_classes(COLOUR, values):
            self._said[species, trait.candidate.latent].setdefault(record.individual_id, classes)

    def contradictory(self) -> frozenset[Group]:
        """Species and latents at which no plain colour was said of MIN_AGREEING of the individuals."""
        return frozenset(group for group, said in self._said.items() if _is_contradictory(said.values()))


def _is_contradictory(said: Collection[frozenset[str]]) -> bool:
    counts = Counter(word for classes in said for word in classes)
    return max(counts.values()) < MIN_AGREEING * len(said)
