"""What tells a species from one of its relatives: by their latents, and by what is said of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sae_traits.atlas.drawing import close_up
from sae_traits.atlas.nouns import Atlas, ImageOfAtlas, LatentOfSpecies, Species, TraitOfImage, percent
from sae_traits.evaluation.telling_words import Word, said_more_often
from sae_traits.traits.firing_shares import FiringShares, Share

MAX_OWN = 4
MAX_PICTURES, MAX_LATENTS = 4, 12
"""Of a species, in the page that shows two side by side; further latents are numbers alone."""


@dataclass(frozen=True, kw_only=True)
class Telling:
    """A latent that tells a species from another, and the shares of the individuals of both in which it fires."""

    latent: LatentOfSpecies
    shares: tuple[Share, Share] | None = None
    """Of training individuals; None where it is not known how often latents fire."""
    held_out: tuple[Share, Share] | None = None

    def said(self, other: str) -> str:
        """The shares in words."""
        if self.shares is None or self.held_out is None:
            return ""
        own, theirs = (percent(share.value) for share in self.shares)
        words = f"in {own} of its individuals and {theirs} of those of {other}"
        own, theirs = (None if share.value is None else percent(share.value) for share in self.held_out)
        again = f"; found again in {own} {f'and {theirs} ' if theirs else ''}of those held out"
        return words if own is None else words + again


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What a species has that one of its relatives does not have."""

    relative: Species
    own: tuple[Telling, ...]
    """Latents that tell the species from the relative, see `telling`."""
    n_own: int
    n_shared: int
    """Latents that describe both."""
    words: tuple[Word, ...]
    """Said more often of the species, the largest difference first."""


def telling(species: Species, other: Species, firing: FiringShares | None) -> list[Telling]:
    """The latents that describe a species and fire in a larger share of its individuals than of another's.

    The largest difference comes first. Where it is not known how often latents fire, those that describe the one and
    not the other, those to trust first.
    """
    names = species.name, other.name
    if firing is None or not all(firing.n_individuals(name, held_out=False) for name in names):
        theirs = {one.latent for one in other.latents}
        return [Telling(latent=one) for one in species.shown_latents if one.latent not in theirs]
    found = []
    for one in species.shown_latents:
        training, held_out = (
            (firing.of_species(one.latent, names[0], held_out=of), firing.of_species(one.latent, names[1], held_out=of))
            for of in (False, True)
        )
        if (lead := (training[0].value or 0) - (training[1].value or 0)) > 0:
            found.append((-lead, Telling(latent=one, shares=training, held_out=held_out)))
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


def difference(species: Species, relative: Species, firing: FiringShares | None) -> Difference:
    """What tells a species from a relative."""
    theirs = {one.latent for one in relative.latents}
    own = telling(species, relative, firing)
    return Difference(
        relative=relative,
        own=tuple(own[:MAX_OWN]),
        n_own=len(own),
        n_shared=sum(one.latent in theirs for one in species.latents),
        words=said_more_often(species.attribute_shares, relative.attribute_shares),
    )


def comparison_data(atlas: Atlas, species: Species, firing: FiringShares | None) -> dict[str, Any]:
    """One species for the page that shows two side by side; plain values, read by atlas.js."""
    individuals, fired = None, {}
    if firing is not None:
        individuals = [firing.n_individuals(species.name, held_out=of) for of in (False, True)]
        by_split = [firing.fired_in(species.name, held_out=of) for of in (False, True)]
        fired = {latent: [n.get(latent, 0) for n in by_split] for latent in atlas.latents if by_split[0].get(latent)}
    shown = sorted(species.images, key=lambda image: -sum(trait.activation or 0 for trait in image.traits))
    shares = sorted(species.attribute_shares.items(), key=lambda entry: (-entry[1], entry[0]))
    return {
        "name": species.name,
        "page": species.page,
        "lineage": [name for rank in ("order", "family") if (name := species.lineage.get(rank))],
        "counts": [len(species.images), species.n_individuals],
        "pictures": [_picture(image, image.traits) for image in shown[:MAX_PICTURES]],
        "all_latents": [one.latent for one in species.latents],
        "individuals": individuals,
        "fired": fired,
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
