"""Which regions of which images are described: decided once, by the kind of regions, and handed down."""

from __future__ import annotations

from collections.abc import Callable, Container
from collections.abc import Collection as Several
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sae_traits.config.regions import (
    BaselineContrast,
    Contrast,
    GradCAMRegions,
    PaperContrast,
    Regions,
    ReleasedLatents,
    SpecimenContrast,
    WholeImage,
)
from sae_traits.features.source import FeatureSource
from sae_traits.sae.model import SAE
from sae_traits.schema import BackboneInfo, Candidate, Collection, ImageRecord, Taxon
from sae_traits.traits.candidates import Candidates, all_candidates
from sae_traits.traits.chosen import (
    ChosenLatents,
    LatentsBySpecies,
    choose_latents,
    latents_everywhere,
    latents_on_background,
)
from sae_traits.traits.class_maps import class_map_candidates
from sae_traits.traits.codes import Codes
from sae_traits.traits.contrast import paper_contrast, specimen_contrast
from sae_traits.traits.encode import firing_thresholds, training_weights
from sae_traits.traits.outlines import Outlines
from sae_traits.traits.regions import make_region
from sae_traits.traits.released_latents import DatasetLatents
from sae_traits.traits.species_counts import SpeciesCounts, count_firings
from sae_traits.vocabulary import Split


@dataclass(frozen=True)
class Plan:
    """What decides which regions are described."""

    collection: Collection
    """Whose images they are; without the labels that the description is not to see."""
    candidates: Callable[[], Candidates]
    """Yields every image with its candidates; the same each time, one image in memory."""
    chosen: LatentsBySpecies = field(default_factory=lambda: choose_latents([], np.empty(0, dtype=np.float32)))
    """The latents that describe each species; empty where regions need no latents."""
    has_latents: bool = False
    outlines: Outlines | None = None
    """What outlines the regions once their image is open; None where they are as coarse as patches are."""

    def species_of(self, record: ImageRecord, candidate: Candidate) -> str | None:
        """The species that a candidate of an image speaks for; None where nothing was chosen for any."""
        return None if candidate.latent is None else self.chosen.of(record)[candidate.latent].species

    def only(self, rows: Container[int]) -> Plan:
        """The same plan, of some images."""
        return replace(self, candidates=partial(_of_rows, self.candidates, rows))

    @property
    def species_without_latents(self) -> tuple[str, ...]:
        """Species without regions, as no latent was chosen for them, by name; none where regions need no latents."""
        if not self.has_latents:
            return ()
        named = {name for record in self.collection.images if (name := record.taxon.species) is not None}
        return tuple(sorted(named - set(self.chosen)))


def plan_regions(
    regions: Regions,
    collection: Collection,
    info: BackboneInfo,
    *,
    codes: Codes | None = None,
    class_maps: Path | None = None,
    released: DatasetLatents | None = None,
    chosen: LatentsBySpecies | None = None,
) -> Plan:
    """Contrast the species on the training images where regions are those of latents, and plan what is described.

    Args:
        collection: with all labels; those of `regions.unlabelled_splits` are not looked at.
        chosen: what the contrast chose before, which is then not done again.
    """
    collection = without_labels(collection, regions.unlabelled_splits)
    match regions:
        case WholeImage():
            return Plan(collection, partial(whole_images, collection, info))
        case GradCAMRegions():
            assert class_maps is not None
            return Plan(collection, partial(class_map_candidates, collection, info, class_maps, regions))
        case _:
            assert codes is not None
            if chosen is None:
                chosen = _chosen(regions.contrast, collection, codes, released)
            candidates = partial(all_candidates, codes, collection.images, chosen, info, regions)
            outlines = Outlines(info, regions.box_margin) if regions.outline == "image" else None
            return Plan(collection, candidates, chosen, has_latents=True, outlines=outlines)


def _chosen(
    contrast: Contrast, collection: Collection, codes: Codes, released: DatasetLatents | None
) -> LatentsBySpecies:
    if isinstance(contrast, ReleasedLatents):
        assert released is not None
        return released
    taxa = [record.taxon if record.split == "train" else None for record in collection.images]
    individuals = [record.individual_id for record in collection.images]
    counts = count_firings(codes.firing_counts(), taxa, individuals, codes.n_latents)
    return choose_by(contrast, counts, codes.thresholds, codes.latent_background, codes.latent_places)


def choose_by(
    contrast: BaselineContrast,
    counts: SpeciesCounts,
    thresholds: NDArray[np.float32],
    background: NDArray[np.float32] | None,
    places: NDArray[np.float64] | None,
) -> ChosenLatents:
    """Contrast species, and choose the latents that describe them.

    Args:
        counts: how often each latent fired in each species.
        thresholds, background, places: of the latents, see `choose_latents`.
    """
    dropped = latents_on_background(background)
    match contrast:
        case PaperContrast():
            rows = paper_contrast(counts, contrast.min_frequency)
        case SpecimenContrast():
            # A test of what cannot be chosen would cost the others some of their significance.
            rows = specimen_contrast(counts.without([drop.latent for drop in dropped]))
            everywhere = latents_everywhere(counts, contrast.max_species_share)
            dropped += tuple(drop for drop in everywhere if drop.latent not in {other.latent for other in dropped})
    significant_only = isinstance(contrast, SpecimenContrast) and contrast.significant_only
    return choose_latents(rows, thresholds, dropped, background, places, significant_only=significant_only)


def thresholds_of(
    contrast: Contrast,
    sae: SAE,
    source: FeatureSource,
    collection: Collection,
    released: DatasetLatents | None = None,
) -> NDArray[np.float32]:
    """Above which activation each latent fires `[n_latents]`.

    Args:
        source: features of the collection, read only for `SpecimenContrast`.

    Raises:
        StoreError: the dataset has a latent that the SAE does not have.
    """
    match contrast:
        case ReleasedLatents():
            assert released is not None
            return released.thresholds(sae.config.n_latents)
        case PaperContrast():
            return np.full(sae.config.n_latents, contrast.firing_threshold, dtype=np.float32)
        case SpecimenContrast():
            quantile = contrast.quantile_for(source.info.rows * source.info.columns)
            return firing_thresholds(sae, source, training_weights(collection.images), quantile)


def _of_rows(candidates: Callable[[], Candidates], rows: Container[int]) -> Candidates:
    return ((record, pairs) for record, pairs in candidates() if pairs[0][0].image in rows)


def whole_images(collection: Collection, info: BackboneInfo) -> Candidates:
    """Yield all patches of every image that lie on it: what a describer makes of a photograph without any help."""
    for row, record in enumerate(collection.images):
        grid = info.grid((record.width, record.height))
        region = make_region(grid.valid.tolist(), grid)
        candidate = Candidate(
            image=row, region_source="whole", latent=None, patches=region.patches, peak=None, contrast=None
        )
        yield record, [(candidate, region)]


def without_labels(collection: Collection, splits: Several[Split]) -> Collection:
    """The collection with the images of some splits as if nobody had named them.

    What is planned from it cannot depend on those labels: neither the latents, nor which images share a description,
    nor what a describer is told.
    """

    def unnamed(record: ImageRecord) -> ImageRecord:
        return replace(record, taxon=Taxon()) if record.split in splits else record

    return replace(collection, images=tuple(map(unnamed, collection.images)))
