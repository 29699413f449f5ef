"""What tells each species from its closest relatives: how often, what is said of it, and whether to believe it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from sae_traits.evaluation.evidence import Evidence
from sae_traits.evaluation.statistics import Number
from sae_traits.evaluation.verdict import RULES, Verdict, judge, rank
from sae_traits.schema import ChosenLatent, Contrast, ImageRecord, ReferenceRank, Split, Taxon, Trait

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
class Comparison:
    """A latent in the training individuals of a species, and of its closest relatives."""

    f_species: float
    f_reference: float
    reference_rank: ReferenceRank
    reference_name: str | None
    """Of the genus, family or order; None for the whole collection."""
    n_fired: int
    n_individuals: int
    effect: float
    q_value: Number
    """NaN where nothing was tested: the shares are then those of firings at patches."""
    significant: bool

    @property
    def is_tested(self) -> bool:
        """Whether the shares are of individuals, and compared by a test."""
        return not math.isnan(self.q_value)

    @property
    def share_of_species(self) -> str:
        """In words."""
        return _percent(self.f_species)

    @property
    def share_of_reference(self) -> str:
        """In words."""
        return _percent(self.f_reference)


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


@dataclass
class _Tally:
    """The individuals of a species with a trait, and those of which each value was said."""

    choice: ChosenLatent | None
    individuals: set[str] = field(default_factory=set)
    held_out: set[str] = field(default_factory=set)
    backgrounds: list[float] = field(default_factory=list)
    """Probability of background of each region, where it is known."""
    values: dict[str, dict[str, set[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    """Name of an attribute -> value -> individuals."""
    shown: tuple[bool, float, str, Split] | None = None
    """The image to show: whether it is for training, minus the peak, trait and split; the smallest is shown."""

    def add(self, trait: Trait, record: ImageRecord) -> None:
        """Count a trait of an individual; a held-out image is rather shown than one for training, then a strong one."""
        individual, is_for_training = record.individual_id, record.split == "train"
        self.individuals.add(individual)
        if not is_for_training:
            self.held_out.add(individual)
        if trait.candidate.background is not None:
            self.backgrounds.append(trait.candidate.background)
        if trait.description.part:
            self.values["part"][trait.description.part].add(individual)
        for attribute in trait.description.attributes:
            self.values[attribute.name][attribute.value].add(individual)
        shown = is_for_training, -(trait.candidate.peak or 0.0), trait.trait_id, record.split
        self.shown = shown if self.shown is None else min(self.shown, shown)

    @property
    def contrast(self) -> Contrast | None:
        """Of the species' latent."""
        return None if self.choice is None else self.choice.contrast

    @property
    def background(self) -> float | None:
        """Mean probability that the regions show background; None where it is not known."""
        return round(fmean(self.backgrounds), 3) if self.backgrounds else None

    def shared(self) -> tuple[SharedAttribute, ...]:
        """List the most frequent value of each attribute, if enough individuals have it."""
        common = []
        for name, values in self.values.items():
            value, individuals = min(values.items(), key=lambda item: (-len(item[1]), item[0]))
            if (share := len(individuals) / len(self.individuals)) >= MIN_SHARE:
                common.append(SharedAttribute(name=name, value=value, share=share))
        return tuple(sorted(common, key=lambda attribute: (-attribute.share, attribute.name)))


class SpeciesTraits:
    """Lists what tells each species from its closest relatives."""

    name, heading, result = "species_traits", "What tells each species from its closest relatives", SpeciesTraitsResult

    def run(self, evidence: Evidence) -> SpeciesTraitsResult:
        """Count individuals per species and latent; images without a species are left out."""
        of_all, of_held_out = _individuals(evidence.collection.images)
        taxa = {record.taxon.species: record.taxon for record in evidence.collection.images}
        tallies = _tally(evidence)
        rows, words = [], {}
        for number, species in enumerate(sorted(tallies)):
            found = tallies[species]
            words[species] = [judge(tally.contrast, tally.background).word for tally in found.values()]
            if number >= MAX_SPECIES:
                continue
            order = {
                name: (*rank(tally.contrast, tally.background), -len(tally.individuals), name)
                for name, tally in found.items()
            }
            names = sorted(found, key=order.__getitem__)
            for place, name in enumerate(names[:MAX_TRAITS]):
                tally = found[name]
                assert tally.shown is not None
                _, _, trait_id, split = tally.shown
                file = f"figures/traits/{number:03d}-{place}.jpg"
                row = SpeciesTrait(
                    species=species,
                    picked_by=f"latent {name}" if tally.choice is not None and name.isdecimal() else name,
                    n_individuals=len(tally.individuals),
                    n_of_species=len(of_all[species]),
                    n_held_out=len(tally.held_out),
                    n_of_held_out=len(of_held_out[species]),
                    shared=tally.shared(),
                    comparison=None if tally.choice is None else _compare(tally.choice, taxa[species]),
                    background=tally.background,
                    verdict=judge(tally.contrast, tally.background),
                    picture=TraitPicture(file=file, trait_id=trait_id, split=split),
                )
                rows.append(row)
        counts = Counter(word for found in words.values() for word in found)
        return SpeciesTraitsResult(
            traits=tuple(rows),
            n_species=len(tallies),
            verdicts={word: counts[word] for word in RULES if counts[word]},
            without_trusted=tuple(species for species, found in words.items() if "trust" not in found),
        )

    def lines(self, result: SpeciesTraitsResult) -> list[str]:
        """Say how many latents of a species are to be trusted; the tables are for the report."""
        if not result.traits:
            return []
        counts = ", ".join(f"{n} {word}" for word, n in result.verdicts.items())
        lines = [f"verdicts  {counts}, of the latents of {result.n_species} species"]
        if n := len(result.without_trusted):
            lines.append(f"          {n} species without one to trust")
        return lines


def _individuals(images: Sequence[ImageRecord]) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """The individuals of each species, and those of them that have an image that is not for training."""
    of_all: dict[str, set[str]] = defaultdict(set)
    of_held_out: dict[str, set[str]] = defaultdict(set)
    for record in images:
        if (species := record.taxon.species) is not None:
            of_all[species].add(record.individual_id)
            if record.split != "train":
                of_held_out[species].add(record.individual_id)
    return of_all, of_held_out


def _tally(evidence: Evidence) -> dict[str, dict[str, _Tally]]:
    """Count per species and what picked regions.

    Latents of other species, which images that were described without their label may have, are left out.
    """
    chosen = {(choice.species, choice.latent): choice for choice in evidence.latents}
    tallies: dict[str, dict[str, _Tally]] = defaultdict(dict)
    for trait in evidence.traits:
        record, candidate = evidence.collection.images[trait.candidate.image], trait.candidate
        if (species := record.taxon.species) is None:
            continue
        choice = None if candidate.latent is None else chosen.get((species, candidate.latent))
        if candidate.latent is None or choice is not None:
            tallies[species].setdefault(candidate.name, _Tally(choice)).add(trait, record)
    return tallies


def _compare(choice: ChosenLatent, taxon: Taxon) -> Comparison:
    contrast = choice.contrast
    return Comparison(
        f_species=contrast.f_species,
        f_reference=contrast.f_reference,
        reference_rank=contrast.reference_rank,
        reference_name=None if contrast.reference_rank == "collection" else taxon.rank(contrast.reference_rank),
        n_fired=choice.n_fired,
        n_individuals=choice.n_individuals,
        effect=contrast.effect,
        q_value=contrast.q_value,
        significant=contrast.significant,
    )


def _percent(share: float) -> str:
    """Give a share in whole per cent, or to two digits below one."""
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 1 or percent == 0 else f"{percent:.2g} %"
