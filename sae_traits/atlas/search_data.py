"""What the search looks through: columns of plain values, which atlas.js loads at the first key press."""

from __future__ import annotations

from typing import Any

from sae_traits.atlas.nouns import Atlas, Species, TraitOfImage


def search_columns(atlas: Atlas) -> dict[str, Any]:
    """Taxa, latents, and all traits; what is said of several traits is there once.

    `traits` is flat: of each trait the index of its image, of its text and of its latent (-1 for none).
    """
    species = {one.name: i for i, one in enumerate(atlas.species)}
    texts: dict[tuple[str, str], int] = {}
    rights: dict[str, int] = {}
    traits: list[int] = []
    latents = {number: i for i, number in enumerate(atlas.latents)}
    images = []
    for i, image in enumerate(atlas.images):
        right = rights.setdefault(str(image.rights), len(rights))
        images.append([image.page, species[image.species], right, 0 if image.picture is None else 1])
        for trait in image.traits:
            text = texts.setdefault((trait.text, _besides(trait)), len(texts))
            latent = -1 if trait.latent is None else latents[trait.latent]
            traits += [i, text, latent]
    return {
        "species": [[one.name, one.page, _taxa_above(one)] for one in atlas.species],
        "latents": [[latent.number, latent.name or ""] for latent in atlas.latents.values()],
        "rights": list(rights),
        "images": images,
        "texts": [list(text) for text in texts],
        "traits": traits,
    }


def _besides(trait: TraitOfImage) -> str:
    """Part and attributes, as words; those of the sentence are left out."""
    words = [trait.part or "", *(f"{name} {value}" for name, value in trait.attributes)]
    return " · ".join(word for word in words if word)


def _taxa_above(species: Species) -> str:
    """The taxa that a species is of, but for those that its name says."""
    return " ".join(taxon for taxon in species.lineage.values() if taxon and taxon not in species.name)
