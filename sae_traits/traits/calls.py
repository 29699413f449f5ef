"""Which calls a plan comes to: one a region, or one for several specimens of a species at a latent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sae_traits.schema import Candidate, Collection, Region, Specimen
from sae_traits.traits.describers import Describer
from sae_traits.traits.ledger import CallIdentity, call_key

Candidates = Iterable[tuple[Specimen, list[tuple[Candidate, Region]]]]
"""Specimens with their candidates, as a plan gives them."""


@dataclass(frozen=True, slots=True)
class Member:
    """One region of one specimen that a call is about."""

    image: Path
    source: tuple[int, int]
    """Width and height of the image."""
    region: Region
    region_key: str
    """Under which its measurement is kept."""


@dataclass(frozen=True, slots=True)
class Call:
    """One question to a describer, not asked yet."""

    identity: CallIdentity
    species: str
    trait_ids: tuple[str, ...]
    """The traits that share the answer, one a member."""
    members: tuple[Member, ...]

    @property
    def key(self) -> str:
        """Hash of all that determines the answer."""
        return self.identity.key


@dataclass(frozen=True, slots=True)
class _Sighting:
    """A candidate with its specimen, on the way into a call."""

    specimen: Specimen
    candidate: Candidate
    region: Region


def trait_id(specimen: Specimen, candidate: Candidate) -> str:
    """A name of the trait that is the same in every release made with the same SAE."""
    return f"{specimen.specimen_id}-{candidate.latent}"


def region_key(specimen: Specimen, region: Region) -> str:
    """Hash of all that determines what is measured on a region, in pixels."""
    return call_key(image=specimen.sha256, box=region.box, polygons=region.polygons)


def planned_calls(candidates: Candidates, collection: Collection, describer: Describer) -> Iterator[list[Call]]:
    """All calls, in the order of the specimens; those that look at the same image come together.

    Several specimens share a call when they are of one species and one split (what is said of training specimens must
    not depend on others) and the same latent picked them. They are taken as they come, so a group is full, or the last
    of its kind, and no more is in memory than the groups that are not full yet.
    """
    most = describer.images_per_description
    if most == 1:
        for specimen, found in candidates:
            yield [_call([_Sighting(specimen, *pair)], collection, describer) for pair in found]
        return
    groups: dict[tuple[str, str, int], list[_Sighting]] = {}
    for specimen, found in candidates:
        for candidate, region in found:
            name = (specimen.species, specimen.split, candidate.latent)
            group = groups.setdefault(name, [])
            group.append(_Sighting(specimen, candidate, region))
            if len(group) == most:
                yield [_call(groups.pop(name), collection, describer)]
    for group in groups.values():
        yield [_call(group, collection, describer)]


def single_call_key(specimen: Specimen, region: Region, describer: Describer) -> str:
    """The key of the call about one region alone."""
    return _key([(specimen, region)], describer)


def _call(group: list[_Sighting], collection: Collection, describer: Describer) -> Call:
    traits = tuple(trait_id(one.specimen, one.candidate) for one in group)
    identity = CallIdentity(
        key=_key([(one.specimen, one.region) for one in group], describer),
        trait_id=traits[0],
        n_images=len(group),
        describer=describer.name,
        model=describer.model,
        prompt=describer.prompt,
    )
    members = tuple(_member(one, collection) for one in group)
    return Call(identity, group[0].specimen.species, traits, members)


def _member(one: _Sighting, collection: Collection) -> Member:
    specimen = one.specimen
    size = specimen.width, specimen.height
    return Member(collection.path(specimen), size, one.region, region_key(specimen, one.region))


def _key(regions: list[tuple[Specimen, Region]], describer: Describer) -> str:
    return call_key(
        describer=describer.name,
        model=describer.model,
        prompt=describer.prompt,
        settings=describer.settings,
        species=regions[0][0].species if describer.names_species else None,
        regions=[[specimen.sha256, region.box, region.polygons] for specimen, region in regions],
    )
