"""The section `regions`: what picks the regions of an image, and the contrast that chooses among latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from sae_traits.config.options import check, check_at_least, option, variant
from sae_traits.vocabulary import SPLITS, Split

_EVIDENCE_HELP = (
    "A region keeps the patches with at least this share of the highest log odds of showing the organism in an image "
    "(from a probability of 0.97 on all count the same), or, where what it looks like was not learnt, of its evidence "
    "(of a patch: the sum over its latents of effect x activation / threshold); 0 keeps all patches where a latent "
    "fired."
)
HELD_OUT: tuple[Split, ...] = ("validation", "test")
FIRING_SHARE, FIRING_PATCHES = 0.3, 256
"""Share of a latent's positive activations above which it fires, in images of so many patches or fewer."""


@dataclass(frozen=True, kw_only=True)
class SpecimenContrast:
    """Latents that fire in a larger share of a species' individuals than of its closest relatives'."""

    kind: Literal["specimen"] = "specimen"
    firing_quantile: float | None = option(
        None,
        "A latent fires above this quantile of its own positive activations on the training split. By default 0.7, and "
        f"higher where an image has more than {FIRING_PATCHES} patches, so that a latent fires at no more of them.",
    )
    max_species_share: float = option(
        0.95,
        "Drop latents that fire nearly everywhere: in more than this share of a species' individuals, on average over "
        "species.",
    )
    min_evidence: float = option(0.6, _EVIDENCE_HELP)
    significant_only: bool = option(
        True,
        "Leave out latents that are not significant, unless all species have so few individuals that none could be; "
        "without it a species that has no significant latent gets all that fire more often in it, marked as not "
        "significant.",
    )

    def __post_init__(self) -> None:
        quantile = self.firing_quantile
        check(quantile is None or 0 <= quantile < 1, f"firing_quantile must lie in [0, 1), not {quantile}")
        check(0 < self.max_species_share <= 1, f"max_species_share must lie in (0, 1], not {self.max_species_share}")
        check(0 <= self.min_evidence <= 1, f"min_evidence must lie in [0, 1], not {self.min_evidence}")

    def quantile_for(self, n_patches: int) -> float:
        """The quantile above which a latent fires in images of some patches.

        A latent is said to fire in an image if it does so at any patch: at the same quantile per patch, four times as
        many patches would have it fire in more images, of all species alike.
        """
        if self.firing_quantile is not None:
            return self.firing_quantile
        return 1 - FIRING_SHARE * min(1.0, FIRING_PATCHES / n_patches)


@dataclass(frozen=True, kw_only=True)
class PaperContrast:
    """Algorithm 1 of the paper: shares of all firings, of patches, above two thresholds."""

    kind: Literal["paper"] = "paper"
    firing_threshold: float = option(0.9, "A latent fires above this value.")
    min_frequency: float = option(3e-3, "t_freq of Algorithm 1.")
    min_evidence: ClassVar[float] = 0.0
    """Algorithm 1 takes every region of its latents."""

    def __post_init__(self) -> None:
        check_at_least(0, self, "firing_threshold", "min_frequency")


@dataclass(frozen=True, kw_only=True)
class ReleasedLatents:
    """No contrast: the latents of a dataset that was released before, for images as if their species were unknown."""

    kind: Literal["released"] = "released"
    latents: str = option(
        help="Describe all images with the latents of this dataset (folder or Hub id), as if no species were known.",
        metavar="DATASET",
        is_path=True,
    )
    revision: str | None = option(
        None, "Branch, tag or commit of that dataset on the Hub.", flag="latents-revision", metavar="REVISION"
    )
    min_evidence: float = option(0.6, _EVIDENCE_HELP)

    def __post_init__(self) -> None:
        check(0 <= self.min_evidence <= 1, f"min_evidence must lie in [0, 1], not {self.min_evidence}")


BaselineContrast = SpecimenContrast | PaperContrast
Contrast = SpecimenContrast | PaperContrast | ReleasedLatents
_CONTRAST_HELP = "Which latents describe a species."


@dataclass(frozen=True, kw_only=True)
class RegionsConfig:
    """What all regions have in common."""

    has_latents: ClassVar[bool]
    """Whether latents pick the regions, and a contrast the latents."""
    label_free: bool = option(
        False, "Describe validation and test images as if their species were unknown, with the latents of all species."
    )

    @property
    def unlabelled_splits(self) -> tuple[Split, ...]:
        """Splits whose images are described as if nobody had named them."""
        return HELD_OUT if self.label_free else ()


@dataclass(frozen=True, kw_only=True)
class LatentRegions(RegionsConfig):
    """What all RegionsOfLatents have in common."""

    has_latents = True
    traits_per_image: int = option(5, "At most this many traits per image, the strongest first.")
    max_overlap: float = option(
        0.55,  # not a half, which two patches of four are: rounding would decide
        "Leave out a region of which more than this share lies in stronger regions of the image.",
    )
    min_patches: int = option(1, "Leave out regions of fewer connected patches.")
    box_margin: float = option(
        0.0, "Widen a region's box on every side by this share of its longer side, within the image; outlines stay."
    )
    background: Literal["auto", "masks", "off"] = option(
        "auto",
        "What keeps regions off the background: auto: what lies at the edges of photographs and not in their middles, "
        "where these differ, and what the organism looks like, where labels tell; masks: the collection's masks; off: "
        "nothing.",
    )
    outline: Literal["image", "patches"] = option(
        "image",
        "What a region's outline, box, size and shape are those of: image: what looks alike in and around its patches; "
        "patches: the patches.",
    )

    def __post_init__(self) -> None:
        check_at_least(1, self, "traits_per_image", "min_patches")
        check(0 < self.max_overlap <= 1, f"max_overlap must lie in (0, 1], not {self.max_overlap}")
        check(0 <= self.box_margin <= 10, f"box_margin must lie in [0, 10], not {self.box_margin}")


@dataclass(frozen=True, kw_only=True)
class SAERegions(LatentRegions):
    """Where the latents of the SAE fire."""

    kind: Literal["sae"] = "sae"
    contrast: Contrast = variant(SpecimenContrast, _CONTRAST_HELP)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            not (self.label_free and isinstance(self.contrast, ReleasedLatents)),
            "--latents uses no label of any image, so --label-free adds nothing; leave it out",
        )

    @property
    def unlabelled_splits(self) -> tuple[Split, ...]:
        """Splits whose images are described as if nobody had named them."""
        return SPLITS if isinstance(self.contrast, ReleasedLatents) else super().unlabelled_splits


@dataclass(frozen=True, kw_only=True)
class BaselineRegions(LatentRegions):
    """What all baselines with latents have in common: dictionaries of the SAE's own features, to compare it with."""

    contrast: BaselineContrast = variant(SpecimenContrast, _CONTRAST_HELP)


@dataclass(frozen=True, kw_only=True)
class PCARegions(BaselineRegions):
    """A baseline: principal components of the features."""

    kind: Literal["pca"] = "pca"


@dataclass(frozen=True, kw_only=True)
class NMFRegions(BaselineRegions):
    """A baseline: components of a non-negative matrix factorisation of the features."""

    kind: Literal["nmf"] = "nmf"


@dataclass(frozen=True, kw_only=True)
class KMeansRegions(BaselineRegions):
    """A baseline: clusters of the features."""

    kind: Literal["k_means"] = "k_means"


@dataclass(frozen=True, kw_only=True)
class RandomRegions(BaselineRegions):
    """A baseline: random directions in the space of the features."""

    kind: Literal["random"] = "random"


@dataclass(frozen=True, kw_only=True)
class GradCAMRegions(RegionsConfig):
    """A baseline: where the backbone's own classifier looks; there are no latents."""

    has_latents = False
    kind: Literal["gradcam"] = "gradcam"
    min_patches: int = option(1, "Leave out regions of fewer connected patches.")
    box_margin: float = option(
        0.0, "Widen a region's box on every side by this share of its longer side, within the image; outlines stay."
    )

    def __post_init__(self) -> None:
        check_at_least(1, self, "min_patches")
        check(0 <= self.box_margin <= 10, f"box_margin must lie in [0, 10], not {self.box_margin}")


@dataclass(frozen=True, kw_only=True)
class WholeImage(RegionsConfig):
    """A baseline: the whole image; there are no latents."""

    has_latents = False
    kind: Literal["whole"] = "whole"


RegionsOfLatents = SAERegions | PCARegions | NMFRegions | KMeansRegions | RandomRegions
"""Regions with a contrast, which chooses their latents."""
Regions = RegionsOfLatents | GradCAMRegions | WholeImage
