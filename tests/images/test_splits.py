"""Splits: kept where given, else drawn within each species."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sae_traits.errors import CollectionError
from sae_traits.images.splits import Member, is_split_label, parse_split, split_by_species, split_members

shares = st.tuples(st.floats(0, 0.5), st.floats(0, 0.49))
class_sizes = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def records(sizes: list[int]) -> dict[str, str]:
    return {f"{species}-{n}": f"Genus species{species}" for species, size in enumerate(sizes) for n in range(size)}


def counts(species: Mapping[str, str], splits: Mapping[str, str]) -> dict[str, Counter[str]]:
    result: dict[str, Counter[str]] = {}
    for image_id, name in species.items():
        result.setdefault(name, Counter())[splits[image_id]] += 1
    return result


@pytest.mark.parametrize(
    ("label", "split"),
    [
        ("train", "train"),
        ("val", "validation"),
        ("valid", "validation"),
        (" Validation ", "validation"),
        ("TEST", "test"),
        ("Training", "train"),
        ("dev", "validation"),
        ("testing", "test"),
    ],
)
def test_the_usual_names_of_splits_are_understood(label, split):
    assert is_split_label(label)
    assert parse_split(label) == split


@pytest.mark.parametrize("label", ["", "holdout", "trains", "0", "tra"])
def test_other_names_of_splits_are_refused(label):
    assert not is_split_label(label)
    with pytest.raises(CollectionError, match="is none of train, training, val"):
        parse_split(label)


@given(sizes=class_sizes, shares=shares, seed=st.integers(0, 5), order=st.randoms())
def test_the_order_of_the_images_does_not_matter(sizes, shares, seed, order):
    species = records(sizes)
    shuffled = list(species.items())
    order.shuffle(shuffled)
    options = {"validation_share": shares[0], "test_share": shares[1], "seed": seed}
    assert split_by_species(species, **options) == split_by_species(dict(shuffled), **options)


@given(sizes=class_sizes, shares=shares, seed=st.integers(0, 5))
def test_every_species_is_trained_on_and_tested_where_it_can_be(sizes, shares, seed):
    species = records(sizes)
    splits = split_by_species(species, validation_share=shares[0], test_share=shares[1], seed=seed)
    assert splits.keys() == species.keys()
    for counted in counts(species, splits).values():
        assert counted["train"] >= 1
        if counted.total() >= 2:
            assert counted["test"] >= (shares[1] > 0)


@given(sizes=class_sizes, shares=shares, seed=st.integers(0, 5))
def test_shares_are_met_within_rounding(sizes, shares, seed):
    validation_share, test_share = shares
    train_share = 1 - validation_share - test_share
    assume(min(sizes) * train_share >= 1)  # smaller ones give up some of their share, so that train has an image
    species = records(sizes)
    splits = split_by_species(species, validation_share=validation_share, test_share=test_share, seed=seed)
    for counted in counts(species, splits).values():
        n = counted.total()
        assert abs(counted["test"] - n * test_share) <= 1
        assert abs(counted["validation"] - n * validation_share) <= 1
        assert counted["train"] >= min(int(n * train_share), n - (test_share > 0))


@given(seed=st.integers(0, 20))
def test_small_species_keep_most_of_their_images_for_training(seed):
    species = records([1, 2, 3, 5, 10])
    found = counts(species, split_by_species(species, validation_share=0.1, test_share=0.2, seed=seed))
    assert found["Genus species0"] == {"train": 1}
    assert found["Genus species1"] == {"train": 1, "test": 1}
    assert found["Genus species2"] == {"train": 2, "test": 1}
    assert found["Genus species3"]["train"] >= 3
    assert found["Genus species4"] == {"train": 7, "validation": 1, "test": 2}


def test_shares_hold_over_many_small_species():
    """Rounding each of them to the nearest number would leave validation without a single image."""
    species = records([4] * 500)
    found = Counter(split_by_species(species, validation_share=0.1, test_share=0.2, seed=0).values())
    assert 160 < found["validation"] < 240


def test_shares_of_zero_give_no_images():
    species = records([1, 2, 30])
    assert set(split_by_species(species, validation_share=0, test_share=0, seed=0).values()) == {"train"}
    assert "validation" not in split_by_species(species, validation_share=0, test_share=0.4, seed=0).values()


def test_another_seed_draws_other_images_of_the_same_number():
    species = records([100])
    one = split_by_species(species, validation_share=0.1, test_share=0.2, seed=1)
    two = split_by_species(species, validation_share=0.1, test_share=0.2, seed=2)
    assert one != two
    assert Counter(one.values()) == Counter(two.values()) == {"train": 70, "validation": 10, "test": 20}


def test_a_species_is_split_the_same_whatever_others_there_are():
    species = records([20, 9])
    alone = {key: name for key, name in species.items() if name == "Genus species0"}
    together = split_by_species(species, validation_share=0.1, test_share=0.2, seed=0)
    assert split_by_species(alone, validation_share=0.1, test_share=0.2, seed=0) == {
        key: together[key] for key in alone
    }


def test_draws_do_not_change_between_versions():
    """A published split must come out the same in years: this is the first one, written down."""
    splits = split_by_species(records([6]), validation_share=0.2, test_share=0.2, seed=0)
    assert {image_id for image_id, split in splits.items() if split == "test"} == {"0-1"}
    assert {image_id for image_id, split in splits.items() if split == "validation"} == {"0-5"}


members = st.lists(
    st.builds(
        Member,
        key=st.integers(0, 30).map(str),
        species=st.sampled_from(["Aus bus", "Aus cus"]),
        unit=st.integers(0, 6),
        given=st.sampled_from([None, None, "train", "validation", "test"]),
    ),
    max_size=25,
)


@given(members=members, shares=shares, seed=st.integers(0, 3), given_stays=st.booleans())
def test_a_unit_is_in_one_split_unless_the_source_parts_it(members, shares, seed, given_stays):
    options = {"validation_share": shares[0], "test_share": shares[1], "seed": seed, "given_stays": given_stays}
    splits = split_members(members, **options)
    for unit in {member.unit for member in members}:
        mine = [(member, split) for member, split in zip(members, splits, strict=True) if member.unit == unit]
        given = {member.given for member, _ in mine} - {None}
        undecided = {split for member, split in mine if member.given is None}
        assert len(undecided) <= 1
        if given_stays:
            assert all(split == member.given for member, split in mine if member.given)
        if not given_stays or len(given) <= 1:
            assert len({split for _, split in mine}) == 1
        if len(given) > 1:
            assert undecided <= {"train"}
        if not given and len({member.species for member, _ in mine}) > 1:
            assert undecided == {"train"}
    # Images of the same content are in one group, as they are where groups are found by content.
    if len({member.key for member in members}) == len({(member.key, member.unit) for member in members}):
        assert split_members([*reversed(members)], **options) == [*reversed(splits)]


def test_a_unit_counts_as_one_individual_in_its_species():
    """Ten copies of one image and nine others: the shares hold over the ten different ones."""
    copies = [Member("0", "Aus bus", 0, None)] * 10
    others = [Member(str(n), "Aus bus", n, None) for n in range(1, 10)]
    splits = split_members([*copies, *others], validation_share=0.1, test_share=0.2, seed=0, given_stays=True)
    assert Counter([splits[0], *splits[10:]]) == {"train": 7, "validation": 1, "test": 2}
