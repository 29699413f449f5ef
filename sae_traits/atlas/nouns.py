"""What the pages of an atlas are made of: a release, gathered by image, by species and by latent.

Outlines, boxes and pictures are in pixels of the atlas's picture of an image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from sae_traits.evaluation.species_tallies import SharedAttribute, worth_saying
from sae_traits.evaluation.telling_words import attribute_shares
from sae_traits.evaluation.verdict import Observed, Verdict, judge
from sae_traits.schema import Contrast
from sae_traits.vocabulary import PartSource, Split

MAX_WORDS = 4
"""Of a latent, beside its picture."""
UNLABELLED = "Photographs without a label"
"""In the place of a species."""


def percent(share: float | None) -> str:
    """A share as whole percents; a dash where it is not known."""
    return "–" if share is None or share != share else f"{100 * share:.0f}\u00a0%"


@dataclass(frozen=True, slots=True)
class Rights:
    """Under whose terms a photograph is shown."""

    license: str | None
    rights_holder: str | None

    def __str__(self) -> str:
        """The attribution in one line; what is not known is said, too."""
        holder = self.rights_holder or "rights holder not stated"
        return f"{holder} · {self.license or 'licence not stated'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TraitOfImage:
    """One region of an image, and what is said of it."""

    trait_id: str
    text: str
    part: str | None
    part_source: PartSource | None
    attributes: tuple[tuple[str, str], ...]
    outline: str
    """As the `d` of an SVG path."""
    letter_place: tuple[int, int]
    """The middle of its letter."""
    box: tuple[int, int, int, int]
    picked_by: str
    """What picked the region: sae, or a baseline."""
    latent: int | None
    activation: float | None
    background: float | None
    area_fraction: float
    length_px: float
    width_px: float
    length_mm: float | None
    width_mm: float | None
    color_name: str
    color: str
    """As #rrggbb."""
    describer: str
    """With its model."""
    reviewed: str | None
    """What people said who saw it on a blind sheet: accepted, rejected or disputed; None where nobody has looked."""
    review_score: float | None
    n_raters: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOfAtlas:
    """One photograph with its traits."""

    image_id: str
    page: str
    """Below the root of the atlas, as are all paths."""
    picture: str | None
    """None where the release only names its images."""
    size: tuple[int, int]
    """Width and height of the picture, or of the empty frame in its place."""
    individual_id: str
    species: str
    split: Split
    rights: Rights
    source_url: str | None
    source_id: str
    traits: tuple[TraitOfImage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentOfSpecies:
    """A latent that describes a species: a row of the config `latents`."""

    species: str
    latent: int
    name: str | None
    contrast: Contrast
    n_fired: int
    n_individuals: int
    background: float | None
    """Mean probability that its regions in the species show background; where it has none there, that of the latent
    wherever it fires."""
    held_out: tuple[float, float | None] | None
    """Shares of the species' and of its relatives' held-out individuals; None where there are none."""
    on_organism: float | None = None
    """Share of its regions' area in the species on the organism, by masks or boxes; None where that was not scored."""
    n_with_region: int = 0
    """Individuals of the species with a region of it."""
    shared: tuple[SharedAttribute, ...] = ()
    """What most of the individuals with a region of it have in common."""
    shown: tuple[ImageOfAtlas, TraitOfImage] | None = None
    """A region of it in the species, of which that is said; None where it has none."""

    @property
    def words(self) -> tuple[SharedAttribute, ...]:
        """What of it is said beside the picture: the most telling, MAX_WORDS at most."""
        return worth_saying(self.shared)[:MAX_WORDS]

    @property
    def is_tested(self) -> bool:
        """Whether the shares are of individuals; those of the paper's contrast are of firings."""
        return self.contrast.q_value == self.contrast.q_value

    @property
    def verdict(self) -> Verdict:
        """Whether to rely on it, by the rule of the evaluation."""
        observed = Observed(
            background=self.background,
            held_out=self.held_out,
            n_individuals=self.n_with_region,
            on_organism=self.on_organism,
            is_told=any(word.is_telling for word in self.shared),
        )
        return judge(self.contrast, observed)

    def how_often(self, lineage: Mapping[str, str | None]) -> str:
        """In how many individuals of the species and of its relatives it fires, in words."""
        contrast, group = self.contrast, lineage.get(self.contrast.reference_rank)
        if not self.is_tested:
            own, theirs = f"{100 * contrast.f_species:.2f}\u00a0%", f"{100 * contrast.f_reference:.2f}\u00a0%"
            return f"{own} of its firings, {theirs} of those of {group or 'the others'}"
        others = f"other {group}" if group else "all other species"
        counts = f"{self.n_fired} of {self.n_individuals}"
        shares = (
            f"in {percent(contrast.f_species)} of its individuals ({counts}) and {percent(contrast.f_reference)} of "
            f"those of {others}"
        )
        if self.held_out is None:
            return shares
        own, theirs = (None if share is None else percent(share) for share in self.held_out)
        return f"{shares}; found again in {own} {f'and {theirs} ' if theirs else ''}of those held out"


@dataclass(kw_only=True)
class Species:
    """A species, or what is without a label, with photographs and latents: those to trust first, as in the report."""

    name: str
    key: str
    """In the names of its pages."""
    lineage: dict[str, str | None]
    images: list[ImageOfAtlas] = field(default_factory=list)
    latents: list[LatentOfSpecies] = field(default_factory=list)

    @property
    def page(self) -> str:
        return f"species/{self.key}.html"

    @property
    def has_label(self) -> bool:
        """Whether it is a species, and not the photographs without a label."""
        return self.lineage["species"] is not None

    @property
    def n_traits(self) -> int:
        return sum(len(image.traits) for image in self.images)

    @property
    def shown_latents(self) -> list[LatentOfSpecies]:
        """Those of its latents that have a region in it, which are those that the report judges."""
        return [one for one in self.latents if one.shown is not None]

    @property
    def n_trusted(self) -> int:
        """How many of these are to be trusted."""
        return sum(one.verdict.word == "trust" for one in self.shown_latents)

    @cached_property
    def n_individuals(self) -> int:
        return len({image.individual_id for image in self.images})

    @cached_property
    def is_learnt_from(self) -> bool:
        """Whether it has labelled photographs of the train split, from which alone latents are chosen."""
        return self.has_label and any(image.split == "train" for image in self.images)

    @cached_property
    def cover(self) -> ImageOfAtlas:
        """The photograph with the strongest regions."""
        return max(self.images, key=lambda image: sum(trait.activation or 0 for trait in image.traits))

    @cached_property
    def attribute_shares(self) -> dict[tuple[str, str], float]:
        """Attribute and value -> share of the individuals with traits of which it is said anywhere."""
        return attribute_shares(
            (image.individual_id, trait.attributes) for image in self.images for trait in image.traits
        )


@dataclass(kw_only=True)
class Latent:
    """A latent with the species that it describes and all regions where it fired."""

    number: int
    name: str | None = None
    suggestion: str | None = None
    """What a describer would call it; nobody has said that it is so."""
    of_species: list[LatentOfSpecies] = field(default_factory=list)
    regions: list[tuple[ImageOfAtlas, TraitOfImage]] = field(default_factory=list)

    @property
    def page(self) -> str:
        return f"latents/{self.number}.html"

    def strongest(self, n: int) -> list[tuple[ImageOfAtlas, TraitOfImage]]:
        """Where it is strongest: at most one region per individual."""
        best: dict[str, tuple[ImageOfAtlas, TraitOfImage]] = {}
        for image, trait in sorted(self.regions, key=lambda region: -(region[1].activation or 0)):
            best.setdefault(image.individual_id, (image, trait))
        return list(best.values())[:n]


@dataclass(kw_only=True)
class Atlas:
    """Everything that an atlas shows of a release."""

    title: str
    note: str | None
    """Why the images show no real organisms."""
    sae: str | None
    """The dictionary whose latents picked the regions: the SAE or a baseline; None without latents."""
    images: list[ImageOfAtlas]
    species: list[Species]
    """By name; photographs without a label are together in the place of one."""
    latents: dict[int, Latent]
    """By number."""

    @cached_property
    def species_by_name(self) -> dict[str, Species]:
        return {one.name: one for one in self.species}

    @cached_property
    def n_species(self) -> int:
        """How many there are, of which none is the photographs without a label."""
        return sum(one.has_label for one in self.species)

    @cached_property
    def n_unlabelled(self) -> int:
        """Photographs without a label."""
        return sum(len(one.images) for one in self.species if not one.has_label)

    @cached_property
    def is_tested(self) -> bool:
        """Whether its latents were tested, so that a species in which one could have passed has only those that did."""
        return any(row.is_tested for latent in self.latents.values() for row in latent.of_species)

    @cached_property
    def rights(self) -> list[tuple[Rights, int]]:
        """Terms and how many photographs are under them, the most frequent first."""
        return Counter(image.rights for image in self.images).most_common()

    @property
    def traits(self) -> Iterator[tuple[ImageOfAtlas, TraitOfImage]]:
        """All traits, in the order of the images."""
        for image in self.images:
            for trait in image.traits:
                yield image, trait

    @cached_property
    def n_traits(self) -> int:
        return sum(len(image.traits) for image in self.images)

    @cached_property
    def n_individuals(self) -> int:
        return len({image.individual_id for image in self.images})

    def relatives(self, species: Species) -> list[Species]:
        """Species of the same genus, or, where there is none, of the same family; by name."""
        for rank in ("genus", "family"):
            shared = species.lineage.get(rank)
            found = [one for one in self.species if one is not species and one.lineage.get(rank) == shared]
            if shared is not None and found:
                return found
        return []
