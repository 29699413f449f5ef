"""Describing images without looking at their species: which latents they get instead of those of their species."""

from __future__ import annotations

from collections.abc import Collection as Several
from collections.abc import Iterable
from dataclasses import replace

from sae_traits.schema import ChosenLatent, Collection, Split, Taxon


def strongest_choices(rows: Iterable[ChosenLatent]) -> dict[int, ChosenLatent]:
    """Latent -> its row for the species with the largest effect, of equal ones the first in the alphabet.

    These are the latents of an image whose species is unknown: each counts as it does for the species that it tells
    from its relatives best. The row's species is that of the latent; of the image it says nothing.

    Args:
        rows: of all species, read once; no more than a row a latent stays in memory.
    """
    found: dict[int, ChosenLatent] = {}
    for row in rows:
        other = found.get(row.latent)
        if other is None or (-row.contrast.effect, row.species) < (-other.contrast.effect, other.species):
            found[row.latent] = row
    return found


def without_labels(collection: Collection, splits: Several[Split]) -> Collection:
    """The collection with the images of some splits as if nobody had named them.

    What is planned from it cannot depend on those labels: neither the latents, nor which images share a description,
    nor what a describer is told.
    """
    records = (replace(s, taxon=Taxon()) if s.split in splits else s for s in collection.images)
    return replace(collection, images=tuple(records))
