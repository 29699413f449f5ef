"""Sheets for raters: traits of a run, those of other runs to compare with, and controls that are wrong on purpose.

They are mixed in random order and known to raters by number alone. What each is stands in the sheet, which is kept with
the run and given to nobody who rates.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from sae_traits.describers.overlay import place_region
from sae_traits.errors import ConfigError, StoreError
from sae_traits.io import read_sealed, sealed_json, write_text
from sae_traits.logging import warn
from sae_traits.schema import ImageRecord, Trait

TRAIT, OTHER_SENTENCE, OTHER_PLACE = "trait", "another sentence", "another place"
"""Kinds of items: what is reviewed; a region with the sentence of another species; a sentence at a random place."""
CONTROLS = (OTHER_SENTENCE, OTHER_PLACE)
CONTROLS_PER_TRAIT = 0.25
"""Of each kind."""
MAX_OVERLAP = 0.1
"""Share of a region's box that its random place may cover."""
_TRIES = 50
_TRAITS_PER_CONTROL = 5
"""Looked at for one that can be a control, before a sheet has fewer."""

Described = tuple[ImageRecord, Trait]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One picture with a region and a sentence, as a rater sees it, and what it is."""

    kind: str
    """One of those above, or the name of a run to compare with."""
    trait_id: str
    content: str
    """Hash of the sentence and the region: a review holds for these alone."""
    image_id: str
    individual_id: str
    text: str
    box: tuple[float, float, float, float]
    polygons: tuple[tuple[float, ...], ...]
    """In shares of the width and the height of the image, as the box."""


@dataclass(frozen=True)
class Sheet:
    """Items in the order of their numbers, which begin with 1."""

    name: str
    items: tuple[Item, ...]

    def save(self, path: Path) -> None:
        """Write it as JSON, with a seal."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, sealed_json(_SHEET.dump_python(self, mode="json")))

    @classmethod
    def load(cls, path: Path) -> Sheet:
        """Read what `save` wrote; a StoreError where it is damaged."""
        values = read_sealed(path)
        if values is None:
            raise StoreError(f"{path} is damaged: what the items of that sheet are is not known any more")
        return _SHEET.validate_python(values)


_SHEET = TypeAdapter(Sheet)


def make_sheet(
    own: Sequence[Described],
    others: Mapping[str, Sequence[Described]],
    *,
    n_traits: int,
    seed: int,
    number: int = 1,
    fresh: NDArray[np.intp] | None = None,
) -> Sheet:
    """Draw a sheet; the same for the same traits, seed and number.

    Only what is drawn is asked for, so that a sequence may read each trait when it is.

    Args:
        own: traits of the run, with their images.
        others: name of another run -> its traits, of the same images; as many are drawn of each.
        n_traits: to be reviewed; a quarter as many controls of each kind come from traits beside these.
        number: which sheet of the run it is.
        fresh: which of the traits are on no earlier sheet; None where all are.

    Raises:
        ConfigError: there are too few traits.
    """
    n_controls = max(1, round(CONTROLS_PER_TRAIT * n_traits))
    random = np.random.default_rng([seed, number])
    fresh = random.permutation(len(own) if fresh is None else fresh)
    if n_traits < 1 or len(fresh) < n_traits + 2 * n_controls:
        raise ConfigError(
            f"a sheet of {n_traits} traits and {2 * n_controls} controls needs as many different traits that are on no "
            f"sheet yet, and there are {len(fresh)}; choose another --n"
        )
    items = [_item(TRAIT, *own[i]) for i in fresh[:n_traits]]
    rest = fresh[n_traits:]
    some = _TRAITS_PER_CONTROL * n_controls
    swapped = (
        _with_another_sentence(own[i], (own[j] for j in random.integers(len(own), size=_TRIES))) for i in rest[:some]
    )
    moved = (_at_another_place(own[i], random) for i in rest[::-1][:some])  # others than the swapped ones
    for kind, controls in ((OTHER_SENTENCE, swapped), (OTHER_PLACE, moved)):
        found = list(islice(filter(None, controls), n_controls))
        if len(found) < n_controls:
            warn(
                f"this sheet has {len(found)} of {n_controls} controls with {kind}: other traits have none that would "
                "be wrong (regions that fill their image, one species, equal sentences)"
            )
        items += found
    for name, traits in others.items():
        items += [_item(name, *traits[i]) for i in random.permutation(len(traits))[:n_traits]]
    items = [items[i] for i in random.permutation(len(items))]
    digest = hashlib.sha256(json.dumps([_ITEM.dump_python(item, mode="json") for item in items]).encode())
    return Sheet(f"sheet-{number}-{digest.hexdigest()[:12]}", tuple(items))


_ITEM = TypeAdapter(Item)


def content_of(trait: Trait) -> str:
    """Hash of what a rater judges: the sentence and where it is said to be true."""
    rings = [[round(value, 2) for value in ring] for ring in trait.region.polygons]
    return hashlib.sha256(json.dumps([trait.description.text, rings]).encode()).hexdigest()[:16]


def _item(kind: str, record: ImageRecord, trait: Trait) -> Item:
    size = record.width, record.height
    x, y, width, height = (round(value / size[i % 2], 6) for i, value in enumerate(trait.region.box))
    return Item(
        kind=kind,
        trait_id=trait.trait_id,
        content=content_of(trait),
        image_id=record.image_id,
        individual_id=record.individual_id,
        text=trait.description.text,
        box=(x, y, width, height),
        polygons=tuple(
            tuple(round(value / size[i % 2], 6) for i, value in enumerate(ring)) for ring in trait.region.polygons
        ),
    )


def _with_another_sentence(one: Described, others: Iterable[Described]) -> Item | None:
    """A region with the sentence of the first trait of another species and, where there are latents, of another one."""
    record, trait = one
    for other_record, other in others:
        if (
            other_record.taxon.species != record.taxon.species
            and (trait.candidate.latent is None or other.candidate.latent != trait.candidate.latent)
            and other.description.text != trait.description.text
        ):
            return _item(OTHER_SENTENCE, record, replace(trait, description=other.description))
    return None


def _at_another_place(one: Described, random: np.random.Generator) -> Item | None:
    """A sentence with a region of the same shape at a random place of the same image."""
    record, trait = one
    x, y, width, height = trait.region.box
    for _ in range(_TRIES):
        shift = (
            float(random.uniform(0, max(0.0, record.width - width)) - x),
            float(random.uniform(0, max(0.0, record.height - height)) - y),
        )
        apart = max(0.0, width - abs(shift[0])) * max(0.0, height - abs(shift[1]))
        if apart <= MAX_OVERLAP * width * height:
            moved = place_region(trait.region, (-shift[0], -shift[1]), (1.0, 1.0))
            return _item(OTHER_PLACE, record, replace(trait, region=moved))
    return None
