"""Words that tell a species from its relatives: said of more of its individuals, at whichever of their regions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sae_traits.evaluation.species_tallies import (
    MAX_NAMED,
    MIN_INDIVIDUALS,
    MOST,
    Attributed,
    SharedAttribute,
    Tally,
)
from sae_traits.evaluation.verdict import MIN_RATIO

MAX_WORDS = 4
"""Said more often of one species than of another."""
MIN_DIFFERENCE = 0.25
"""Of the shares of individuals of which such a word is said."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """Something that is said more often of one species than of another."""

    name: str
    value: str
    share: float
    other_share: float
    """Of the individuals with traits."""


def attribute_shares(regions: Iterable[tuple[str, Iterable[Attributed]]]) -> dict[Attributed, float]:
    """Share of the individuals with a region of which a value of an attribute is said at any of their regions.

    Args:
        regions: of each the individual, and what attributes it is said to have.
    """
    said: dict[Attributed, set[str]] = defaultdict(set)
    described: set[str] = set()
    for individual, attributes in regions:
        described.add(individual)
        for attribute in attributes:
            said[attribute].add(individual)
    return {attribute: len(individuals) / len(described) for attribute, individuals in said.items()}


def said_more_often(own: Mapping[Attributed, float], other: Mapping[Attributed, float]) -> tuple[Word, ...]:
    """What is said more often of a species than of another, the largest difference first.

    Args:
        own, other: the `attribute_shares` of both.
    """
    words = [
        Word(name=name, value=value, share=share, other_share=other.get((name, value), 0.0))
        for (name, value), share in own.items()
    ]
    words = [word for word in words if word.share - word.other_share >= MIN_DIFFERENCE]
    words.sort(key=lambda word: (word.other_share - word.share, word.name, word.value))
    return tuple(words[:MAX_WORDS])


@dataclass(frozen=True, slots=True)
class Described:
    """Individuals with a region, and how many of them have each value at any of their regions."""

    n: int
    counts: Mapping[Attributed, int]

    def share(self, value: Attributed) -> float | None:
        """Share of the individuals that have a value; None where there are no individuals."""
        return self.counts.get(value, 0) / self.n if self.n else None

    def without(self, some: Described, values: Iterable[Attributed]) -> Described:
        """The others, where these are some of them; it is known how many of them have the given values alone."""
        return Described(self.n - some.n, {v: self.counts.get(v, 0) - some.counts.get(v, 0) for v in values})


Splits = tuple[Described, Described]
"""Training individuals and held-out ones."""


@dataclass(frozen=True, slots=True)
class TellingWords:
    """What is said of a species, beside what is said of its relatives, one by one or together."""

    own: Splits
    relatives: tuple[Splits, ...]
    usual: frozenset[Attributed]
    """What most latents of most other species share, of whatever genus."""

    def mark(self, shared: Sequence[SharedAttribute], n_individuals: int) -> tuple[SharedAttribute, ...]:
        """Say of what individuals share at a latent how often it is said of relatives, and whether it tells anything.

        Args:
            n_individuals: with a region of the latent; of fewer than MIN_INDIVIDUALS nothing tells.
        """
        marked = []
        for attribute in shared:
            value = attribute.name, attribute.value
            theirs = self._share_of_relatives(value)
            is_common = n_individuals >= MIN_INDIVIDUALS and attribute.share >= MIN_RATIO * (theirs or 0)
            is_telling = is_common and self._tells(value)
            is_usual = value in self.usual
            marked.append(replace(attribute, share_of_relatives=theirs, is_telling=is_telling, is_usual=is_usual))
        return tuple(marked)

    def _share_of_relatives(self, value: Attributed) -> float | None:
        """The largest of a relative's, over all splits; None where none has a region."""
        shares = (pooled(splits).share(value) for splits in self.relatives)
        return max((share for share in shares if share is not None), default=None)

    def _tells(self, value: Attributed) -> bool:
        compared = []
        for held_out, own in enumerate(self.own):
            for splits in self.relatives:
                mine, theirs = own.share(value), splits[held_out].share(value)
                if mine is not None and theirs is not None:
                    compared.append(mine > 0 and mine >= MIN_RATIO * theirs)
        return bool(compared) and all(compared)


def pooled(described: Iterable[Described]) -> Described:
    """Some individuals together."""
    n, counts = 0, Counter[Attributed]()
    for one in described:
        n += one.n
        counts.update(one.counts)
    return Described(n, counts)


class SaidOfSpecies:
    """Of how many individuals of each species each value of an attribute is said, at whichever of their regions."""

    def __init__(self, tallies: Mapping[str, Mapping[str, Tally]], held_out: Mapping[str, set[str]]) -> None:
        """Count it.

        Args:
            tallies: species -> latent -> its tally.
            held_out: the held-out individuals of each species.
        """
        self._of = {species: _described(found.values(), held_out[species]) for species, found in tallies.items()}
        self._of_groups: dict[frozenset[str], Splits] = {}
        """Species of a group, of which each is compared with the others -> what is said of all of them together."""
        self._usual_of = {species: words for species, found in tallies.items() if (words := _usual(found.values()))}
        self._n_usual = Counter(value for words in self._usual_of.values() for value in words)

    def beside(self, species: str, relatives: Sequence[str]) -> TellingWords:
        """What tells a described species from its relatives.

        A word does if it is said of at least MIN_RATIO times as large a share of the species' individuals as of each
        relative's, or of more than MAX_NAMED relatives' together: of training individuals, and of held-out ones, where
        both have regions; and so it is of the individuals with a region of the latent.
        """
        own = self._of[species]
        if len(relatives) > MAX_NAMED:
            values = {*own[0].counts, *own[1].counts}
            together = self._together(frozenset((*relatives, species)))
            training, held_out = (all_of.without(some, values) for all_of, some in zip(together, own, strict=True))
            return TellingWords(own, ((training, held_out),), self._usual_elsewhere(species))
        described = tuple(self._of[name] for name in relatives if name in self._of)
        return TellingWords(own, described, self._usual_elsewhere(species))

    def _usual_elsewhere(self, species: str) -> frozenset[Attributed]:
        """What is usual in most of the other species."""
        own = self._usual_of.get(species, frozenset())
        n_others = len(self._of) - 1
        return frozenset(value for value, n in self._n_usual.items() if n - (value in own) > MOST * n_others)

    def _together(self, group: frozenset[str]) -> Splits:
        if group not in self._of_groups:
            described = [self._of[name] for name in group if name in self._of]
            training, held_out = (pooled(splits[number] for splits in described) for number in (0, 1))
            self._of_groups[group] = training, held_out
        return self._of_groups[group]


def _usual(tallies: Iterable[Tally]) -> frozenset[Attributed]:
    """What most latents of a species share, of those at which individuals share anything."""
    shared = [words for tally in tallies if (words := tally.shared())]
    counts = Counter((one.name, one.value) for words in shared for one in words)
    return frozenset(value for value, n in counts.items() if n > MOST * len(shared))


def _described(tallies: Iterable[Tally], held_out: set[str]) -> Splits:
    individuals: set[str] = set()
    having: dict[Attributed, set[str]] = defaultdict(set)
    for tally in tallies:
        individuals |= tally.individuals
        for name, values in tally.values.items():
            for value, of_value in values.items():
                having[name, value] |= of_value

    def counted(some: set[str]) -> Described:
        return Described(len(some), {value: n for value, of_value in having.items() if (n := len(of_value & some))})

    return counted(individuals - held_out), counted(individuals & held_out)
