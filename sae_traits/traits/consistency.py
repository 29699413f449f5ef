"""Do the individuals of a species get the same description at the same latent, or descriptions that exclude each other?

Only individuals that were described on their own, or groups of them that share one description, can agree: a shared
description counts once, and so does an individual, by its first image.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

from sae_traits.describers.colours import VOCABULARY, color_family
from sae_traits.schema import Description, ImageRecord, Trait

EXAMPLES = 5
"""Of each kind of failure that a report shows."""
LONGEST_EXCERPT = 200
"""Characters."""
FACETS = ("part", "shape", "size", "colour", "texture", "marking", "pattern")
"""What can be compared: the part, and the attributes by their names."""
CONTRADICTORY = 0.5
"""A species contradicts itself at a latent when more than this share of its pairs of individuals exclude each other."""
EXCLUDING: dict[str, dict[str, str]] = {
    # Dark brown is a plain word of its own elsewhere, but it does not exclude brown.
    "colour": {name: color_family(name).removeprefix("dark ") for name in VOCABULARY},
    "size": {"small": "small", "tiny": "small", "minute": "small", "large": "large", "big": "large", "huge": "large"},
}
"""Attribute -> word -> class. Two values exclude each other when both hold such words, but none of the same class."""
MAX_VALUES = 32
"""Different values that are told apart in a group, so that free words cannot fill the memory; later ones agree with
none."""
MAX_VALUES_IN_ALL = 512
Group = tuple[str, int | None]
"""Species and latent; regions without latents (Grad-CAM, whole images) make one group per species."""


@dataclass(frozen=True, slots=True)
class Example:
    """One case of something that went wrong."""

    trait_ids: tuple[str, ...]
    reason: str
    said: str
    """An excerpt of the answer, as it came."""


def excerpt(text: str) -> str:
    """Put a text on one line, cut after LONGEST_EXCERPT characters."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_EXCERPT else line[: LONGEST_EXCERPT - 1] + "…"


@dataclass(frozen=True, kw_only=True)
class FacetAgreement:
    """How often two individuals of a species got the same value at the same latent; both must have one."""

    facet: str
    share: float
    """Mean over species."""
    chance: float
    """The same for any two traits of any species and latent."""
    n_pairs: int
    by_species: dict[str, float]
    """Share of a species' pairs, over its latents."""


@dataclass(frozen=True, kw_only=True)
class Contradictions:
    """How many species contradict themselves at a latent in an attribute."""

    facet: str
    n_groups: int
    """Species and latents at which at least two individuals have a value that can exclude another."""
    n_contradictory: int
    examples: tuple[Example, ...]
    """Those with the most pairs of individuals that exclude each other."""


@dataclass
class Tally:
    """How often each value came up; a value is a set of words, because a part may have two colours."""

    max_values: int
    counts: dict[frozenset[str], int] = field(default_factory=dict)
    first: dict[frozenset[str], str] = field(default_factory=dict)
    """The trait that had the value first."""
    n_others: int = 0
    """Values beyond `max_values` different ones."""

    def add(self, value: frozenset[str], trait_id: str) -> None:
        if value not in self.counts and len(self.counts) == self.max_values:
            self.n_others += 1
            return
        self.counts[value] = self.counts.get(value, 0) + 1
        self.first.setdefault(value, trait_id)

    @property
    def n(self) -> int:
        return sum(self.counts.values()) + self.n_others

    @property
    def n_pairs(self) -> int:
        return self.n * (self.n - 1) // 2

    @property
    def n_agreeing(self) -> int:
        """Pairs of values that have a word in common."""
        alike = sum(n * (n - 1) // 2 for n in self.counts.values())
        return alike + sum(n for n, first, second in self._mixed_pairs() if first & second)

    def most_frequent_exclusion(self) -> tuple[frozenset[str], frozenset[str]]:
        """The two values without a common word that meet in the most pairs; there must be some."""
        _, first, second = max((n, sorted(a), sorted(b)) for n, a, b in self._mixed_pairs() if not a & b)
        return frozenset(first), frozenset(second)

    def _mixed_pairs(self) -> Iterator[tuple[int, frozenset[str], frozenset[str]]]:
        """Two different values, and in how many pairs they meet."""
        items = list(self.counts.items())
        for i, (first, n_first) in enumerate(items):
            for second, n_second in items[i + 1 :]:
                yield n_first * n_second, first, second


class ConsistencyCounter:
    """Counts traits as they come; it grows with the pairs of species and latent, not with the traits."""

    def __init__(self, records: Iterable[ImageRecord]) -> None:
        n_images = Counter(record.individual_id for record in records)
        self._have_several = {individual for individual, n in n_images.items() if n > 1}
        self._counted: set[tuple[str, int | None]] = set()
        """Individuals that have several images, and the latents at which they were counted."""
        self._groups: dict[Group, dict[str, Tally]] = defaultdict(dict)
        self._classes: dict[Group, dict[str, Tally]] = defaultdict(dict)
        self._all = {facet: Tally(MAX_VALUES_IN_ALL) for facet in FACETS}
        self._shared: Counter[tuple[str, str, int | None, Description]] = Counter()

    def add(self, trait: Trait, record: ImageRecord) -> None:
        """Count what was said of a trait of an image that has a label."""
        if self._shares_counted_call(trait, record) or self._is_counted_individual(trait, record):
            return
        group = record.species, trait.candidate.latent
        for facet, value in facets(trait.description).items():
            self._groups[group].setdefault(facet, Tally(MAX_VALUES)).add(value, trait.trait_id)
            self._all[facet].add(value, trait.trait_id)
            if facet in EXCLUDING and (classes := excluding_classes(facet, value)):
                self._classes[group].setdefault(facet, Tally(MAX_VALUES)).add(classes, trait.trait_id)

    def _is_counted_individual(self, trait: Trait, record: ImageRecord) -> bool:
        """Whether another image of the individual had a description at the latent."""
        if record.individual_id not in self._have_several:
            return False
        key = record.individual_id, trait.candidate.latent
        is_counted = key in self._counted
        self._counted.add(key)
        return is_counted

    def _shares_counted_call(self, trait: Trait, record: ImageRecord) -> bool:
        """Whether another image of the same call had this description; remembers how many are still to come."""
        if trait.n_images == 1:
            return False
        call = record.species, record.split, trait.candidate.latent, trait.description
        if n_before := self._shared[call]:
            if n_before == trait.n_images - 1:
                del self._shared[call]
            else:
                self._shared[call] += 1
            return True
        self._shared[call] = 1
        return False

    def agreement(self) -> tuple[FacetAgreement, ...]:
        """Of every facet that two individuals of a species and latent have."""
        return tuple(agreement for facet in FACETS if (agreement := self._agreement(facet)) is not None)

    def _agreement(self, facet: str) -> FacetAgreement | None:
        agreeing: Counter[str] = Counter()
        pairs: Counter[str] = Counter()
        for (species, _), tally in _tallies(self._groups, facet):
            if tally.n_pairs:
                agreeing[species] += tally.n_agreeing
                pairs[species] += tally.n_pairs
        if not pairs:
            return None
        by_species = {species: agreeing[species] / pairs[species] for species in sorted(pairs)}
        return FacetAgreement(
            facet=facet,
            share=sum(by_species.values()) / len(by_species),
            chance=self._all[facet].n_agreeing / self._all[facet].n_pairs,
            n_pairs=pairs.total(),
            by_species=by_species,
        )

    def contradictions(self) -> tuple[Contradictions, ...]:
        """Of every attribute whose values can exclude each other."""
        return tuple(self._contradictions(facet) for facet in EXCLUDING)

    def _contradictions(self, facet: str) -> Contradictions:
        groups = [(group, tally) for group, tally in _tallies(self._classes, facet) if tally.n_pairs]
        bad = [(group, tally) for group, tally in groups if _n_excluding(tally) > CONTRADICTORY * tally.n_pairs]
        worst = heapq.nsmallest(EXAMPLES, bad, key=lambda pair: (-_n_excluding(pair[1]), pair[0]))
        return Contradictions(
            facet=facet,
            n_groups=len(groups),
            n_contradictory=len(bad),
            examples=tuple(_example(facet, group, tally) for group, tally in worst),
        )


def facets(description: Description) -> dict[str, frozenset[str]]:
    """What a description says of each of FACETS that it names, in lower case."""
    values: dict[str, set[str]] = {}
    if description.part:
        values["part"] = {description.part.lower()}
    for attribute in description.attributes:
        if attribute.name in FACETS:
            values.setdefault(attribute.name, set()).add(attribute.value.lower())
    return {facet: frozenset(words) for facet, words in values.items()}


def excluding_classes(facet: str, values: Iterable[str]) -> frozenset[str]:
    """The classes of the words of EXCLUDING in some values: `dark brown and cream` is brown and white."""
    table = EXCLUDING[facet]
    words = (word for value in values for word in _words(facet).findall(value.lower().replace("gray", "grey")))
    return frozenset(table[word] for word in words)


@cache
def _words(facet: str) -> re.Pattern[str]:
    longest_first = sorted(EXCLUDING[facet], key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")


def _tallies(groups: Mapping[Group, Mapping[str, Tally]], facet: str) -> Iterator[tuple[Group, Tally]]:
    return ((group, tallies[facet]) for group, tallies in groups.items() if facet in tallies)


def _n_excluding(tally: Tally) -> int:
    return tally.n_pairs - tally.n_agreeing


def _example(facet: str, group: Group, tally: Tally) -> Example:
    species, latent = group
    where = species if latent is None else f"{species}, latent {latent}"
    first, second = tally.most_frequent_exclusion()
    words = (" and ".join(sorted(value)) for value in (first, second))
    share = f"{_n_excluding(tally) / tally.n_pairs:.0%} of {tally.n_pairs} pairs exclude each other"
    reason = f"{where}: {facet} {' against '.join(words)}; {share}"
    return Example((tally.first[first], tally.first[second]), reason, "")
