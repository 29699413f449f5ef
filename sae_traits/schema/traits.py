"""What is found in images: latents and their contrast, candidates, regions, and what is said of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from sae_traits.arrow import column
from sae_traits.vocabulary import PartSource, ReferenceRank, RegionSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """How much more often a latent fires in a species than in its relatives."""

    f_species: float = column(
        "Share of the species' individuals in which the latent fired; with the contrast `paper` the latent's share of "
        "all firings at patches of the species' images."
    )
    f_reference: float = column(
        "The same for the reference group, without the species; with the contrast `paper` for the genus, with the "
        "species."
    )
    effect: float = column(
        "Log odds ratio of the species against the reference group, shrunk where individuals are few; with the "
        "contrast `paper` log(f_species / f_reference), not shrunk. Traits are ranked by it."
    )
    q_value: float = column("One-sided hypergeometric test, Benjamini-Hochberg adjusted; null where not tested.")
    """Adjusted within the species; NaN for `paper`."""
    significant: bool = column("Whether the contrast passed that test; where classes are small it seldom can.")
    reference_rank: ReferenceRank = column("What the species was contrasted with: genus, family, order or collection.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenLatent:
    """A latent that describes a species: one row of the config `latents`."""

    species: str = column("The species that the latent describes.")
    latent: int = column("Index, from 0, in the dictionary named by `sae`.")
    threshold: float = column("The latent fires above this activation.")
    contrast: Contrast
    n_fired: int = column("Individuals of the species, of the train split, in which it fired.")
    """In any of their images."""
    n_individuals: int = column("Individuals of the species in the train split.")
    background: float | None = column(
        "Mean probability that the latent fires on background, 0 to 1; null where nothing is known.", default=None
    )
    usual_x: float | None = column(
        "Where on the organism it fires most in the train split: from the left (0) to the right (1) of the box around "
        "what is probably not background; null where backgrounds are not known.",
        default=None,
    )
    usual_y: float | None = column("The same from the top (0) to the bottom (1) of that box.", default=None)
    name: str | None = column("What it stands for, as a person has named it; null without a name.", default=None)
    held_out_f_species: float | None = column(
        "Share of the species' individuals of the other splits in which it fires; null where there are none.",
        default=None,
    )
    held_out_f_reference: float | None = column(
        "The same of the rest of the reference group, from whose individuals nothing was learnt or chosen either; null "
        "where there are none of either.",
        default=None,
    )

    @property
    def usual_place(self) -> tuple[float, float] | None:
        """Where it usually fires (x, y), relative to the box around the organism; None where that is not known."""
        return None if self.usual_x is None or self.usual_y is None else (self.usual_x, self.usual_y)

    @property
    def held_out(self) -> tuple[float, float | None] | None:
        """Both shares of held-out individuals; None where there are none of the species, or of its relatives."""
        return None if self.held_out_f_species is None else (self.held_out_f_species, self.held_out_f_reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A latent that the contrast picked for an image, with the patches where it fired.

    Grad-CAM and the whole image have no latents, hence no contrast either.
    """

    image: int
    """Row in images.parquet."""
    region_source: RegionSource = column(
        "What picked the region: sae, or a baseline (pca, k_means, gradcam, whole …).", default="sae"
    )
    latent: int | None = column("Index, from 0, in the dictionary named by `sae`; null where regions have no latents.")
    patches: tuple[int, ...]
    peak: float | None = column(
        "Highest activation of the latent (or of Grad-CAM's map) in the region; null for the whole image.",
        name="activation",
    )
    background: float | None = column(
        "Probability that the region shows background, 0 to 1, learnt from where things lie in the collection's "
        "photographs, and from patches where the latents of a species agree; null where nothing could be learnt.",
        default=None,
    )
    contrast: Contrast | None

    @property
    def name(self) -> str:
        """What picked the region, unique within the image: `17` of the SAE, `pca-17`, `gradcam`, `whole`."""
        if self.latent is None:
            return self.region_source
        return str(self.latent) if self.region_source == "sae" else f"{self.region_source}-{self.latent}"

    @property
    def effect(self) -> float:
        """The contrast's effect, for ranking; 0 where nothing was contrasted."""
        return self.contrast.effect if self.contrast else 0.0

    @property
    def significant(self) -> bool:
        """Whether the contrast is significant; what was not contrasted is not."""
        return self.contrast is not None and self.contrast.significant


@dataclass(frozen=True, slots=True, kw_only=True)
class AnimalFrame:
    """An animal in its photograph, in a few numbers; all in pixels of the source image."""

    area: float
    centre: tuple[float, float]
    """x, y."""
    spread: tuple[float, float, float]
    """Variance of x, covariance, and variance of y."""
    ends: tuple[float, float] | None
    """How far it reaches along its longest axis, as projections; None where it is about as wide as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Where a candidate lies in the source image."""

    box: tuple[float, float, float, float] = column("x, y, width, height in pixels of this row's image.")
    polygons: tuple[tuple[float, ...], ...] = column(
        "Outlines as x0, y0, x1, y1, … in pixels of this row's image, not closed."
    )
    """Outer rings; holes are filled."""
    patches: tuple[int, ...]
    area_fraction: float = column("Share of the image's area that the region covers.", unit="share of the image")
    animal: AnimalFrame | None = None
    """The animal that it lies on, as far as the image's background is known; see `traits.animals`."""
    organism: bytes | None = None
    """How surely each patch of the image shows the organism, in 255ths, for its outline; None where `animal` is."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One thing seen, for example colour: dark brown."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a describer said of a region."""

    text: str = column("One sentence about the region.")
    part: str | None = column("Part of the organism, null where nobody has said it.", default=None)
    part_source: PartSource | None = column(
        "Who said which part it is: describer, or named, by a person who named the latent; null without a part.",
        default=None,
    )
    """Set where the dataset is written; see `traits.latent_names`."""
    attributes: tuple[Attribute, ...] = column("Names and values: colour, pattern, shape, size …", default=())
    is_background: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """What a describer said of a whole image: one row of the config `captions`."""

    image: int
    """Row in images.parquet."""
    text: str = column("One sentence about the organism in the image.", name="caption")
    context_page: str | None = column(
        "Page of the reference text that settled its terms; null where the describer was given none.", default=None
    )
    describer: str = column("Who wrote the caption.")
    describer_model: str = column("Its model, as model@revision.")
    prompt: str = column("Version and hash of its prompt or rules.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was measured on a region's pixels; lengths in source pixels, and in millimetres where there is a scale."""

    length_px: float = column(
        "Longer side of the smallest rectangle around the region, in source image pixels.",
        unit="pixel of the source image",
    )
    width_px: float = column("Its shorter side, in source image pixels.", unit="pixel of the source image")
    elongation: float = column("Length over width.", unit="ratio of length to width")
    """1 is compact."""
    texture_contrast: float = column("Standard deviation of CIELAB lightness in the region, 0 to 50.", unit="CIELAB L*")
    color_lab: tuple[float, float, float] = column("CIELAB (D65) of the region's dominant colour.", unit="CIELAB (D65)")
    color_name: str = column("Its name.", unit="")
    length_mm: float | None = column(
        "Length in millimetres, null where the image has no scale.", default=None, unit="mm"
    )
    width_mm: float | None = column("Width in millimetres, null where the image has no scale.", default=None, unit="mm")
    animal_source: Literal["mask", "background"] | None = column(
        "What told the animal of the next columns: its mask, or what was learnt of the collection's backgrounds, patch "
        "by patch; null where neither did.",
        default=None,
    )
    on_animal: float | None = column(
        "Share of the region on the animal, 0 to 1; null where no mask was used.",
        default=None,
        unit="share of the region",
    )
    share_of_animal: float | None = column(
        "Share of the animal in the region, 0 to 1; null where the animal is not known.",
        default=None,
        unit="share of the animal",
    )
    distance_from_centre: float | None = column(
        "Distance of the region's middle from the animal's (0) towards its edge (1), the animal being taken for an "
        "ellipse; null where the animal is not known, and off the animal of a mask.",
        default=None,
        unit="share of the way from the animal's middle to its edge",
    )
    position_along_axis: float | None = column(
        "Distance from the middle (0) of the animal's longest axis towards either end (1); null where the animal is "
        "not known or as wide as long, and off the animal of a mask.",
        default=None,
        unit="share of the way from the middle of the longest axis to its end",
    )
    """See `traits.animals`."""

    def with_scale(self, mm_per_pixel: float | None) -> Measurement:
        """The same with millimetres, where a scale is known."""
        if mm_per_pixel is None:
            return self
        return replace(self, length_mm=self.length_px * mm_per_pixel, width_mm=self.width_px * mm_per_pixel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """What people made of a trait that they saw on a blind sheet."""

    verdict: Literal["accepted", "rejected", "disputed"] = column(
        "What most of the people said who looked at it on a blind sheet: accepted, rejected, or disputed where as many "
        "said the one as the other; null where nobody has looked.",
        name="reviewed",
    )
    score: float | None = column(
        "Mean of their scores, 1 (wrong) to 5 (all of it true), normalised by each one's own mean; null without one.",
        name="review_score",
    )
    n_raters: int = column("How many people they were; null where nobody has looked.")
    sheet: str = column("The sheet on which they saw it; null where nobody has looked.", name="review_sheet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trait:
    """One row of the released dataset: a candidate, where it is, what was said of it and what was measured."""

    trait_id: str = column("Image-trait pair, stable across re-releases.")
    """Made of the image and the candidate's name."""
    candidate: Candidate
    region: Region
    description: Description
    measurement: Measurement
    n_images: int = column("How many images the description was agreed on.", default=1)
    describer: str = column("Who described the region.")
    describer_model: str = column("Its model, as model@revision.")
    prompt: str = column("Version and hash of its prompt or rules.")
    reviewed: Reviewed | None = None
    """Set where the dataset is written; see `evaluation.review`."""
