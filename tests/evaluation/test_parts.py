"""The measures of part evidence, on small arrays whose answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_traits.evaluation.measures.distance_matrices import permute_within
from sae_traits.evaluation.parts import (
    OFF_PART,
    UNKNOWN_PART,
    Ratio,
    detectors,
    difference_over_species,
    held_out_part,
    location_explained,
    mean_per_species,
    permuted_detectors,
    permuted_held_out_part,
    permuted_location_explained,
    permuted_purity,
    purity,
)


def test_a_mean_per_species_leaves_out_what_is_unknown():
    inside = mean_per_species(np.array([1.0, 0.5, 0.0, np.nan]), np.array([0, 0, 1, 1]), 3)
    assert inside.value == 0.5
    np.testing.assert_array_equal(inside.by_species, [0.75, 0.0, np.nan])


def test_purity_is_the_largest_share_on_one_part_and_regions_on_none_count_against_it():
    latent, species = np.array([3, 3, 3, 3, 8]), np.array([0, 0, 0, 0, 0])
    part = np.array([1, 1, 0, OFF_PART, 1])
    assert purity(latent, part, species, 1, 2, min_regions=2).value == 0.5  # latent 8 has one region only
    assert purity(latent, part, species, 1, 2, min_regions=1).value == pytest.approx(3 / 5)
    assert np.isnan(purity(latent, part, species, 1, 2, min_regions=5).value)


def test_purity_is_counted_per_species_and_without_images_whose_parts_are_unknown():
    latent, species = np.array([3, 3, 3, 3]), np.array([0, 0, 1, 1])
    part = np.array([0, 0, 1, UNKNOWN_PART])
    assert purity(latent, part, species, 2, 2, min_regions=1).value == 1
    np.testing.assert_array_equal(purity(latent, part, species, 2, 2, min_regions=2).by_species, [1, np.nan])


def test_latents_that_mean_nothing_are_as_pure_as_their_null_and_part_latents_purer():
    rng = np.random.default_rng(0)
    part = np.repeat(rng.choice(3, size=400, p=[0.6, 0.3, 0.1]), 5)
    species = np.repeat(np.arange(4), 500)
    random = rng.integers(20, size=2000)
    null = permuted_purity(random, part, species, 4, 3)
    assert purity(random, part, species, 4, 3).value == pytest.approx(null.value, abs=0.02)
    assert null.value > 0.5  # the share of the commonest part: purity alone says little
    assert purity(part, part, species, 4, 3).value == 1
    assert permuted_purity(part, part, species, 4, 3).value < 0.65


def test_the_part_of_a_latent_is_learnt_on_training_images_and_scored_on_others():
    latent = np.array([0, 0, 0, 0, 0, 1, 1, 2])
    part = np.array([1, 1, 0, 1, OFF_PART, OFF_PART, 1, 0])
    held_out = np.array([False, False, False, True, True, False, True, True])
    species = np.zeros(8, dtype=int)
    # Latent 0 means part 1: one of two. Latent 1 lay on no part, latent 2 has no training region: both wrong.
    assert held_out_part(latent, part, species, held_out, 1, 2).value == 1 / 4
    assert held_out_part(latent, part, species, held_out, 1, 2, min_regions=2).value == 1 / 2
    assert np.isnan(held_out_part(latent, part, species, held_out, 1, 2, min_regions=3).value)


def test_a_perfect_part_latent_scores_one_and_a_dealt_one_about_the_share_of_the_commonest_part():
    rng = np.random.default_rng(1)
    part = rng.choice(2, size=1000, p=[0.7, 0.3])
    held_out, species = rng.random(1000) < 0.3, rng.integers(5, size=1000)
    assert held_out_part(part, part, species, held_out, 5, 2).value == 1
    assert permuted_held_out_part(part, part, species, held_out, 5, 2).value == pytest.approx(0.7, abs=0.05)


def test_location_is_explained_by_latents_with_a_place_of_their_own():
    place = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
    latent, held_out = np.array([4, 9, 4, 9]), np.array([False, False, True, True])
    species = np.zeros(4, dtype=int)
    assert location_explained(place, latent, species, held_out, 1).value == 1
    assert location_explained(place, np.zeros(4, dtype=int), species, held_out, 1).value == 0
    assert location_explained(place, np.array([4, 9, 9, 4]), species, held_out, 1).value == -3  # it misleads
    assert location_explained(place, np.array([4, 9, 5, 9]), species, held_out, 1).value == 0.5  # 5 is new


def test_location_is_relative_to_the_own_species_and_leaves_out_unknown_places():
    place = np.array([[0.2, 0.2], [0.8, 0.8], [0.2, 0.2], [0.8, 0.8], [np.nan, 0.0]])
    species, held_out = np.array([0, 1, 0, 1, 1]), np.array([False, False, True, True, True])
    explained = location_explained(place, np.array([0, 1, 0, 1, 0]), species, held_out, 2)
    assert np.isnan(explained.value)  # the species' means say it all, so there is no variance left


@pytest.mark.parametrize(("n_per_latent", "low", "high"), [(4, -0.65, -0.35), (80, -0.06, 0.0)])
def test_places_that_latents_say_nothing_of_are_explained_as_little_as_by_chance(n_per_latent, low, high):
    rng = np.random.default_rng(0)
    latent = np.repeat(np.arange(800 // n_per_latent), n_per_latent)
    place, held_out, species = rng.random((800, 2)), rng.random(800) < 0.3, rng.integers(2, size=800)
    chance = permuted_location_explained(place, latent, species, held_out, 2).value
    assert low < chance < high  # a mean of few places is off
    assert location_explained(place, latent, species, held_out, 2).value == pytest.approx(chance, abs=0.12)
    unknown = np.vstack([place, np.full((200, 2), np.nan)])
    longer = [np.concatenate([of, of[:200]]) for of in (latent, species, held_out)]
    assert permuted_location_explained(unknown, *longer, 2).value == chance


def test_a_detector_peaks_on_its_part_in_half_of_its_firings_and_fires_often_enough():
    latent = np.repeat([0, 1, 2, 3], [4, 4, 3, 4])
    part = np.array([0, 0, 1, OFF_PART, 1, OFF_PART, 0, OFF_PART, 0, 0, 0, UNKNOWN_PART, 1, 1, 1])
    assert detectors(latent, part, 5, 2, min_firings=4).tolist() == [
        [True, False],
        [False, False],
        [False, False],
        [False, False],
        [False, False],
    ]
    assert detectors(latent, part, 5, 2, min_firings=3)[2:4].tolist() == [[True, False], [False, True]]


def test_peaks_dealt_anew_make_no_detectors():
    image = np.repeat(np.arange(50), 4)
    latent = np.tile(np.arange(4), 50)
    assert detectors(latent, latent, 4, 4).tolist() == np.eye(4, dtype=bool).tolist()
    assert permuted_detectors(latent, latent, image, 4, 4) == 0


def test_a_difference_is_that_of_the_pooled_values_and_species_of_one_method_are_left_out():
    first = Ratio(np.array([1.0, 2.0, 0.0]), np.array([2.0, 4.0, 0.0]))
    second = Ratio(np.array([2.0, 3.0, 5.0]), np.array([2.0, 4.0, 5.0]))
    interval = difference_over_species(first, second)
    assert interval.mean == pytest.approx(5 / 6 - 1 / 2)
    assert interval.n_groups == 2
    assert (interval.low, interval.high) == (0.25, 0.5)
    assert np.isnan(difference_over_species(first, Ratio(np.zeros(3), np.zeros(3))).mean)


def test_a_lead_that_chance_gives_is_none_above_chance():
    first, null_of_first = Ratio(np.array([2.0, 4.0]), np.array([4.0, 8.0])), Ratio(np.array([1.0, 2.0]), np.full(2, 4))
    second, null_of_second = (
        Ratio(np.array([3.0, 6.0]), np.array([4.0, 8.0])),
        Ratio(np.array([2.0, 3.0]), np.full(2, 4)),
    )
    assert difference_over_species(first, second).mean == 0.25
    above = difference_over_species(first, second, (null_of_first, null_of_second))
    assert (above.mean, above.low, above.high) == pytest.approx((0, 0, 0))
    nothing = Ratio(np.zeros(2), np.zeros(2))
    assert np.isnan(difference_over_species(first, second, (nothing, null_of_second)).mean)


def test_equal_methods_do_not_differ():
    rng = np.random.default_rng(2)
    ratio = Ratio(rng.random(12), np.ones(12))
    interval = difference_over_species(ratio, ratio)
    assert (interval.mean, interval.low, interval.high) == (0, 0, 0)


@given(st.integers(0, 2**32 - 1))
def test_the_order_of_regions_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    latent, species, held_out = rng.integers(5, size=n), rng.integers(3, size=n), rng.random(n) < 0.5
    part, place = rng.integers(-2, 3, size=n), rng.random((n, 2))
    order = rng.permutation(n)
    for before, after in (
        (
            purity(latent, part, species, 3, 3, 2),
            purity(latent[order], part[order], species[order], 3, 3, 2),
        ),
        (
            held_out_part(latent, part, species, held_out, 3, 3),
            held_out_part(latent[order], part[order], species[order], held_out[order], 3, 3),
        ),
        (
            location_explained(place, latent, species, held_out, 3),
            location_explained(place[order], latent[order], species[order], held_out[order], 3),
        ),
    ):
        np.testing.assert_allclose(before.total, after.total)
        np.testing.assert_allclose(before.weight, after.weight)


@given(st.integers(0, 2**32 - 1))
def test_latents_are_dealt_within_their_group_and_none_is_lost(seed):
    rng = np.random.default_rng(seed)
    latent, group = rng.integers(4, size=30), rng.integers(3, size=30)
    dealt = latent[permute_within(group, rng)]
    for one in range(3):
        assert sorted(dealt[group == one]) == sorted(latent[group == one])


def test_photographs_without_named_parts_do_not_change_what_chance_is():
    """Half of the latents fire in photographs whose parts nobody named: chance is that of the other half alone."""
    rng = np.random.default_rng(0)
    latent, species = np.repeat(np.arange(20), 10), np.zeros(200, dtype=int)
    held_out, part = np.arange(200) % 2 == 0, rng.integers(0, 4, 200)
    part[latent >= 10] = UNKNOWN_PART
    known = latent < 10
    assert permuted_purity(latent, part, species, 1, 4).value == (
        permuted_purity(latent[known], part[known], species[known], 1, 4).value
    )
    assert permuted_held_out_part(latent, part, species, held_out, 1, 4, 5).value == (
        permuted_held_out_part(latent[known], part[known], species[known], held_out[known], 1, 4, 5).value
    )
