"""What the regions of each species and latent have in common, and how often the latent is there: for tables to read."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from sae_traits.describers.colours import family_in_words
from sae_traits.evaluation.statistics import Number
from sae_traits.schema import ChosenLatent, Collection, Contrast, ImageRecord, Taxon, Trait
from sae_traits.traits.firing_shares import FiringShares, Share, percent
from sae_traits.vocabulary import PartSource, ReferenceRank, Split

MOST = 0.5
"""A value of an attribute is named when more than this share of the individuals has it."""
STRONG = 0.5
"""Share of the strongest region's activation from which a region is shown that has more of the words."""
COLOUR = "colour"
"""The attribute whose values may be colours of the vocabulary."""
MIN_SHARING = 2
"""Individuals below which nothing is shared."""
MAX_NAMED = 3
"""Relatives that are named one by one."""
MIN_INDIVIDUALS = 5
"""With a region of a latent, below which little is known of what is there."""
_ORDER = ("part", "colour", "pattern", "place", "shape", "size", "texture", "marking")
"""In which attributes are said: the more telling ones first; others come last, by name."""


Attributed = tuple[str, str]
"""The name of an attribute, or `part`, and its value."""
Place = tuple[float, float | None]
"""How far from the animal's middle, and along its axis where it has one: see `schema.Measurement`."""


@dataclass(frozen=True, kw_only=True)
class SharedAttribute:
    """The part, or an attribute, that most individuals share at a latent."""

    name: str
    value: str
    share: float
    """Of the individuals with the trait."""
    share_of_relatives: float | None = None
    """Share of the relatives' individuals of which it is said, see `SaidOfSpecies`; None where none of them has a
    region, or relatives were not looked at."""
    is_telling: bool = False
    """Whether it is said so much more often of the species than of its relatives that it tells them apart."""
    is_usual: bool = False
    """Whether most latents of most other species share it, too."""


def worth_saying(shared: Sequence[SharedAttribute]) -> tuple[SharedAttribute, ...]:
    """What tells first, and without what is usual and does not tell; all of it where nothing else is shared."""
    said = [one for one in shared if one.is_telling or not one.is_usual] or shared
    return tuple(sorted(said, key=lambda one: not one.is_telling))


def nothing_shared(n_individuals: int) -> str:
    """What is said in the place of shared words where there are none, of individuals with a region."""
    return "one alone shares nothing" if n_individuals == 1 else "nothing that most of them share"


@dataclass(frozen=True, kw_only=True)
class HeldOutShares:
    """Individuals from which nothing was learnt or chosen, in which a latent fires."""

    species: Share
    relatives: Share


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
    relatives: tuple[str, ...] = ()
    """The species of the reference group, without the species; none where they were not looked up."""
    held_out: HeldOutShares | None = None
    """None where no individual of the species was held out, or codes are not at hand."""
    effect: float
    q_value: Number
    """NaN where nothing was tested: the shares are then those of firings at patches."""
    significant: bool

    @property
    def is_tested(self) -> bool:
        """Whether the shares are of individuals, and compared by a test."""
        return not math.isnan(self.q_value)

    @property
    def reference(self) -> str:
        """The relatives in words, by name where they are few."""
        if 0 < len(self.relatives) <= MAX_NAMED:
            return " and ".join(filter(None, (", ".join(self.relatives[:-1]), self.relatives[-1])))
        if self.reference_rank == "collection":
            return f"all {len(self.relatives)} other species" if self.relatives else "all other species"
        name = f", {self.reference_name}" if self.reference_name else ""
        n_species = f" ({len(self.relatives)} species)" if self.relatives else ""
        return f"the rest of its {self.reference_rank}{name}{n_species}"

    def said_of(self, species: str) -> str:
        """How often in the species and in its relatives: what makes a region a trait of it."""
        if not self.is_tested:
            genus = f", {self.reference_name}" if self.reference_name else ""
            return (
                f"{percent(self.f_species)} of the firings in {species}, {percent(self.f_reference)} in its "
                f"{self.reference_rank}{genus}"
            )
        of_species = f"{percent(self.f_species)} of {species} ({self.n_fired} of {self.n_individuals} individuals)"
        return f"in {of_species}, {percent(self.f_reference)} of {self.reference}"

    @property
    def shares_held_out(self) -> tuple[float, float | None] | None:
        """As `Observed` has them."""
        if self.held_out is None or (own := self.held_out.species.value) is None:
            return None
        return own, self.held_out.relatives.value


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedRegion:
    """A region of an individual, and what is said of it."""

    trait_id: str
    individual_id: str
    split: Split
    text: str
    said: frozenset[Attributed]
    peak: float | None
    background: float | None
    """Probability that it shows background, where that is known."""
    place: Place | None = None
    """Where on the animal it lies, where that is known."""
    image: str = ""
    """The file of its photograph, in the collection."""

    @property
    def is_for_training(self) -> bool:
        """Whether latents were learnt and chosen from it."""
        return self.split == "train"

    @property
    def order(self) -> tuple[float, float, str]:
        """Which of several to show, the smallest: the strongest, then what is least likely background."""
        return -(self.peak or 0.0), self.background or 0.0, self.trait_id


def said_of(
    part: str | None, part_source: PartSource | None, attributes: Iterable[Attributed]
) -> frozenset[Attributed]:
    """What a describer said of a region, and the family of each colour; a part that a person has named is not.

    Individuals may agree that something is `tan/brown/rufous`, and on none of the three names.
    """
    of_part = [("part", part)] if part and part_source != "named" else []
    attributes = tuple(attributes)
    families = (family_in_words(value) for name, value in attributes if name == COLOUR)
    return frozenset((*of_part, *attributes, *((COLOUR, family) for family in families if family is not None)))


@dataclass
class Tally:
    """The individuals of a species with a trait, and those of which each value was said."""

    choice: ChosenLatent | None = None
    individuals: set[str] = field(default_factory=set)
    held_out: set[str] = field(default_factory=set)
    backgrounds: list[float] = field(default_factory=list)
    """Probability of background of each region, where it is known."""
    values: dict[str, dict[str, set[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    """Name of an attribute -> value -> individuals."""
    regions: dict[tuple[bool, frozenset[Attributed]], DescribedRegion] = field(default_factory=dict)
    """Whether it is for training, and what is said of it -> the first in order of such regions."""

    def count(self, region: DescribedRegion) -> None:
        """Count a region of an individual, and what is said of it."""
        self.individuals.add(region.individual_id)
        if not region.is_for_training:
            self.held_out.add(region.individual_id)
        if region.background is not None:
            self.backgrounds.append(region.background)
        for name, value in region.said:
            self.values[name][value].add(region.individual_id)
        kind = region.is_for_training, region.said
        self.regions[kind] = min(self.regions.get(kind, region), region, key=lambda one: one.order)

    def shown(self, shared: Sequence[SharedAttribute]) -> DescribedRegion:
        """The region to show beside what individuals share: one of a held-out image that illustrates it.

        Of such a region the first word is said, and most of all words. Of those that are at least half as strong as the
        strongest, the one with the most of the words comes first: a weaker one often happens to have the same shape.
        Where no held-out region illustrates it one for training is shown, and where none does the strongest.
        """
        words = [(one.name, one.value) for one in worth_saying(shared)]

        def n_lacking(region: DescribedRegion) -> int:
            return sum(word not in region.said for word in words)

        def kind(region: DescribedRegion) -> tuple[bool, bool]:
            illustrates = not words or (words[0] in region.said and n_lacking(region) < (1 - MOST) * len(words))
            return not illustrates, region.is_for_training

        best = min(map(kind, self.regions.values()))
        regions = sorted((one for one in self.regions.values() if kind(one) == best), key=lambda one: one.order)
        strong = [one for one in regions if (one.peak or 0) >= STRONG * (regions[0].peak or 0)]
        return regions[0] if best[0] else min(strong, key=n_lacking)

    @property
    def contrast(self) -> Contrast | None:
        """Of the species' latent."""
        return None if self.choice is None else self.choice.contrast

    @property
    def background(self) -> float | None:
        """Mean probability that the regions show background; None where it is not known."""
        return round(fmean(self.backgrounds), 3) if self.backgrounds else None

    def shared(self) -> tuple[SharedAttribute, ...]:
        """List the values that enough individuals have, of one attribute the more frequent first.

        The family of a colour is listed where none of its names is.
        """
        if len(self.individuals) < MIN_SHARING:
            return ()
        common: list[SharedAttribute] = []
        for name, values in self.values.items():
            for value, individuals in values.items():
                if (share := len(individuals) / len(self.individuals)) > MOST:
                    common.append(SharedAttribute(name=name, value=value, share=share))

        named = {family_in_words(one.value) for one in common if one.name == COLOUR}
        common = [one for one in common if one.name != COLOUR or one.value not in named]

        def order(attribute: SharedAttribute) -> tuple[int, str, float, str]:
            name = attribute.name
            place = _ORDER.index(name) if name in _ORDER else len(_ORDER)
            return place, name, -attribute.share, attribute.value

        return tuple(sorted(common, key=order))


def individuals_by_species(images: Sequence[ImageRecord]) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """The individuals of each species, and those of them that have an image that is not for training."""
    of_all: dict[str, set[str]] = defaultdict(set)
    of_held_out: dict[str, set[str]] = defaultdict(set)
    for record in images:
        if (species := record.taxon.species) is not None:
            of_all[species].add(record.individual_id)
            if record.split != "train":
                of_held_out[species].add(record.individual_id)
    return of_all, of_held_out


def tally_traits(
    collection: Collection, traits: Iterable[Trait], latents: Iterable[ChosenLatent]
) -> dict[str, dict[str, Tally]]:
    """Count per species and what picked regions.

    Latents of other species, which images that were described without their label may have, are left out.
    """
    chosen = {(choice.species, choice.latent): choice for choice in latents}
    tallies: dict[str, dict[str, Tally]] = defaultdict(dict)
    for trait in traits:
        record, candidate = collection.images[trait.candidate.image], trait.candidate
        if (species := record.taxon.species) is None:
            continue
        choice = None if candidate.latent is None else chosen.get((species, candidate.latent))
        if candidate.latent is None or choice is not None:
            tallies[species].setdefault(candidate.name, Tally(choice)).count(_described(trait, record))
    return tallies


def _described(trait: Trait, record: ImageRecord) -> DescribedRegion:
    description, distance = trait.description, trait.measurement.distance_from_centre
    attributes = ((attribute.name, attribute.value) for attribute in description.attributes)
    return DescribedRegion(
        trait_id=trait.trait_id,
        individual_id=record.individual_id,
        split=record.split,
        text=description.text,
        said=said_of(description.part, description.part_source, attributes),
        peak=trait.candidate.peak,
        background=trait.candidate.background,
        place=None if distance is None else (distance, trait.measurement.position_along_axis),
        image=record.file,
    )


def compare(choice: ChosenLatent, taxon: Taxon, firing: FiringShares | None = None) -> Comparison:
    """A latent that describes a species, in it and in its relatives.

    Args:
        taxon: of the species.
        firing: to look up who the relatives are, and the shares of individuals that were held out.
    """
    contrast, species = choice.contrast, choice.species
    relatives, held_out = (), None
    if firing is not None:
        relatives = firing.relatives(species, contrast.reference_rank)
        own = firing.of_species(choice.latent, species, held_out=True)
        others = firing.of_relatives(choice.latent, species, contrast.reference_rank)
        held_out = HeldOutShares(species=own, relatives=others) if own.of else None
    return Comparison(
        f_species=contrast.f_species,
        f_reference=contrast.f_reference,
        reference_rank=contrast.reference_rank,
        reference_name=None if contrast.reference_rank == "collection" else taxon.rank(contrast.reference_rank),
        relatives=relatives,
        held_out=held_out,
        n_fired=choice.n_fired,
        n_individuals=choice.n_individuals,
        effect=contrast.effect,
        q_value=contrast.q_value,
        significant=contrast.significant,
    )
