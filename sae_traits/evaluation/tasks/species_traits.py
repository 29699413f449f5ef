"""What tells each species from its closest relatives: how often, what is said of it, and whether to believe it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sae_traits.evaluation.evidence import Evidence
from sae_traits.evaluation.species_tallies import (
    MIN_INDIVIDUALS,
    Comparison,
    SharedAttribute,
    Tally,
    compare,
    individuals_by_species,
    tally_traits,
)
from sae_traits.evaluation.telling_words import Attributed, SaidOfSpecies
from sae_traits.evaluation.verdict import RULES, Verdict, judge, rank
from sae_traits.schema import Contrast
from sae_traits.vocabulary import Split

MAX_TRAITS = 3
"""Shown per species."""
MAX_SPECIES = 100


@dataclass(frozen=True, kw_only=True)
class TraitPicture:
    """A region cut out of an image, for looking."""

    file: str
    """Beside the report."""
    trait_id: str
    split: Split


@dataclass(frozen=True, kw_only=True)
class SpeciesTrait:
    """A latent (or what else picked regions) in the images of a species."""

    species: str
    picked_by: str
    n_individuals: int
    """Individuals with such a region, of all splits."""
    n_of_species: int
    """Individuals of the species in all."""
    n_held_out: int
    """Individuals with such a region that nothing was learnt or chosen from."""
    n_of_held_out: int
    """Such individuals of the species in all."""
    shared: tuple[SharedAttribute, ...]
    same_as: str | None = None
    """What of the rows above says nothing else: perhaps the two are one trait; None where each says something else."""
    comparison: Comparison | None
    """None where nothing was compared."""
    background: float | None
    """Mean probability that these regions show background; None where it is not known."""
    verdict: Verdict
    picture: TraitPicture


@dataclass(frozen=True, kw_only=True)
class SpeciesTraitsResult:
    """Per species the latents that tell it from its relatives best."""

    traits: tuple[SpeciesTrait, ...]
    """Of the first MAX_SPECIES species by name."""
    n_species: int
    """With at least one trait."""
    verdicts: dict[str, int]
    """Word of a verdict -> latents of a species, of all species and latents."""
    without_trusted: tuple[str, ...]
    """Species none of whose latents is to be trusted."""
    without_trait: tuple[str, ...] = ()
    """Species of the collection of which nothing was described."""

    @property
    def n_latents(self) -> int:
        """Latents of a species, in all."""
        return sum(self.verdicts.values())

    @property
    def by_species(self) -> dict[str, list[SpeciesTrait]]:
        """The traits of each species that is shown."""
        grouped: dict[str, list[SpeciesTrait]] = defaultdict(list)
        for trait in self.traits:
            grouped[trait.species].append(trait)
        return dict(grouped)


class SpeciesTraits:
    """Lists what tells each species from its closest relatives."""

    name, heading, result = "species_traits", "What tells each species from its closest relatives", SpeciesTraitsResult

    def run(self, evidence: Evidence) -> SpeciesTraitsResult:
        """Count individuals per species and latent; images without a species are left out."""
        of_all, of_held_out = individuals_by_species(evidence.collection.images)
        taxa = {record.taxon.species: record.taxon for record in evidence.collection.images}
        firing = evidence.firing() if evidence.firing else None
        tallies = tally_traits(evidence.collection, evidence.traits, evidence.latents)
        said = SaidOfSpecies(tallies, of_held_out)
        rows, verdicts = [], {}
        for number, species in enumerate(sorted(tallies)):
            found = [
                _Found(name, tally, None if tally.choice is None else compare(tally.choice, taxa[species], firing))
                for name, tally in tallies[species].items()
            ]
            verdicts[species] = [judge(*one.numbers).word for one in found]
            if number >= MAX_SPECIES:
                continue
            words = {relatives: said.beside(species, relatives) for relatives in {one.relatives for one in found}}
            marked = [replace(one, shared=words[one.relatives].mark(one.tally.shared(), one.n)) for one in found]
            shown = _best_first(marked)[:MAX_TRAITS]
            for place, (one, same_as) in enumerate(shown):
                assert one.tally.shown is not None
                file = f"figures/traits/{number:03d}-{place}.jpg"
                row = SpeciesTrait(
                    species=species,
                    picked_by=one.picked_by,
                    n_individuals=one.n,
                    n_of_species=len(of_all[species]),
                    n_held_out=len(one.tally.held_out),
                    n_of_held_out=len(of_held_out[species]),
                    shared=one.shared,
                    same_as=same_as if same_as in [other.name for other, _ in shown[:place]] else None,
                    comparison=one.comparison,
                    background=one.tally.background,
                    verdict=judge(*one.numbers),
                    picture=TraitPicture(file=file, trait_id=one.tally.shown.trait_id, split=one.tally.shown.split),
                )
                rows.append(row)
        counts = Counter(word for found in verdicts.values() for word in found)
        return SpeciesTraitsResult(
            traits=tuple(rows),
            n_species=len(tallies),
            verdicts={word: counts[word] for word in RULES if counts[word]},
            without_trusted=tuple(species for species, found in verdicts.items() if "trust" not in found),
            without_trait=tuple(sorted(of_all.keys() - tallies.keys())),
        )

    def lines(self, result: SpeciesTraitsResult) -> list[str]:
        """Say how many latents of a species are to be trusted; the tables are for the report."""
        if not result.traits:
            return []
        counts = ", ".join(f"{n} {word}" for word, n in result.verdicts.items())
        lines = [f"verdicts  {counts}, of the latents of {result.n_species} species"]
        if n := len(result.without_trusted):
            lines.append(f"          {n} species without one to trust")
        if n := len(result.without_trait):
            lines.append(f"          {n} species without any trait")
        return lines


@dataclass(frozen=True)
class _Found:
    """A latent (or what else picked regions) of a species, with what its verdict is read from."""

    name: str
    tally: Tally
    comparison: Comparison | None
    shared: tuple[SharedAttribute, ...] = ()

    @property
    def n(self) -> int:
        """Individuals with a region of it."""
        return len(self.tally.individuals)

    @property
    def relatives(self) -> tuple[str, ...]:
        return self.comparison.relatives if self.comparison else ()

    @property
    def picked_by(self) -> str:
        is_latent = self.tally.choice is not None and self.name.isdecimal()
        return f"latent {self.name}" if is_latent else self.name

    @property
    def said(self) -> frozenset[Attributed]:
        return frozenset((attribute.name, attribute.value) for attribute in self.shared)

    @property
    def telling(self) -> frozenset[Attributed]:
        """Those that tell the species from its relatives."""
        return frozenset((attribute.name, attribute.value) for attribute in self.shared if attribute.is_telling)

    @property
    def numbers(self) -> tuple[Contrast | None, float | None, tuple[float, float | None] | None]:
        """As `judge` and `rank` take them."""
        held_out = self.comparison.shares_held_out if self.comparison else None
        return self.tally.contrast, self.tally.background, held_out

    @property
    def order(self) -> tuple[int, bool, float, int, str]:
        """In which order the latents of a species come, the smallest first; see `rank`."""
        verdict, minus_difference = rank(*self.numbers)
        return verdict, self.n < MIN_INDIVIDUALS, minus_difference, -self.n, self.name


def _best_first(found: Sequence[_Found]) -> list[tuple[_Found, str | None]]:
    """The latents of a species, each with the earlier one that says the same, if any.

    Of those with one verdict, and regions in few individuals or in more, first comes what says something new, then
    what has a word that tells.
    """
    in_order = sorted(found, key=lambda one: one.order)
    same_as = _same_as_earlier(in_order)
    in_order.sort(
        key=lambda one: (one.order[:2], not one.shared or same_as[one.name] is not None, not one.telling, one.order)
    )
    return [(one, same_as[one.name]) for one in in_order]


def _same_as_earlier(in_order: Sequence[_Found]) -> dict[str, str | None]:
    """The first earlier latent that each latent repeats; None where there is none, and for one that says nothing.

    One repeats another if it has no value that the other lacks of an attribute that both name, and all its words that
    tell are the other's.
    """
    new: list[_Found] = []
    same_as: dict[str, str | None] = {}
    for one in in_order:
        earlier = next((other.name for other in new if one.shared and _repeats(one, other)), None)
        same_as[one.name] = earlier
        if one.shared and earlier is None:
            new.append(one)
    return same_as


def _repeats(one: _Found, other: _Found) -> bool:
    named = {name for name, _ in other.said}
    return one.telling <= other.said and {(name, value) for name, value in one.said if name in named} <= other.said
