"""Do the regions lie on the animal? Scored on masks or boxes, which only `--background masks` lets pick regions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from sae_traits.evaluation.evidence import Evidence
from sae_traits.evaluation.on_organism import shares_of_latents
from sae_traits.evaluation.statistics import Interval, bootstrap_interval, named_below_chance


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
    by_latent: dict[str, dict[str, float]]
    """See `SharesOfLatents`."""
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
        collection, scored = evidence.collection, evidence.scored_regions
        if not scored:
            return None
        rows = [one.row for one in scored]
        observed, expected = [one.share for one in scored], [one.at_random for one in scored]
        individuals = [collection.images[row].individual_id for row in rows]
        by_species = defaultdict(list)
        for row, *shares in zip(rows, observed, expected, strict=True):
            if (species := collection.images[row].taxon.species) is not None:
                by_species[species].append(shares)
        means = {species: np.mean(shares, axis=0).tolist() for species, shares in sorted(by_species.items())}
        return LocalisationResult(
            on_animal=bootstrap_interval(observed, groups=individuals),
            random=bootstrap_interval(expected, groups=individuals),
            gain=bootstrap_interval(np.subtract(observed, expected), groups=individuals),
            by_species={species: share for species, (share, _) in means.items()},
            chance_by_species={species: chance for species, (_, chance) in means.items()},
            by_latent=shares_of_latents(collection, scored),
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
