"""Which images are for training, validation and testing, where the collection does not say."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor

from sae_traits.errors import CollectionError
from sae_traits.schema import Split

_LABELS: dict[str, Split] = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
_ROUNDING = 1e-9
"""Keeps a share such as 10 x 0.7 from being rounded down because of its last binary digit."""


def is_split_label(label: str) -> bool:
    """Whether a label, or the name of a folder, names a split."""
    return label.strip().lower() in _LABELS


def parse_split(label: str) -> Split:
    """The split that a label names.

    Raises:
        CollectionError: it names none; the message is the reason.
    """
    if not is_split_label(label):
        raise CollectionError(f"the split {label!r} is none of {', '.join(_LABELS)}")
    return _LABELS[label.strip().lower()]


@dataclass(frozen=True, slots=True)
class Member:
    """What the split of an image depends on."""

    content: str
    """The same for byte-identical images of a species."""
    species: str
    group: int
    """The same for near-identical images."""
    given: Split | None
    """The source's own split."""


def split_members(
    members: Sequence[Member], *, validation_share: float, test_share: float, seed: int, given_stays: bool
) -> list[Split]:
    """A split for every image `[n_members]`; those of a group are on one side of it.

    Groups without a given split are drawn within their species, and count as one image there. A group of several
    species is for training: a photograph with two names cannot test either. An image without a given split goes with
    those of its group that have one.

    Args:
        members: in any order.
        validation_share: as `split_by_species`.
        test_share: as `split_by_species`.
        seed: as `split_by_species`.
        given_stays: whether the given splits stay where they part a group; else all of the group is for training.
    """
    groups: dict[int, list[Member]] = defaultdict(list)
    for member in members:
        groups[member.group].append(member)
    settled: dict[int, Split] = {}
    undecided: dict[str, str] = {}
    for name, group in groups.items():
        given: set[Split] = {member.given for member in group if member.given is not None}
        if given or len({member.species for member in group}) > 1:
            settled[name] = "train" if len(given) != 1 else given.pop()
        else:
            undecided[min(member.content for member in group)] = group[0].species
    drawn = split_by_species(undecided, validation_share=validation_share, test_share=test_share, seed=seed)
    settled |= {name: drawn[min(m.content for m in group)] for name, group in groups.items() if name not in settled}
    return [member.given if member.given and given_stays else settled[member.group] for member in members]


def split_by_species(
    species: Mapping[str, str], *, validation_share: float, test_share: float, seed: int
) -> dict[str, Split]:
    """A split for every image, drawn within each species.

    The result depends on the names and the seed alone, not on the order of the images. Every species has an image
    in train, and from two images on one in test (unless test_share is 0). Each share is met within rounding; whether
    it is rounded up or down is drawn by species, so that the shares hold over many small species, too.

    Args:
        species: image_id -> binomial.
        validation_share: share of each species' images for validation.
        test_share: share of each species' images for testing.
        seed: seed of the draw.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for image_id, name in species.items():
        members[name].append(image_id)
    splits: dict[str, Split] = {}
    for name, image_ids in members.items():
        n_validation, n_test = _sizes(name, len(image_ids), validation_share, test_share, seed)
        image_ids.sort(key=lambda image_id: _draw(seed, "image", image_id))
        splits |= dict.fromkeys(image_ids, "train")
        splits |= dict.fromkeys(image_ids[:n_test], "test")
        splits |= dict.fromkeys(image_ids[n_test : n_test + n_validation], "validation")
    return splits


def _sizes(species: str, n_images: int, validation_share: float, test_share: float, seed: int) -> tuple[int, int]:
    """Numbers of validation and test images of a species."""
    at_least = 1 if test_share > 0 else 0
    train_share = 1 - validation_share - test_share
    n_train = max(1, min(n_images - at_least, floor(n_images * train_share + _ROUNDING)))
    spare = n_images - n_train
    n_test = min(spare, max(at_least, _round(n_images * test_share, seed, "test", species)))
    n_validation = min(spare - n_test, _round(n_images * validation_share, seed, "validation", species))
    return n_validation, n_test


def _round(expected: float, seed: int, *what: str) -> int:
    """Round up with a probability of the fraction, so that the sum over many species is met."""
    uniform = int(_draw(seed, *what)[:4], 16) / 16**4
    return floor(expected + uniform + _ROUNDING)


def _draw(seed: int, *what: str) -> str:
    """A pseudo-random hexadecimal number, the same on every machine."""
    return hashlib.sha256("\0".join([str(seed), *what]).encode()).hexdigest()
