"""Do the regions lie on the animal? Scored on foreground masks; which regions there are never depends on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sae_traits.evaluation.placement import random_placement
from sae_traits.evaluation.statistics import Interval, bootstrap_interval
from sae_traits.geometry import PatchGrid
from sae_traits.images.decode import open_mask
from sae_traits.schema import BackboneInfo, Collection, ImageRecord, Trait

N_PLACEMENTS = 8
"""Random placements averaged a region."""


@dataclass(frozen=True, kw_only=True)
class MaskScore:
    """Mean over a region's patches of the share of each that lies on the animal; intervals resample images."""

    on_animal: Interval
    random: Interval
    """The same patch shapes at random places of the same image."""
    gain: Interval
    """Paired difference of the two."""
    by_species: dict[str, float]
    n_traits: int
    n_images: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for results.json."""
        intervals = {name: getattr(self, name).to_dict() for name in ("on_animal", "random", "gain")}
        return asdict(self) | intervals


def patches_on_animal(collection: Collection, record: ImageRecord, grid: PatchGrid) -> NDArray[np.float64] | None:
    """Share of each patch of an image that lies on the animal `[n_patches]`; None where it has no mask."""
    mask_path = collection.mask_path(record)
    return None if mask_path is None else grid.patch_means(open_mask(mask_path))


def score_on_masks(
    collection: Collection, traits: Iterable[Trait], info: BackboneInfo, *, seed: int = 0
) -> MaskScore | None:
    """Score regions on the masks of their images; None when no image with traits has a mask."""
    by_image: dict[int, list[Trait]] = defaultdict(list)
    for trait in traits:
        by_image[trait.candidate.image].append(trait)
    generator = np.random.default_rng(seed)
    shares: list[float] = []
    random_shares: list[float] = []
    rows: list[int] = []
    for row, rows_traits in sorted(by_image.items()):
        record = collection.images[row]
        grid = info.grid((record.width, record.height))
        on_animal = patches_on_animal(collection, record, grid)
        if on_animal is None:
            continue
        for trait in rows_traits:
            patches = trait.region.patches
            placed = [random_placement(patches, grid, generator) for _ in range(N_PLACEMENTS)]
            shares.append(float(on_animal[list(patches)].mean()))
            random_shares.append(float(on_animal[np.array(placed)].mean()))
            rows.append(row)
    if not shares:
        return None
    observed, expected, groups = np.array(shares), np.array(random_shares), np.array(rows)
    species = np.array([collection.images[row].species for row in rows])
    return MaskScore(
        on_animal=bootstrap_interval(observed, groups=groups, seed=seed),
        random=bootstrap_interval(expected, groups=groups, seed=seed),
        gain=bootstrap_interval(observed - expected, groups=groups, seed=seed),
        by_species={name: float(observed[species == name].mean()) for name in sorted(set(species))},
        n_traits=len(observed),
        n_images=len(set(rows)),
    )
