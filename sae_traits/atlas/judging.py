"""What an atlas says of the latents of each species: judged and put in order as the report does, by the same code."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace

from sae_traits.atlas.nouns import ImageOfAtlas, Species, TraitOfImage
from sae_traits.evaluation.species_order import DescribedLatent, best_first
from sae_traits.evaluation.species_tallies import DescribedRegion, Tally, said_of
from sae_traits.evaluation.telling_words import SaidOfSpecies
from sae_traits.schema import Taxon
from sae_traits.traits.contrast import relatives_among

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
                    tallies[one.name].setdefault(str(trait.latent), Tally()).count(_described(image, trait))
    return tallies


def _described(image: ImageOfAtlas, trait: TraitOfImage) -> DescribedRegion:
    return DescribedRegion(
        trait_id=trait.trait_id,
        individual_id=image.individual_id,
        split=image.split,
        text=trait.text,
        said=said_of(trait.part, trait.part_source, trait.attributes),
        peak=trait.activation,
        background=trait.background,
    )


def put_in_order(species: Collection[Species], tallies: Tallies) -> None:
    """Put the latents of each species in the order of the report; those without a region come last."""
    held_out = {one.name: {image.individual_id for image in one.images if image.split != "train"} for one in species}
    said = SaidOfSpecies(tallies, held_out)
    relatives = relatives_among([Taxon.from_dict(one.lineage) for one in species if one.is_learnt_from])
    for one in species:
        of_species = tallies.get(one.name, {})
        by_name = {str(latent.latent): latent for latent in one.latents}
        found = [
            DescribedLatent(
                name=name,
                tally=tally,
                contrast=by_name[name].contrast,
                held_out=by_name[name].held_out,
                on_organism=by_name[name].on_organism,
                relatives=relatives(one.name, by_name[name].contrast.reference_rank),
            )
            for name, tally in of_species.items()
        ]
        unseen = [latent for latent in one.latents if str(latent.latent) not in of_species]
        unseen.sort(key=lambda latent: (-latent.contrast.effect, latent.latent))
        regions = {trait.trait_id: (image, trait) for image in one.images for trait in image.traits}
        in_order = [
            replace(by_name[of.name], shared=of.shared, shown=regions[of.shown.trait_id])
            for of, _ in best_first(found, said, one.name)
        ]
        one.latents = [*in_order, *unseen]
