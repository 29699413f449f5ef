"""What a relative has at the place of a species' region: the nearest, of the likest relative that has one there."""

import pytest
from evaluation.tasks.test_species_traits import shares_of

from sae_traits.evaluation.relative_regions import MAX_AWAY, likest_first, region_of_relative
from sae_traits.evaluation.species_tallies import DescribedRegion, Tally


def region(name, place, split="train", peak=1.0):
    """A region of an individual of its own, of which its own name is said."""
    return DescribedRegion(
        trait_id=name,
        individual_id=name,
        split=split,
        text=name,
        said=frozenset({("colour", name)}),
        peak=peak,
        background=None,
        place=place,
    )


def tally_of(*regions):
    """A latent with these regions."""
    tally = Tally()
    for one in regions:
        tally.count(one)
    return tally


def found_at(place, relatives, tallies):
    """Species and trait that are found."""
    found = region_of_relative(place, relatives, tallies)
    return None if found is None else (found[0], found[1].trait_id)


def test_the_nearest_region_is_shown_and_one_of_a_held_out_image_before_it():
    far, near, nearest = region("far", (0.9, 0.9)), region("near", (0.4, 0.5)), region("nearest", (0.5, 0.5))
    latents = {"1": tally_of(far, near), "2": tally_of(nearest)}
    assert found_at((0.5, 0.52), ["Aus cus"], {"Aus cus": latents}) == ("Aus cus", "nearest")
    latents["3"] = tally_of(region("held out", (0.55, 0.4), split="validation"))
    assert found_at((0.5, 0.52), ["Aus cus"], {"Aus cus": latents}) == ("Aus cus", "held out")


@pytest.mark.parametrize(
    ("place", "other", "is_there"),
    [
        ((0.5, 0.5), (0.5 + MAX_AWAY - 0.01, 0.5), True),
        ((0.5, 0.5), (0.5 + MAX_AWAY + 0.01, 0.5), False),
        ((0.5, 0.5), (0.5, 0.5 - MAX_AWAY - 0.01), False),
        ((0.5, None), (0.5, 0.9), True),
        ((0.5, 0.9), (0.5, None), True),
        ((0.5, None), (0.8, None), False),
        (None, (0.5, 0.5), False),
        ((0.5, 0.5), None, False),
    ],
)
def test_a_region_far_away_or_without_a_place_is_not_shown(place, other, is_there):
    tallies = {"Aus cus": {"1": tally_of(region("one", other))}}
    assert (region_of_relative(place, ["Aus cus"], tallies) is not None) == is_there


def test_the_first_relative_with_a_region_there_is_shown():
    tallies = {
        "Aus cus": {"1": tally_of(region("elsewhere", (0.0, 0.0)))},
        "Aus dus": {"1": tally_of(region("there", (0.9, 0.9)))},
        "Aus eus": {"1": tally_of(region("there, too", (0.9, 0.9), split="test"))},
    }
    assert found_at((0.9, 0.9), ["Aus bus", "Aus cus", "Aus dus", "Aus eus"], tallies) == ("Aus dus", "there")
    assert found_at((0.9, 0.9), ["Aus eus", "Aus dus"], tallies) == ("Aus eus", "there, too")
    assert found_at((0.9, 0.9), [], tallies) is None


def test_relatives_come_by_how_often_the_latent_fires_in_their_training_individuals():
    firing = shares_of(4)
    firing.training.fired[1, 5], firing.training.fired[2, 5] = 3, 7
    assert likest_first(5, ["Aus s1", "Aus s2", "Aus s3", "Aus unknown"], firing) == [
        "Aus s3",
        "Aus s2",
        "Aus s1",
        "Aus unknown",
    ]
    assert likest_first(4, ["Aus s3", "Aus s1"], firing) == ["Aus s1", "Aus s3"]
    assert likest_first(5, ["Aus s2", "Aus s1"], None) == ["Aus s1", "Aus s2"]
