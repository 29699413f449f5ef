"""Do the regions lie on the animal? Scored on masks or boxes, which only `--background masks` lets pick regions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from sae_traits.evaluation.evidence import Evidence
from sae_traits.evaluation.part_truth import opened_mask, painted
from sae_traits.evaluation.placement import OnMask
from sae_traits.evaluation.statistics import Interval, bootstrap_interval, named_below_chance
from sae_traits.schema import Collection, ImageRecord


@dataclass(frozen=True, kw_only=True)
class LocalisationResult:
    """Share of a region, as it is outlined, that lies on the animal; intervals resample individuals."""

    on_animal: Interval
    random: Interval
    """The same outlines, mean over all places of the same image where they fit."""
    gain: Interval
    """Paired difference of the two."""
    by_species: dict[str, float]
    chance_by_species: dict[str, float]
    """The same at random places."""
    n_traits: int
    n_images: int
    n_individuals: int

    @property
    def below_chance(self) -> str:
        """Which species have less of their regions on the animal than chance gives."""
        return named_below_chance(self.by_species, self.chance_by_species)


class Localisation:
    """Scores regions on the masks of their images, or on their boxes, where there are any."""

    name, heading, result = "localisation", "Regions on the organism", LocalisationResult

    def run(self, evidence: Evidence) -> LocalisationResult | None:
        """Score the regions; None where no image with traits has a mask or box."""
        collection, seed = evidence.collection, evidence.seed
        observed, expected, rows = [], [], []
        for row, traits in groupby(evidence.traits, key=lambda trait: trait.candidate.image):
            record = collection.images[row]
            if (mask := animal_mask(collection, record)) is None:
                continue
            on_animal = OnMask(mask, evidence.backbone.grid((record.width, record.height)))
            for trait in traits:
                share, at_random = on_animal.shares(trait.region)
                observed.append(share)
                expected.append(at_random)
                rows.append(row)
        if not rows:
            return None
        individuals = [collection.images[row].individual_id for row in rows]
        by_species = defaultdict(list)
        for row, *shares in zip(rows, observed, expected, strict=True):
            if (species := collection.images[row].taxon.species) is not None:
                by_species[species].append(shares)
        means = {species: np.mean(shares, axis=0).tolist() for species, shares in sorted(by_species.items())}
        return LocalisationResult(
            on_animal=bootstrap_interval(observed, groups=individuals, seed=seed),
            random=bootstrap_interval(expected, groups=individuals, seed=seed),
            gain=bootstrap_interval(np.subtract(observed, expected), groups=individuals, seed=seed),
            by_species={species: share for species, (share, _) in means.items()},
            chance_by_species={species: chance for species, (_, chance) in means.items()},
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
            least = f"{result.by_species[species]:.3f} ({result.chance_by_species[species]:.3f} at random places)"
            lines.append(f"          the least in {species}: {least}; {result.below_chance}")
        return lines


def animal_mask(collection: Collection, record: ImageRecord) -> NDArray[np.bool_] | None:
    """The animal's pixels by the mask of an image, or else by its box `[height, width]`; None without either."""
    mask_path = collection.mask_path(record)
    if mask_path is not None:
        return opened_mask(mask_path)
    return None if record.animal_box is None else painted([record.animal_box], (record.width, record.height))
