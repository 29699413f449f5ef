"""What tells a species from one of its relatives: by their latents, and by what is said of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sae_traits.atlas.drawing import close_up
from sae_traits.atlas.nouns import ImageOfAtlas, LatentOfSpecies, Species, TraitOfImage

MAX_OWN, MAX_WORDS = 4, 4
MIN_DIFFERENCE = 0.25
"""Of the shares of individuals of which a word is said."""
MAX_PICTURES, MAX_LATENTS = 4, 12
"""Of a species, in the page that shows two side by side; further latents are numbers alone."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """Something that is said more often of one species than of another."""

    name: str
    value: str
    share: float
    other_share: float
    """Of the individuals with traits."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What a species has that one of its relatives does not have."""

    relative: Species
    own: tuple[LatentOfSpecies, ...]
    """Latents that describe the species and not the relative, those to trust first."""
    n_own: int
    n_shared: int
    """Latents that describe both."""
    words: tuple[Word, ...]
    """Said more often of the species, the largest difference first."""


def difference(species: Species, relative: Species) -> Difference:
    """What tells a species from a relative."""
    theirs = {one.latent for one in relative.latents}
    own = [one for one in species.shown_latents if one.latent not in theirs]
    words = [
        Word(name=name, value=value, share=share, other_share=relative.attribute_shares.get((name, value), 0.0))
        for (name, value), share in species.attribute_shares.items()
    ]
    words = [word for word in words if word.share - word.other_share >= MIN_DIFFERENCE]
    words.sort(key=lambda word: (word.other_share - word.share, word.name, word.value))
    return Difference(
        relative=relative,
        own=tuple(own[:MAX_OWN]),
        n_own=len(own),
        n_shared=sum(one.latent in theirs for one in species.latents),
        words=tuple(words[:MAX_WORDS]),
    )


def comparison_data(species: Species) -> dict[str, Any]:
    """One species for the page that shows two side by side; plain values, read by atlas.js."""
    shown = sorted(species.images, key=lambda image: -sum(trait.activation or 0 for trait in image.traits))
    shares = sorted(species.attribute_shares.items(), key=lambda entry: (-entry[1], entry[0]))
    return {
        "name": species.name,
        "page": species.page,
        "lineage": [name for rank in ("order", "family") if (name := species.lineage.get(rank))],
        "counts": [len(species.images), species.n_individuals, species.n_traits],
        "pictures": [_picture(image, image.traits) for image in shown[:MAX_PICTURES]],
        "all_latents": [one.latent for one in species.latents],
        "latents": [
            {
                "latent": one.latent,
                "often": one.how_often(species.lineage),
                "verdict": str(one.verdict),
                "said": ", ".join(f"{word.name} {word.value}" for word in one.words),
                "where": None if one.shown is None else _close_up(*one.shown),
            }
            for one in species.latents[:MAX_LATENTS]
        ],
        "attributes": [[name, value, round(100 * share)] for (name, value), share in shares],
    }


def _picture(image: ImageOfAtlas, traits: tuple[TraitOfImage, ...]) -> dict[str, Any]:
    return {
        "src": image.picture,
        "size": image.size,
        "page": image.page,
        "rights": str(image.rights),
        "regions": [trait.outline for trait in traits],
    }


def _close_up(image: ImageOfAtlas, trait: TraitOfImage) -> dict[str, Any]:
    return _picture(image, (trait,)) | {"view": close_up(trait.box, image.size), "text": trait.text}
