"""What an atlas says of the latents of each species: judged and put in order as the report does, by the same code."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from sae_traits.atlas.nouns import LatentOfSpecies, Species, TraitOfImage
from sae_traits.evaluation.species_order import DescribedLatent, best_first
from sae_traits.evaluation.species_tallies import Tally
from sae_traits.evaluation.telling_words import SaidOfSpecies
from sae_traits.schema import Taxon
from sae_traits.traits.contrast import others_of_group, reference_groups
from sae_traits.vocabulary import ReferenceRank

Tallies = Mapping[str, Mapping[str, Tally]]
"""Species -> number of a latent, as text -> its tally."""


def tally_regions(species: Collection[Species], described: Collection[tuple[str, int]]) -> Tallies:
    """Count the regions of each latent in the species that it describes, in the describer's own words.

    Args:
        described: species and latents that describe them; regions of others are left out.
    """
    tallies: dict[str, dict[str, Tally]] = defaultdict(dict)
    for one in species:
        for image in one.images:
            for trait in image.traits:
                if trait.latent is not None and (one.name, trait.latent) in described:
                    tallies[one.name].setdefault(str(trait.latent), Tally()).count(
                        image.individual_id,
                        _said(trait),
                        background=trait.background,
                        is_for_training=image.split == "train",
                    )
    return tallies


def _said(trait: TraitOfImage) -> list[tuple[str, str]]:
    """Attributes and values; a part that a person has named is not said."""
    part = [("part", trait.part)] if trait.part and trait.part_source != "named" else []
    return [*part, *trait.attributes]


def put_in_order(species: Collection[Species], tallies: Tallies) -> None:
    """Put the latents of each species in the order of the report; those without a region come last."""
    said = SaidOfSpecies(tallies, {one.name: _held_out(one) for one in species})
    taxa = [Taxon.from_dict(one.lineage) for one in species if one.is_learnt_from]
    rows = {taxon.species: row for row, taxon in enumerate(taxa)}

    @cache
    def relatives(name: str, rank: ReferenceRank) -> tuple[str, ...]:
        row = rows.get(name)
        return () if row is None else others_of_group(taxa, groups(rank), row)

    @cache
    def groups(rank: ReferenceRank) -> NDArray[np.intp]:
        return reference_groups(taxa, rank)[0]

    for one in species:
        of_species = tallies.get(one.name, {})
        by_name = {str(latent.latent): latent for latent in one.latents}
        found = [
            DescribedLatent(
                name=name,
                tally=tally,
                contrast=by_name[name].contrast,
                held_out=by_name[name].held_out,
                relatives=relatives(one.name, by_name[name].contrast.reference_rank),
            )
            for name, tally in of_species.items()
        ]
        unseen = sorted((latent for latent in one.latents if str(latent.latent) not in of_species), key=_effect)
        in_order = [replace(by_name[of.name], shared=of.shared) for of, _ in best_first(found, said, one.name)]
        one.latents = [*in_order, *unseen]


def _effect(latent: LatentOfSpecies) -> tuple[float, int]:
    return -latent.contrast.effect, latent.latent


def _held_out(species: Species) -> set[str]:
    return {image.individual_id for image in species.images if image.split != "train"}
