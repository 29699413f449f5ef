"""How much of each region lies on its organism, by the mask of its image, or by its box; for scoring only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from sae_traits.evaluation.part_truth import opened_mask, painted
from sae_traits.evaluation.placement import OnMask
from sae_traits.schema import BackboneInfo, Collection, ImageRecord, Trait

SharesOfLatents = Mapping[str, Mapping[str, float]]
"""Species -> latent, as text (or what else picked regions) -> mean share of its regions on the organism."""


@dataclass(frozen=True, slots=True)
class ScoredRegion:
    """A region of an image whose organism is known."""

    row: int
    """Of its image."""
    picked_by: str
    share: float
    """Of the region, as it is outlined, on the organism."""
    at_random: float
    """The same, mean over all places of the same image where the outline fits."""


def score_regions(collection: Collection, traits: Iterable[Trait], backbone: BackboneInfo) -> list[ScoredRegion]:
    """Score the regions of images that have a mask or a box.

    Args:
        traits: in the order of the images.
        backbone: whose patches the regions are made of.
    """
    scored = []
    for row, of_image in groupby(traits, key=lambda trait: trait.candidate.image):
        record = collection.images[row]
        if (mask := animal_mask(collection, record)) is None:
            continue
        on_animal = OnMask(mask, backbone.grid((record.width, record.height)))
        scored += [ScoredRegion(row, one.candidate.name, *on_animal.shares(one.region)) for one in of_image]
    return scored


def shares_of_latents(collection: Collection, scored: Sequence[ScoredRegion]) -> dict[str, dict[str, float]]:
    """Average the shares of each latent in each species; see `SharesOfLatents`."""
    shares: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in scored:
        if (species := collection.images[one.row].taxon.species) is not None:
            shares[species][one.picked_by].append(one.share)
    return {
        species: {name: float(np.mean(of_latent)) for name, of_latent in of_species.items()}
        for species, of_species in sorted(shares.items())
    }


def animal_mask(collection: Collection, record: ImageRecord) -> NDArray[np.bool_] | None:
    """The animal's pixels by the mask of an image, or else by its box `[height, width]`; None without either."""
    mask_path = collection.mask_path(record)
    if mask_path is not None:
        return opened_mask(mask_path)
    return None if record.animal_box is None else painted([record.animal_box], (record.width, record.height))
