"""What a relative has at the place where a region of a species lies, to be looked at beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sae_traits.evaluation.species_tallies import DescribedRegion, Place, Tally
from sae_traits.traits.firing_shares import FiringShares
from sae_traits.vocabulary import ReferenceRank

MAX_AWAY = 0.2
"""Farther from each other than this share of the way from an animal's middle to its edge, or along its longest axis,
two places are not the same. One of `measured`'s words for places (`centre`, `halfway`, `edge`) is a third wide."""
COMPARABLE: tuple[ReferenceRank, ...] = ("genus", "family")
"""Relatives of these ranks have the same parts in the same places. Pictures of farther ones helped a biologist in two
rows of nine, of these in sixteen of twenty-one (docs/experiments.md)."""


def region_of_relative(
    place: Place | None, relatives: Sequence[str], tallies: Mapping[str, Mapping[str, Tally]]
) -> tuple[str, DescribedRegion] | None:
    """The region nearest to a place, of the first relative that has one there, of a held-out image if one does.

    Args:
        place: of the region beside which it is to be looked at; None where it is not known.
        relatives: the likest first.
        tallies: species -> latent -> its tally.

    Returns:
        The relative and its region; None where no relative has one there.
    """
    if place is None:
        return None
    for species in relatives:
        regions = [region for tally in tallies.get(species, {}).values() for region in tally.regions.values()]
        near = [(_away(place, one.place), one) for one in regions if one.place is not None]
        if there := [(one.is_for_training, away, one.order, one) for away, one in near if away <= MAX_AWAY]:
            return species, min(there, key=lambda found: found[:-1])[-1]
    return None


def likest_first(latent: int, relatives: Sequence[str], firing: FiringShares | None) -> list[str]:
    """Relatives by the share of their training individuals in which a latent fires, the largest first."""
    if firing is None:
        return sorted(relatives)
    shares = {species: firing.of_species(latent, species, held_out=False).value or 0.0 for species in relatives}
    return sorted(relatives, key=lambda species: (-shares[species], species))


def _away(first: Place, second: Place) -> float:
    """How far two places are from each other in the direction in which they differ most."""
    (distance, along), (other_distance, other_along) = first, second
    apart = abs(distance - other_distance)
    return apart if along is None or other_along is None else max(apart, abs(along - other_along))
