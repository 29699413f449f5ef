"""Which individuals are for training, validation and testing, where the collection does not say."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor

import numpy as np

from sae_traits.errors import CollectionError
from sae_traits.vocabulary import Split

_LABELS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
_ROUNDING = 1e-9
"""Keeps a share such as 10 x 0.7 from being rounded down because of its last binary digit."""


def is_split_label(label: str) -> bool:
    """Whether a label, or the name of a folder, names a split."""
    return label.strip().lower() in _LABELS


def parse_split(label: str) -> Split:
    """Look up the split that a label names; a CollectionError where it names none."""
    if not is_split_label(label):
        raise CollectionError(f"the split {label!r} is none of {', '.join(_LABELS)}")
    return _LABELS[label.strip().lower()]


@dataclass(frozen=True, slots=True)
class Member:
    """What the split of an image depends on."""

    key: str
    """What the draw depends on: the same for all images of an individual, or for byte-identical ones of a species."""
    species: str
    unit: int
    """The same for images that must be in one split, as `units` says."""
    given: Split | None
    """The source's own split."""


def units(individuals: Sequence[str | None], near_identical: Sequence[int]) -> list[int]:
    """Number the sets of images that must be in one split: of one individual, near-identical, or joined by others.

    Of each image the individual, None where the source names none, and the group, named by its first image.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(individuals)
    first: dict[str, int] = {}
    links = [first.setdefault(name, place) if name else place for place, name in enumerate(individuals)]
    ends = np.array([*links, *near_identical], dtype=np.intp)
    starts = np.tile(np.arange(n), 2)
    return connected_components(coo_array((np.ones(2 * n), (starts, ends)), shape=(n, n)), directed=False)[1].tolist()


def split_members(
    members: Sequence[Member], *, validation_share: float, test_share: float, seed: int, given_stays: bool
) -> list[Split]:
    """Choose a split for every image `[n_members]`, the same for all of a unit.

    Units without a given split are drawn within their species, and count as one individual there. A unit of several
    species is for training: a photograph with two names cannot test either. An image without a given split goes with
    those of its unit that have one.

    With `given_stays` the given splits stay where they part a unit; else all of the unit is for training. Members may
    be in any order; the other arguments are those of `split_by_species`.
    """
    members_of: dict[int, list[Member]] = defaultdict(list)
    for member in members:
        members_of[member.unit].append(member)
    settled: dict[int, Split] = {}
    undecided: dict[str, str] = {}
    key_of = {unit: min(member.key for member in together) for unit, together in members_of.items()}
    for unit, together in members_of.items():
        given: set[Split] = {member.given for member in together if member.given is not None}
        if given or len({member.species for member in together}) > 1:
            settled[unit] = "train" if len(given) != 1 else given.pop()
        else:
            undecided[key_of[unit]] = together[0].species
    drawn = split_by_species(undecided, validation_share=validation_share, test_share=test_share, seed=seed)
    settled |= {unit: drawn[key] for unit, key in key_of.items() if unit not in settled}
    return [member.given if member.given and given_stays else settled[member.unit] for member in members]


def split_by_species(
    species: Mapping[str, str], *, validation_share: float, test_share: float, seed: int
) -> dict[str, Split]:
    """Draw a split for every individual within its species, of which `species` has the binomial.

    The result depends on the names and the seed alone, not on their order. Every species has an individual
    in train, and from two individuals on one in test (unless test_share is 0). Each share is met within rounding;
    whether it is rounded up or down is drawn by species, so that the shares hold over many small species, too.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for key, name in species.items():
        members[name].append(key)
    splits: dict[str, Split] = {}
    for name, keys in members.items():
        n_validation, n_test = _sizes(name, len(keys), validation_share, test_share, seed)
        keys.sort(key=lambda key: _draw(seed, "specimen", key))  # the word is part of every split that was drawn so far
        splits |= dict.fromkeys(keys, "train")
        splits |= dict.fromkeys(keys[:n_test], "test")
        splits |= dict.fromkeys(keys[n_test : n_test + n_validation], "validation")
    return splits


def _sizes(species: str, n: int, validation_share: float, test_share: float, seed: int) -> tuple[int, int]:
    """Round the numbers of validation and test individuals among the `n` of a species."""
    at_least = 1 if test_share > 0 else 0
    train_share = 1 - validation_share - test_share
    n_train = max(1, min(n - at_least, floor(n * train_share + _ROUNDING)))
    spare = n - n_train
    n_test = min(spare, max(at_least, _round(n * test_share, seed, "test", species)))
    n_validation = min(spare - n_test, _round(n * validation_share, seed, "validation", species))
    return n_validation, n_test


def _round(expected: float, seed: int, *what: str) -> int:
    """Round up with a probability of the fraction, so that the sum over many species is met."""
    uniform = int(_draw(seed, *what)[:4], 16) / 16**4
    return floor(expected + uniform + _ROUNDING)


def _draw(seed: int, *what: str) -> str:
    """Draw a pseudo-random hexadecimal number, the same on every machine."""
    return hashlib.sha256("\0".join([str(seed), *what]).encode()).hexdigest()
