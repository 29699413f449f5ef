"""Which calls a plan comes to: one per region, or one for several individuals of a species at a latent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from sae_traits.describers import Describer
from sae_traits.errors import CollectionError, StoreError
from sae_traits.io import hash_of_file
from sae_traits.schema import Candidate, Collection, ImageRecord, Region
from sae_traits.traits.animals import VERSION as PLACE_VERSION
from sae_traits.traits.ledger import CallIdentity, call_key
from sae_traits.traits.outlines import VERSION as OUTLINE_VERSION
from sae_traits.traits.outlines import OutlineOfImage, Outlines

Item = TypeVar("Item")
Candidates = Iterable[tuple[ImageRecord, list[tuple[Candidate, Region]]]]
"""Images with their candidates, as a plan gives them."""
HashedMask = tuple[Path, str]
"""The mask of an animal, and the sha256 of its file."""


@dataclass(frozen=True, slots=True)
class Member:
    """One region of one image that a call is about."""

    trait_id: str
    """The trait that gets the answer."""
    species: str | None
    image: Path
    sha256: str
    """Of the image file's bytes."""
    source: tuple[int, int]
    """Width and height of the image."""
    region: Region
    """Of patches; with `outline` it gets another outline once its image is open."""
    region_key: str
    """Under which its measurement is kept."""
    mask: Path | None = None
    """Of the animal; None where no mask is used."""
    mask_sha256: str | None = None
    """Of the mask's file."""
    outline: OutlineOfImage | None = None
    """None where the region keeps the outline of its patches."""

    @classmethod
    def of(
        cls,
        trait_id: str,
        collection: Collection,
        record: ImageRecord,
        region: Region,
        *,
        mask: HashedMask | None = None,
        outline: OutlineOfImage | None = None,
    ) -> Member:
        """A region of an image of a collection."""
        mask_path, mask_sha256 = mask or (None, None)
        return cls(
            trait_id=trait_id,
            species=record.taxon.species,
            image=collection.path(record),
            sha256=record.sha256,
            source=(record.width, record.height),
            region=region,
            region_key=region_key(record, region, mask_sha256, outline),
            mask=mask_path,
            mask_sha256=mask_sha256,
            outline=outline,
        )


@dataclass(frozen=True, slots=True)
class Call:
    """One question to a describer, not asked yet."""

    identity: CallIdentity
    members: tuple[Member, ...]
    """They share the answer."""
    told: str = ""
    """What else the describer is told."""

    @property
    def key(self) -> str:
        """Hash of all that determines the answer."""
        return self.identity.key

    @property
    def species(self) -> str | None:
        """That of all members."""
        return self.members[0].species


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


def region_key(
    record: ImageRecord, region: Region, mask_sha256: str | None = None, outline: OutlineOfImage | None = None
) -> str:
    """Hash of all that determines what is measured on a region, in pixels."""
    more: dict[str, Any] = {} if mask_sha256 is None else {"mask": mask_sha256}
    if outline is not None:
        more |= {"outline": f"image-{OUTLINE_VERSION}"}
        more |= {} if region.organism is None else {"organism": region.organism.hex()}
    more |= {} if region.animal is None else {"animal": asdict(region.animal)}
    more |= {} if mask_sha256 is None and region.animal is None else {"place": PLACE_VERSION}
    return call_key(image=record.sha256, box=region.box, polygons=region.polygons, **more)


def planned_calls(
    candidates: Candidates,
    collection: Collection,
    describer: Describer,
    *,
    use_masks: bool = False,
    outlines: Outlines | None = None,
) -> Iterator[list[Call]]:
    """Yield all calls, in the order of the images; those that look at the same image come together.

    Several individuals share a call when they are of one species and one split (what is said of training images must
    not depend on others) and the same latent picked them; those without a label share none. They are taken as they
    come, so a group is full, or the last of its kind, and no more is in memory than the groups that are not full yet.

    Args:
        use_masks: measure on the animal's pixels alone, where an image has a mask.
        outlines: what outlines regions once their image is open; None leaves them the outline of their patches.

    Raises:
        CollectionError: a mask is there no more.
    """
    sharing: Sharing[Member] = Sharing(describer.images_per_description)
    for record, pairs in candidates:
        species = record.taxon.species
        mask = hashed_mask(collection, record) if use_masks else None
        outline = None if outlines is None else outlines.of(record)
        members = [
            Member.of(trait_id(record, candidate), collection, record, region, mask=mask, outline=outline)
            for candidate, region in pairs
        ]
        if describer.images_per_description == 1 or species is None:
            yield [call_about([member], describer) for member in members]
            continue
        for (candidate, _), member in zip(pairs, members, strict=True):
            name = species, record.split, candidate.latent
            if group := sharing.add(name, record.individual_id, member):
                yield [call_about(group, describer)]
    for group in sharing.rest():
        yield [call_about(group, describer)]


def hashed_mask(collection: Collection, record: ImageRecord) -> HashedMask | None:
    """The mask of an image, None where it has none; a CollectionError where it is there no more."""
    if (path := collection.mask_path(record)) is None:
        return None
    try:
        return path, hash_of_file(path)
    except StoreError as error:
        raise CollectionError(f"the mask cannot be used: {error}; put it back, or leave out --use-masks") from error


def call_about(members: Sequence[Member], describer: Describer) -> Call:
    """One question about some regions; the names of what is hashed stay as they are, so that nothing is asked again."""
    masks = [member.mask_sha256 for member in members] if describer.reads_masks else []
    animals = [asdict(animal) if (animal := member.region.animal) else None for member in members]
    follows_image = any(member.outline is not None for member in members)
    organisms = [organism.hex() if m.outline and (organism := m.region.organism) else None for m in members]
    identity = identity_of(
        describer,
        members[0].trait_id,
        len(members),
        species=members[0].species if describer.names_species else None,
        regions=[[member.sha256, member.region.box, member.region.polygons] for member in members],
        **({"masks": masks} if any(masks) else {}),
        **({"animals": animals} if describer.reads_masks and any(animals) else {}),
        **({"outline": f"image-{OUTLINE_VERSION}"} if follows_image else {}),
        **({"organisms": organisms} if any(organisms) else {}),
    )
    return Call(identity, tuple(members))


def identity_of(describer: Describer, trait_id: str, n_images: int = 1, **asked: Any) -> CallIdentity:
    """The identity of a call to a describer; `asked` is what else determines its answer."""
    who = {"describer": describer.name, "model": describer.model, "prompt": describer.prompt}
    key = call_key(**who, settings=describer.settings, **asked)
    return CallIdentity(key=key, trait_id=trait_id, n_images=n_images, **who)
