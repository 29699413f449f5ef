"""Which calls a plan comes to: one a region, or one for several images of a species at a latent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sae_traits.describers import Describer
from sae_traits.errors import CollectionError
from sae_traits.schema import Candidate, Collection, ImageRecord, Region
from sae_traits.traits.ledger import CallIdentity, call_key

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
    """The traits that share the answer, one a member."""
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
    """All calls, in the order of the images; those that look at the same image come together.

    Several images share a call when they are of one species and one split (what is said of training images must
    not depend on others) and the same latent picked them; those without a label share none. They are taken as they
    come, so a group is full, or the last of its kind, and no more is in memory than the groups that are not full yet.
    """
    most = describer.images_per_description
    groups: dict[tuple[str, str, int | None], list[_Sighting]] = {}
    for record, found in candidates:
        species = record.taxon.species
        mask = Mask.of(record, collection) if use_masks else None
        if most == 1 or species is None:
            yield [_call([_Sighting(record, *pair, mask)], collection, describer) for pair in found]
            continue
        for candidate, region in found:
            name = (species, record.split, candidate.latent)
            group = groups.setdefault(name, [])
            group.append(_Sighting(record, candidate, region, mask))
            if len(group) == most:
                yield [_call(groups.pop(name), collection, describer)]
    for group in groups.values():
        yield [_call(group, collection, describer)]


def single_call_key(record: ImageRecord, region: Region, describer: Describer, mask: Mask | None = None) -> str:
    """The key of the call about one region alone."""
    return _key([(record, region, mask)], describer)


def _call(group: list[_Sighting], collection: Collection, describer: Describer) -> Call:
    traits = tuple(trait_id(one.record, one.candidate) for one in group)
    identity = CallIdentity(
        key=_key([(one.record, one.region, one.mask) for one in group], describer),
        trait_id=traits[0],
        n_images=len(group),
        describer=describer.name,
        model=describer.model,
        prompt=describer.prompt,
    )
    members = tuple(_member(one, collection) for one in group)
    return Call(identity, group[0].record.taxon.species, traits, members)


def _member(one: _Sighting, collection: Collection) -> Member:
    record = one.record
    return Member(
        image=collection.path(record),
        source=(record.width, record.height),
        region=one.region,
        region_key=region_key(record, one.region, one.mask),
        mask=one.mask.path if one.mask else None,
    )


def _key(regions: list[tuple[ImageRecord, Region, Mask | None]], describer: Describer) -> str:
    masks = [mask.sha256 if mask else None for _, _, mask in regions] if describer.reads_masks else []
    masked = {"masks": masks} if any(masks) else {}
    return call_key(
        describer=describer.name,
        model=describer.model,
        prompt=describer.prompt,
        settings=describer.settings,
        species=regions[0][0].taxon.species if describer.names_species else None,
        regions=[[record.sha256, region.box, region.polygons] for record, region, _ in regions],
        **masked,
    )
