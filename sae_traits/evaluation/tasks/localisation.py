"""Do the regions lie on the animal? Scored on masks or boxes; which regions there are never depends on them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from sae_traits.evaluation.evidence import Evidence
from sae_traits.evaluation.part_truth import opened_mask, painted
from sae_traits.evaluation.placement import random_placement
from sae_traits.evaluation.statistics import Interval, bootstrap_interval
from sae_traits.geometry import PatchGrid
from sae_traits.schema import Collection, ImageRecord

N_PLACEMENTS = 8
"""Random placements averaged per region."""


@dataclass(frozen=True, kw_only=True)
class LocalisationResult:
    """Mean over a region's patches of the share of each that lies on the animal; intervals resample individuals."""

    on_animal: Interval
    random: Interval
    """The same patch shapes at random places of the same image."""
    gain: Interval
    """Paired difference of the two."""
    by_species: dict[str, float]
    n_traits: int
    n_images: int
    n_individuals: int


class Localisation:
    """Scores regions on the masks of their images, or on their boxes, where there are any."""

    name, heading, result = "localisation", "Regions on the organism", LocalisationResult

    def run(self, evidence: Evidence) -> LocalisationResult | None:
        """Score the regions; None where no image with traits has a mask or box."""
        collection, seed = evidence.collection, evidence.seed
        generator = np.random.default_rng(seed)
        observed, expected, rows = [], [], []
        for row, traits in groupby(evidence.traits, key=lambda trait: trait.candidate.image):
            record = collection.images[row]
            grid = evidence.backbone.grid((record.width, record.height))
            on_animal = patches_on_animal(collection, record, grid)
            if on_animal is None:
                continue
            for trait in traits:
                patches = trait.region.patches
                placed = [random_placement(patches, grid, generator) for _ in range(N_PLACEMENTS)]
                observed.append(float(on_animal[list(patches)].mean()))
                expected.append(float(on_animal[np.array(placed)].mean()))
                rows.append(row)
        if not rows:
            return None
        individuals = [collection.images[row].individual_id for row in rows]
        by_species = defaultdict(list)
        for row, share in zip(rows, observed, strict=True):
            if (species := collection.images[row].taxon.species) is not None:
                by_species[species].append(share)
        return LocalisationResult(
            on_animal=bootstrap_interval(observed, groups=individuals, seed=seed),
            random=bootstrap_interval(expected, groups=individuals, seed=seed),
            gain=bootstrap_interval(np.subtract(observed, expected), groups=individuals, seed=seed),
            by_species={species: float(np.mean(shares)) for species, shares in sorted(by_species.items())},
            n_traits=len(rows),
            n_images=len(set(rows)),
            n_individuals=len(set(individuals)),
        )

    def lines(self, result: LocalisationResult) -> list[str]:
        """Say how much of the regions is on the organism, and of which species the least."""
        inside = f"{result.on_animal} of their area on the organism, against {result.random} at random places"
        lines = [f"regions   {inside}"]
        if len(result.by_species) > 1:
            species = min(result.by_species, key=result.by_species.__getitem__)
            lines.append(f"          the least in {species}: {result.by_species[species]:.3f}")
        return lines


def patches_on_animal(collection: Collection, record: ImageRecord, grid: PatchGrid) -> NDArray[np.float64] | None:
    """Share of each patch of an image that lies on its mask, or else in its box `[n_patches]`; None without either."""
    mask_path = collection.mask_path(record)
    if mask_path is not None:
        return grid.patch_means(opened_mask(mask_path))
    return None if record.animal_box is None else grid.patch_means(painted([record.animal_box], grid.source))
