"""Which calls a plan comes to: one per region, or one for several individuals of a species at a latent."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from sae_traits.describers import Describer
from sae_traits.errors import CollectionError
from sae_traits.schema import Candidate, Collection, ImageRecord, Region
from sae_traits.traits.ledger import CallIdentity, call_key

Item = TypeVar("Item")
Candidates = Iterable[tuple[ImageRecord, list[tuple[Candidate, Region]]]]
"""Images with their candidates, as a plan gives them."""


@dataclass(frozen=True, slots=True)
class Mask:
    """The foreground mask of an image, where masks are used."""

    path: Path
    sha256: str
    """Of the file's bytes; what is measured depends on it."""

    @classmethod
    def of(cls, record: ImageRecord, collection: Collection) -> Mask | None:
        """The mask of an image that has one.

        Raises:
            CollectionError: its file is there no more.
        """
        path = collection.mask_path(record)
        if path is None:
            return None
        try:
            return cls(path, hashlib.sha256(path.read_bytes()).hexdigest())
        except OSError as error:
            raise CollectionError(
                f"cannot read the mask {path}: {error.strerror}; put it back, or leave out --use-masks"
            ) from error


@dataclass(frozen=True, slots=True)
class Member:
    """One region of one image that a call is about."""

    image: Path
    sha256: str
    """Of the image file's bytes."""
    source: tuple[int, int]
    """Width and height of the image."""
    region: Region
    region_key: str
    """Under which its measurement is kept."""
    mask: Path | None = None
    """Of the animal; None where no mask is used."""


@dataclass(frozen=True, slots=True)
class Call:
    """One question to a describer, not asked yet."""

    identity: CallIdentity
    species: str | None
    trait_ids: tuple[str, ...]
    """The traits that share the answer, one per member."""
    members: tuple[Member, ...]

    @property
    def key(self) -> str:
        """Hash of all that determines the answer."""
        return self.identity.key


@dataclass(frozen=True, slots=True)
class _Sighting:
    """A candidate with its image, on the way into a call."""

    record: ImageRecord
    candidate: Candidate
    region: Region
    mask: Mask | None


class Sharing(Generic[Item]):
    """Puts together what shares a call: items of one name and of different individuals, as they come.

    Args:
        n: items per call, at most.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._groups: dict[Hashable, list[dict[str, Item]]] = defaultdict(list)
        """Those that are not full yet, each by individual."""

    def add(self, name: Hashable, individual: str, item: Item) -> list[Item] | None:
        """Put an item into the first group of its name that is without its individual; the group, once it is full."""
        groups = self._groups[name]
        place = next((i for i, group in enumerate(groups) if individual not in group), len(groups))
        if place == len(groups):
            groups.append({})
        groups[place][individual] = item
        return list(groups.pop(place).values()) if len(groups[place]) == self._n else None

    def rest(self) -> Iterator[list[Item]]:
        """The groups that are not full."""
        return (list(group.values()) for groups in self._groups.values() for group in groups)


def trait_id(record: ImageRecord, candidate: Candidate) -> str:
    """A name of the trait that is the same in every release made with the same SAE."""
    return f"{record.image_id}-{candidate.name}"


def region_key(record: ImageRecord, region: Region, mask: Mask | None = None) -> str:
    """Hash of all that determines what is measured on a region, in pixels."""
    masked = {} if mask is None else {"mask": mask.sha256}
    return call_key(image=record.sha256, box=region.box, polygons=region.polygons, **masked)


def planned_calls(
    candidates: Candidates, collection: Collection, describer: Describer, *, use_masks: bool = False
) -> Iterator[list[Call]]:
    """Yield all calls, in the order of the images; those that look at the same image come together.

    Several individuals share a call when they are of one species and one split (what is said of training images must
    not depend on others) and the same latent picked them; those without a label share none. They are taken as they
    come, so a group is full, or the last of its kind, and no more is in memory than the groups that are not full yet.
    """
    sharing: Sharing[_Sighting] = Sharing(describer.images_per_description)
    for record, pairs in candidates:
        species = record.taxon.species
        mask = Mask.of(record, collection) if use_masks else None
        sightings = [_Sighting(record, candidate, region, mask) for candidate, region in pairs]
        if describer.images_per_description == 1 or species is None:
            yield [_call([sighting], collection, describer) for sighting in sightings]
            continue
        for sighting in sightings:
            name = species, record.split, sighting.candidate.latent
            if group := sharing.add(name, record.individual_id, sighting):
                yield [_call(group, collection, describer)]
    for group in sharing.rest():
        yield [_call(group, collection, describer)]


def _call(group: list[_Sighting], collection: Collection, describer: Describer) -> Call:
    traits = tuple(trait_id(sighting.record, sighting.candidate) for sighting in group)
    identity = CallIdentity(
        key=_key(group, describer),
        trait_id=traits[0],
        n_images=len(group),
        describer=describer.name,
        model=describer.model,
        prompt=describer.prompt,
    )
    members = tuple(_member(sighting, collection) for sighting in group)
    return Call(identity, group[0].record.taxon.species, traits, members)


def _member(sighting: _Sighting, collection: Collection) -> Member:
    record = sighting.record
    return Member(
        image=collection.path(record),
        sha256=record.sha256,
        source=(record.width, record.height),
        region=sighting.region,
        region_key=region_key(record, sighting.region, sighting.mask),
        mask=sighting.mask.path if sighting.mask else None,
    )


def _key(group: list[_Sighting], describer: Describer) -> str:
    """Hash of what determines the answer; its names stay as they are, so that nothing is asked again."""
    masks = [s.mask.sha256 if s.mask else None for s in group] if describer.reads_masks else []
    masked = {"masks": masks} if any(masks) else {}
    return call_key(
        describer=describer.name,
        model=describer.model,
        prompt=describer.prompt,
        settings=describer.settings,
        species=group[0].record.taxon.species if describer.names_species else None,
        regions=[[s.record.sha256, s.region.box, s.region.polygons] for s in group],
        **masked,
    )
