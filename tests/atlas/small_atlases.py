"""A small release with everything that is hard to show, and its atlas."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from release.small_releases import CONTRAST, FACTS, odd_photographs, traits_of
from scipy.sparse import csr_array

from sae_traits.config.release import ReleaseConfig
from sae_traits.evaluation.review.sheets import OTHER_PLACE, TRAIT, Item, Sheet
from sae_traits.release.dataset import write_dataset
from sae_traits.release.dataset_card import write_dataset_card
from sae_traits.schema import ChosenLatent, Collection, Reviewed, Taxon
from sae_traits.traits.firing_shares import FiringShares
from sae_traits.traits.species_counts import SpeciesCounts

HOSTILE = "Aus <img src=x onerror=alert(1)> \"&' --> {{ 7*7 }}"
"""A species, as a collection may name it."""
NAME = "<b>abdomen</b>"
REVIEWED = Reviewed(verdict="accepted", score=4.25, n_raters=2, sheet="sheet-1-0123456789ab")
"""Of the first trait."""
SUGGESTION = "hind <i>leg"
"""Of latent 1, by a describer."""


def hostile_collection(root: Path) -> Collection:
    """Photographs of three species, one of a hostile name, whose rights holder and address are hostile, too."""
    collection = odd_photographs(root, lambda name: f'https://museum.example/{name}?a=1&b="2"')
    records = list(collection.images)
    records[-1] = replace(
        records[-1],
        taxon=Taxon(family="Auidae", genus="Aus", species=HOSTILE),
        rights_holder="</small><script>alert(2)</script>",
        source_url="javascript:alert(3)",
    )
    return replace(collection, images=tuple(records))


def hostile_release(folder: Path, root: Path, images: str = "embed") -> Path:
    """The release of `hostile_collection`, its sentences hostile as well."""
    collection = hostile_collection(root)
    traits = [
        replace(
            trait,
            description=replace(trait.description, text=f"A small area of </script> {i % 3} & more."),
            reviewed=REVIEWED if i == 0 else None,
        )
        for i, trait in enumerate(traits_of(collection, 3))
    ]
    species = sorted({record.species for record in collection.images})
    latents = [
        ChosenLatent(
            species=name,
            latent=latent,
            threshold=0.4,
            contrast=replace(CONTRAST, effect=2.5 - latent),
            n_fired=3,
            n_individuals=4,
            name=NAME if latent == 2 else None,
            **({"held_out_f_species": 0.2, "held_out_f_reference": 0.1} if latent == 2 else {}),
        )
        for i, name in enumerate(species)
        for latent in (i, 2)
    ]
    config = ReleaseConfig(longest_side=256, shard_megabytes=1, images=images)
    summary = write_dataset(folder, collection, traits, latents, sae="org/sae@0123", config=config, workers=1)
    write_dataset_card(folder, summary, replace(FACTS, title="Beetles <i>of</i> Leeds"))
    return folder


def hostile_sheet(root: Path) -> Sheet:
    """A blind sheet of eight items of the photographs of `hostile_collection`, which are at `root`."""
    images = hostile_collection(root).images
    items = [
        Item(
            kind=TRAIT if number % 3 else OTHER_PLACE,
            trait_id=f"secret-{number}",
            content="secret",
            image_id=images[number % len(images)].image_id,
            individual_id="secret",
            text=f"A small area of </script><b> {number} & more.",
            box=(0.1, 0.2, 0.3, 0.4),
            polygons=((0.1, 0.2, 0.4, 0.2, 0.4, 0.6, 0.1, 0.6),),
        )
        for number in range(8)
    ]
    return Sheet("sheet-1-0123456789ab", tuple(items))


def made_firing(fired: dict[str, dict[int, int]]) -> FiringShares:
    """Ten training and ten held-out individuals of some species.

    Args:
        fired: species -> latent -> training individuals in which it fires; it does so in one fewer of those held out.
    """
    taxa = tuple(Taxon(family="Auidae", genus="Aus", species=species) for species in sorted(fired))
    n_latents = 1 + max(latent for latents in fired.values() for latent in latents)

    def counts(fewer: int) -> SpeciesCounts:
        values = np.zeros((len(taxa), n_latents), dtype=np.int32)
        for row, species in enumerate(sorted(fired)):
            for latent, n in fired[species].items():
                values[row, latent] = n - fewer
        return SpeciesCounts(taxa, n_latents, np.full(len(taxa), 10), csr_array(values), csr_array(values))

    return FiringShares(counts(0), counts(1))
