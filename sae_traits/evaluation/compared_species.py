"""Two species side by side: what each has and the other lacks, tested between the two alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sae_traits.errors import ConfigError
from sae_traits.evaluation.on_organism import SharesOfLatents
from sae_traits.evaluation.species_tallies import (
    Attributed,
    SharedAttribute,
    Tally,
    individuals_by_species,
    nothing_shared,
    tally_traits,
)
from sae_traits.evaluation.statistics import Number
from sae_traits.evaluation.telling_words import (
    MIN_DIFFERENCE,
    SaidOfSpecies,
    TellingWords,
    Word,
    attribute_shares,
    said_more_often,
)
from sae_traits.evaluation.verdict import Observed, Verdict, judge, rank
from sae_traits.schema import ChosenLatent, Collection, Contrast, Trait
from sae_traits.traits.contrast import SpeciesContrasts, specimen_contrast
from sae_traits.traits.firing_shares import FiringShares, Share
from sae_traits.traits.species_counts import SpeciesCounts

MAX_LINES = 10
"""Latents per species that a terminal is shown."""


@dataclass(frozen=True, kw_only=True)
class TellingLatent:
    """A latent that fires in a larger share of a species' individuals than of another's."""

    latent: int
    shared: tuple[SharedAttribute, ...]
    """What most individuals of the species have there."""
    text: str
    """Of the region that is shown."""
    n_described: int
    """Individuals of the species with a region of it, of all splits: what the words are known from."""
    trait_id: str
    """Of that region: one of which what is shared is said, in an image that was held out, where there is one."""
    training: Share
    """Individuals of the species in which it fires, of those that everything was learnt and chosen from."""
    training_other: Share
    held_out: Share
    held_out_other: Share
    q_value: Number
    """Of the two species alone, over all latents that fire in either and not on background."""
    background: float | None
    verdict: Verdict
    """By these shares, not by those of all relatives."""


@dataclass(frozen=True, kw_only=True)
class ComparedSpecies:
    """What each of two species has and the other lacks, the best first."""

    species: tuple[str, str]
    individuals: tuple[tuple[int, int], tuple[int, int]]
    """Of each species: training and held-out ones."""
    telling: tuple[tuple[TellingLatent, ...], tuple[TellingLatent, ...]]
    """Of each species; those of its latents that describe it and fire in it more than in the other."""
    words: tuple[tuple[Word, ...], tuple[Word, ...]]
    """Said more often of each species than of the other, at whichever region, the largest difference first."""

    def lines(self) -> list[str]:
        """Say it as tables for a terminal."""
        counted = [
            f"{name} ({training} training and {held_out} held-out individuals)"
            for name, (training, held_out) in zip(self.species, self.individuals, strict=True)
        ]
        lines = [f"{counted[0]} and {counted[1]}"]
        others = self.species[::-1]
        for own, other, found, words in zip(self.species, others, self.telling, self.words, strict=True):
            n_trusted = sum(row.verdict.word == "trust" for row in found)
            lines += ["", f"In {own} more than in {other}: {len(found)} latents, {n_trusted} of them to trust"]
            if not found:
                lines += ["", "  (annotate --no-significant-only describes latents that passed no test, too)"]
            else:
                lines += ["", _HEADER, *(line for row in found[:MAX_LINES] for line in _lines_of(row))]
            if len(found) > MAX_LINES:
                lines.append(f"  … and {len(found) - MAX_LINES} more (--format json has all)")
            if words:
                said = ", ".join(
                    f"{one.name} {one.value} ({100 * one.share:.0f} %, other {100 * one.other_share:.0f} %)"
                    for one in words
                )
                lines += ["", f"  Said more often of {own} than of {other}: {said}"]
        return [*lines, "", *_NOTES]


_NOTES = (
    "shares are of individuals in which the latent fires, of the species and of the other; q is of the two alone;",
    "the sentence is of one region, what stands above it is what most individuals with such a region have;",
    "* is said of at least twice as large a share of the species' individuals as of the other's, at whichever of their",
    "regions, of training and of held-out individuals alike, where both have regions; the other's share stands behind;",
    f"said more often: of at least {100 * MIN_DIFFERENCE:.0f} % more of the individuals with regions, at any of these",
)
_HEADER = f"  {'latent':>6}  {'training':<16}{'held out':<16}{'q':<9}{'background':<12}verdict"


def _percent(share: Share) -> str:
    return "none" if share.value is None else f"{100 * share.value:.0f} %"


def _in_words(shared: SharedAttribute) -> str:
    if not shared.is_telling or shared.share_of_relatives is None:
        return f"{shared.name} {shared.value} ({100 * shared.share:.0f} %)"
    return f"{shared.name} {shared.value}* ({100 * shared.share:.0f} %, other {100 * shared.share_of_relatives:.0f} %)"


def _lines_of(row: TellingLatent) -> tuple[str, str, str]:
    training, held_out = (
        f"{_percent(own)}, {_percent(other)}" if own.of else "none"
        for own, other in ((row.training, row.training_other), (row.held_out, row.held_out_other))
    )
    background = "unknown" if row.background is None else f"{row.background:.2f}"
    there = ", ".join(_in_words(one) for one in row.shared) or nothing_shared(row.n_described)
    return (
        f"  {row.latent:>6}  {training:<16}{held_out:<16}{row.q_value:<9.2g}{background:<12}{row.verdict}",
        f"  {'':>6}  {there}",
        f"  {'':>6}  {row.text}",
    )


def compare_species(
    collection: Collection,
    traits: Iterable[Trait],
    latents: Iterable[ChosenLatent],
    firing: FiringShares,
    species: tuple[str, str],
    on_organism: SharesOfLatents,
    on_background: Sequence[int] = (),
) -> ComparedSpecies:
    """Contrast two species with each other, and say of each what was described of it and tells it from the other.

    Args:
        traits: are gone through twice.
        latents: that describe the species of the collection, as the traits have them.
        species: two different ones of the collection.
        on_organism: of their regions, where masks or boxes say so.
        on_background: latents that nothing is tested of, as the plan of the run tests nothing of them.

    Raises:
        ConfigError: a species has no training individuals, so that nothing is known of it.
    """
    tallies = tally_traits(collection, traits, latents)
    said = SaidOfSpecies(tallies, individuals_by_species(collection.images)[1])
    contrasts = _contrasts(firing.training.without(on_background), species)
    telling = []
    for own, other in (species, species[::-1]):
        found = tallies.get(own, {})
        words = said.beside(own, [other]) if found else None
        telling.append(
            ()
            if words is None
            else _telling(found, words, contrasts[own], firing, own, other, on_organism.get(own, {}))
        )
    individuals = tuple(
        (firing.n_individuals(name, held_out=False), firing.n_individuals(name, held_out=True)) for name in species
    )
    first, second = _attribute_shares(collection, traits, species)
    return ComparedSpecies(
        species=species,
        individuals=individuals,  # pyright: ignore[reportArgumentType]
        telling=tuple(telling),  # pyright: ignore[reportArgumentType]
        words=(said_more_often(first, second), said_more_often(second, first)),
    )


def _attribute_shares(
    collection: Collection, traits: Iterable[Trait], species: tuple[str, str]
) -> list[dict[Attributed, float]]:
    """Of how many individuals of each species each value of an attribute is said, at all of their regions."""
    regions: dict[str | None, list[tuple[str, list[Attributed]]]] = {name: [] for name in species}
    for trait in traits:
        record = collection.images[trait.candidate.image]
        if (of_species := regions.get(record.taxon.species)) is not None:
            attributes = [(attribute.name, attribute.value) for attribute in trait.description.attributes]
            of_species.append((record.individual_id, attributes))
    return [attribute_shares(regions[name]) for name in species]


def _contrasts(counts: SpeciesCounts, species: tuple[str, str]) -> dict[str, dict[int, Contrast]]:
    """Species -> latent -> its contrast with the other species, where it fires in it more."""
    rows = [row for row, taxon in enumerate(counts.taxa) if taxon.species in species]
    known = {str(counts.taxa[row].species) for row in rows}
    if missing := [name for name in species if name not in known]:
        raise ConfigError(f"{' and '.join(missing)}: no individual was learnt from, so there is nothing to compare")
    pair = replace(
        counts,
        taxa=tuple(counts.taxa[row] for row in rows),
        n_individuals=counts.n_individuals[rows],
        fired=counts.fired[rows],
        patches=counts.patches[rows],
    )
    table = SpeciesContrasts.join(specimen_contrast(pair))
    found: dict[str, dict[int, Contrast]] = {name: {} for name in species}
    for i, row in enumerate(table.row_species):
        found[table.species[row]][int(table.latent[i])] = table.contrast(i, row)
    return found


def _telling(
    tallies: Mapping[str, Tally],
    words: TellingWords,
    contrasts: Mapping[int, Contrast],
    firing: FiringShares,
    own: str,
    other: str,
    on_organism: Mapping[str, float],
) -> tuple[TellingLatent, ...]:
    ranked = []
    for name, tally in tallies.items():
        latent = -1 if tally.choice is None else tally.choice.latent
        contrast = contrasts.get(latent)
        if contrast is None:
            continue
        shared = words.mark(tally.shared(), len(tally.individuals))
        shown = tally.shown(shared)
        held_out = firing.of_species(latent, own, held_out=True), firing.of_species(latent, other, held_out=True)
        again = None if (share := held_out[0].value) is None else (share, held_out[1].value)
        observed = Observed(
            background=tally.background,
            held_out=again,
            n_individuals=len(tally.individuals),
            on_organism=on_organism.get(name),
            is_told=any(word.is_telling for word in shared),
        )
        row = TellingLatent(
            latent=latent,
            shared=shared,
            text=shown.text,
            n_described=len(tally.individuals),
            trait_id=shown.trait_id,
            training=firing.of_species(latent, own, held_out=False),
            training_other=firing.of_species(latent, other, held_out=False),
            held_out=held_out[0],
            held_out_other=held_out[1],
            q_value=contrast.q_value,
            background=tally.background,
            verdict=judge(contrast, observed),
        )
        ranked.append((*rank(contrast, observed), latent, row))
    return tuple(row for *_, row in sorted(ranked, key=lambda one: one[:-1]))
