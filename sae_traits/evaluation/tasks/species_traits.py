"""What tells each species from its closest relatives: how often, what is said of it, and whether to believe it."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from sae_traits.evaluation.evidence import Evidence
from sae_traits.evaluation.on_organism import shares_of_latents
from sae_traits.evaluation.relative_regions import COMPARABLE, likest_first, region_of_relative
from sae_traits.evaluation.species_order import DescribedLatent, best_first
from sae_traits.evaluation.species_tallies import (
    Comparison,
    DescribedRegion,
    SharedAttribute,
    compare,
    individuals_by_species,
    nothing_shared,
    tally_traits,
    worth_saying,
)
from sae_traits.evaluation.telling_words import SaidOfSpecies
from sae_traits.evaluation.verdict import RULES, Verdict
from sae_traits.vocabulary import Split

MAX_TRAITS = 3
"""Shown per species."""
MAX_SPECIES = 100
MAX_REASONS = 3
"""Named of those that speak against latents."""


@dataclass(frozen=True, kw_only=True)
class TraitPicture:
    """A region cut out of an image, for looking."""

    file: str
    """Beside the report."""
    trait_id: str
    split: Split
    image: str = ""
    """The file of the photograph, in the collection; empty in results of before it was kept."""

    @classmethod
    def of(cls, region: DescribedRegion, file: str) -> TraitPicture:
        """The picture of a region in a file."""
        return cls(file=file, trait_id=region.trait_id, split=region.split, image=region.image)


@dataclass(frozen=True, kw_only=True)
class PictureOfRelative:
    """What a relative has at the place of a species' region."""

    species: str
    picture: TraitPicture


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
    relative: PictureOfRelative | None = None
    """Of the relative in which the latent fires most often of those that have a region at the place; None where none
    has one there, where places or relatives are not known, and where relatives are farther than COMPARABLE."""

    @property
    def words(self) -> tuple[SharedAttribute, ...]:
        """What of it is said in the report."""
        return worth_saying(self.shared)

    @property
    def nothing_shared(self) -> str:
        """What is said where there are no words."""
        return nothing_shared(self.n_individuals)

    @property
    def pictures(self) -> tuple[TraitPicture, ...]:
        """Its own, and that of a relative where there is one."""
        return (self.picture,) if self.relative is None else (self.picture, self.relative.picture)


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
    reasons: dict[str, int] = field(default_factory=dict)
    """What speaks against latents that are not to be trusted -> of how many, the most frequent first; empty in results
    of before they were counted."""
    without_trait: tuple[str, ...] = ()
    """Species of the collection of which nothing was described."""
    n_further_images: int | None = None
    """Images of individuals that an earlier image shows, too; None in results of before this was counted."""

    @property
    def n_latents(self) -> int:
        """Latents of a species, in all."""
        return sum(self.verdicts.values())

    @property
    def without_close_relatives(self) -> frozenset[str]:
        """Species that were compared with none of their genus or family."""
        return frozenset(
            trait.species
            for trait in self.traits
            if trait.comparison is not None and trait.comparison.reference_rank not in COMPARABLE
        )

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
        on_organism = shares_of_latents(evidence.collection, evidence.scored_regions)
        rows, verdicts, reasons = [], {}, Counter[str]()
        for number, species in enumerate(sorted(tallies)):
            comparisons = {
                name: None if tally.choice is None else compare(tally.choice, taxa[species], firing)
                for name, tally in tallies[species].items()
            }
            found = [
                DescribedLatent(
                    name=name,
                    tally=tallies[species][name],
                    contrast=tallies[species][name].contrast,
                    held_out=comparison.shares_held_out if comparison else None,
                    on_organism=on_organism.get(species, {}).get(name),
                    relatives=comparison.relatives if comparison else (),
                )
                for name, comparison in comparisons.items()
            ]
            in_order = best_first(found, said, species)
            verdicts[species] = [one.verdict.word for one, _ in in_order]
            reasons.update(reason for one, _ in in_order for reason in one.verdict.reasons)
            if number >= MAX_SPECIES:
                continue
            shown = in_order[:MAX_TRAITS]
            for place, (one, same_as) in enumerate(shown):
                file = f"figures/traits/{number:03d}-{place}"
                shown_region, choice = one.shown, one.tally.choice
                relatives = []
                if choice is not None and choice.contrast.reference_rank in COMPARABLE:
                    relatives = likest_first(choice.latent, one.relatives, firing)
                relative = region_of_relative(shown_region.place, relatives, tallies)
                row = SpeciesTrait(
                    species=species,
                    picked_by=f"latent {one.name}" if one.name.isdecimal() else one.name,
                    n_individuals=one.n,
                    n_of_species=len(of_all[species]),
                    n_held_out=len(one.tally.held_out),
                    n_of_held_out=len(of_held_out[species]),
                    shared=one.shared,
                    same_as=same_as if same_as in [other.name for other, _ in shown[:place]] else None,
                    comparison=comparisons[one.name],
                    background=one.tally.background,
                    verdict=one.verdict,
                    picture=TraitPicture.of(shown_region, f"{file}.jpg"),
                    relative=None
                    if relative is None
                    else PictureOfRelative(
                        species=relative[0], picture=TraitPicture.of(relative[1], f"{file}-relative.jpg")
                    ),
                )
                rows.append(row)
        counts = Counter(word for found in verdicts.values() for word in found)
        return SpeciesTraitsResult(
            traits=tuple(rows),
            n_species=len(tallies),
            verdicts={word: counts[word] for word in RULES if counts[word]},
            without_trusted=tuple(species for species, found in verdicts.items() if "trust" not in found),
            reasons=dict(reasons.most_common()),
            without_trait=tuple(sorted(of_all.keys() - tallies.keys())),
            n_further_images=len(evidence.collection.images) - evidence.collection.n_individuals,
        )

    def lines(self, result: SpeciesTraitsResult) -> list[str]:
        """Say how many latents of a species are to be trusted; the tables are for the report."""
        if not result.traits:
            return []
        counts = ", ".join(f"{n} {word}" for word, n in result.verdicts.items())
        lines = [f"verdicts  {counts}, of the latents of {result.n_species} species"]
        if result.reasons:
            reasons = [f"{reason} ({n:,})" for reason, n in result.reasons.items()]
            lines.append(f"          against the others: {', '.join(reasons[:MAX_REASONS])}")
        if n := len(result.without_trusted):
            lines.append(f"          {n} species without one to trust")
        if n := len(result.without_trait):
            lines.append(f"          {n} species without any trait")
        return lines
