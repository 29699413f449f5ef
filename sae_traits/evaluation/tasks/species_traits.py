"""What was found of each species: its most frequent traits, and what is said of most individuals that have them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from sae_traits.evaluation.evidence import Evidence
from sae_traits.schema import Candidate, Trait

MAX_TRAITS = 3
"""Shown per species."""
MAX_SPECIES = 100
MIN_SHARE = 0.5
"""An attribute is named when at least this share of the individuals has the same value."""


@dataclass(frozen=True, kw_only=True)
class SharedAttribute:
    """The part, or an attribute, that most individuals share at a latent."""

    name: str
    value: str
    share: float
    """Of the individuals with the trait."""


@dataclass(frozen=True, kw_only=True)
class SpeciesTrait:
    """A latent (or what else picked regions) in the images of a species."""

    species: str
    picked_by: str
    n_individuals: int
    """Individuals with such a region."""
    n_of_species: int
    """Individuals of the species in all."""
    shared: tuple[SharedAttribute, ...]
    effect: float | None
    """Of the contrast; None where there is none."""
    significant: bool


@dataclass(frozen=True, kw_only=True)
class SpeciesTraitsResult:
    """Per species the latents of most individuals, the larger effect first where equal."""

    traits: tuple[SpeciesTrait, ...]
    """Of the first MAX_SPECIES species by name."""
    n_species: int
    """With at least one trait."""


@dataclass
class _Tally:
    """The individuals of a species with a trait, and those of which each value was said."""

    candidate: Candidate
    individuals: set[str] = field(default_factory=set)
    values: dict[str, dict[str, set[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    """Name of an attribute -> value -> individuals."""

    def add(self, trait: Trait, individual: str) -> None:
        """Count a trait of an individual."""
        self.individuals.add(individual)
        if trait.description.part:
            self.values["part"][trait.description.part].add(individual)
        for attribute in trait.description.attributes:
            self.values[attribute.name][attribute.value].add(individual)

    def shared(self) -> tuple[SharedAttribute, ...]:
        """List the most frequent value of each attribute, if enough individuals have it."""
        common = []
        for name, values in self.values.items():
            value, individuals = min(values.items(), key=lambda item: (-len(item[1]), item[0]))
            if (share := len(individuals) / len(self.individuals)) >= MIN_SHARE:
                common.append(SharedAttribute(name=name, value=value, share=share))
        return tuple(sorted(common, key=lambda attribute: (-attribute.share, attribute.name)))


class SpeciesTraits:
    """Lists what was found of each species."""

    name, heading, result = "species_traits", "What was found of each species", SpeciesTraitsResult

    def run(self, evidence: Evidence) -> SpeciesTraitsResult:
        """Count individuals per species and latent, over all splits; images without a species are left out."""
        images = evidence.collection.images
        individuals: dict[str, set[str]] = defaultdict(set)
        for record in images:
            if record.taxon.species is not None:
                individuals[record.taxon.species].add(record.individual_id)
        tallies: dict[str, dict[str, _Tally]] = defaultdict(dict)
        for trait in evidence.traits:
            record, candidate = images[trait.candidate.image], trait.candidate
            if record.taxon.species is not None:
                tally = tallies[record.taxon.species].setdefault(candidate.name, _Tally(candidate))
                tally.add(trait, record.individual_id)
        rows = []
        for species in sorted(tallies)[:MAX_SPECIES]:
            ranked = sorted(
                tallies[species].items(),
                key=lambda item: (-len(item[1].individuals), -item[1].candidate.effect, item[0]),
            )
            rows += [
                SpeciesTrait(
                    species=species,
                    picked_by=f"latent {name}" if name == str(tally.candidate.latent) else name,
                    n_individuals=len(tally.individuals),
                    n_of_species=len(individuals[species]),
                    shared=tally.shared(),
                    effect=tally.candidate.effect if tally.candidate.contrast else None,
                    significant=tally.candidate.significant,
                )
                for name, tally in ranked[:MAX_TRAITS]
            ]
        return SpeciesTraitsResult(traits=tuple(rows), n_species=len(tallies))

    def lines(self, result: SpeciesTraitsResult) -> list[str]:
        """Say nothing: the table is for the report."""
        return []
