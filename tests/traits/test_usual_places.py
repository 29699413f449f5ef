import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_traits.traits.usual_places import N_BINS, UsualPlaces, nearness, places_on_organism

SHAPE = 6, 8
N_PATCHES = 48
"""Rows and columns differ, so that they cannot be taken for each other."""


def photograph(left, top, width, height):
    """Background everywhere but in a box of patches."""
    background = np.full(SHAPE, 0.9, np.float32)
    background[top : top + height, left : left + width] = 0.1
    return background.ravel()


def codes(*rows):
    """Rows of image, latent, patch and value."""
    image, latent, patch, value = zip(*sorted(rows), strict=True)
    whole = {"image": image, "latent": latent, "patch": patch}
    columns = {name: pa.array(values, pa.int32()) for name, values in whole.items()}
    return pa.table(columns | {"value": pa.array(value, pa.float32())})


@given(st.integers(0, 7), st.integers(0, 5), st.integers(1, 8), st.integers(1, 6))
def test_patches_have_their_places_in_the_box_around_the_organism(left, top, width, height):
    width, height = min(width, 8 - left), min(height, 6 - top)
    places = places_on_organism(np.stack([photograph(0, 0, 8, 6), photograph(left, top, width, height)]), SHAPE)[1]
    x, y = places.reshape(*SHAPE, 2)[3, 5]
    assert (x, y) == pytest.approx(((5.5 - left) / width, (3.5 - top) / height))
    inside = ((places > 0) & (places < 1)).all(axis=1)
    assert inside.tolist() == (photograph(left, top, width, height) < 0.5).tolist()


def test_patches_of_which_nothing_is_known_are_in_no_box_and_half_is_not_too_much():
    background = photograph(2, 1, 3, 2)
    background[[0, 47]] = np.nan, 0.5
    only_background, unknown = np.full(N_PATCHES, 0.51, np.float32), np.full(N_PATCHES, np.nan, np.float32)
    places = places_on_organism(np.stack([background, only_background, unknown]), SHAPE)
    assert places[0, 10].tolist() == pytest.approx([0.5 / 6, 0.5 / 5])  # columns 2 to 7, rows 1 to 5
    assert np.isnan(places[1:]).all()


FULL = (photograph(0, 0, 8, 6),) * 3
"""Photographs that the organism fills."""


def places_of(*rows, weights=(1.0, 1.0, 1.0), photographs=FULL, images=(0, 1, 2), n_images=3):
    places = UsualPlaces(3, np.resize(np.array(weights), n_images), SHAPE)
    places.add(codes(*rows), np.array(images, np.int32), np.stack(photographs))
    return places.value


def test_a_latent_of_both_of_a_pair_has_the_place_of_the_stronger_one_and_not_of_the_middle():
    # Patches 8 and 15 are the ends of the second row.
    assert places_of((0, 1, 8, 3.0), (0, 1, 15, 2.0))[1].tolist() == [1 / 16, 5 / 16]
    assert places_of((0, 1, 8, 3.0), (1, 1, 15, 4.0))[1].tolist() == [15 / 16, 5 / 16]


def test_what_is_near_counts_together():
    # Two in neighbouring columns, of which neither is the strongest; with bins alone it would be patch 0.
    assert places_of((0, 1, 0, 3.0), (0, 1, 28, 2.5), (0, 1, 29, 2.5))[1].tolist() == [9 / 16, 9 / 16]


def test_an_edge_is_no_reason():
    # Patch 0 is in the corner of the box, patch 27 is not.
    assert places_of((0, 1, 0, 1.0), (0, 1, 27, 1.1))[1].tolist() == [7 / 16, 9 / 16]


def test_latents_beside_each_other_have_nothing_to_do_with_each_other():
    places = places_of((0, 0, 0, 90.0), (0, 1, 47, 1.0), (0, 2, 7, 90.0))
    assert places.tolist() == [[1 / 16, 1 / 16], [15 / 16, 15 / 16], [15 / 16, 1 / 16]]


def test_images_that_are_not_trained_on_and_patches_of_background_do_not_count():
    rows = (0, 1, 8, 3.0), (1, 1, 15, 4.0)
    assert places_of(*rows, weights=(1.0, 0.5, 1.0))[1].tolist() == [1 / 16, 5 / 16]
    assert np.isnan(places_of(*rows, weights=(0.0, 0.0, 1.0))).all()
    assert np.isnan(places_of(*rows, photographs=(np.full(N_PATCHES, 0.6, np.float32),) * 3)).all()
    for background in (0.51, np.nan):
        beside = photograph(0, 0, 8, 6)
        beside[15] = background
        assert places_of(*rows, photographs=(beside,) * 3)[1].tolist() == [1 / 16, 5 / 16]


def test_the_place_is_that_on_the_organism_wherever_it_is_in_the_photograph():
    there = [photograph(0, 0, 4, 3), photograph(4, 3, 4, 3), photograph(0, 0, 8, 6)]
    lower_right = [(0, 1, 19, 1.0), (1, 1, 47, 1.0), (2, 1, 47, 1.0)]
    assert places_of(*lower_right, photographs=there)[1].tolist() == [15 / 16, 13 / 16]
    assert np.isnan(places_of((0, 0, 3, 1.0), photographs=there)[1]).all()  # of a latent that does not fire


def test_rows_of_a_shard_need_not_follow_each_other():
    there = [photograph(0, 0, 4, 3), photograph(4, 3, 4, 3)]
    found = places_of((4, 1, 19, 1.0), (9, 1, 47, 1.0), photographs=there, images=(4, 9), n_images=10)
    assert found[1].tolist() == [15 / 16, 13 / 16]


def test_parts_add_up_to_what_they_give_together():
    generator = np.random.default_rng(0)
    rows = [(int(i), int(z), int(p), float(v)) for i, z, p, v in zip(
        generator.integers(0, 6, 300), generator.integers(0, 3, 300), generator.integers(0, N_PATCHES, 300),
        generator.random(300), strict=True,
    )]  # fmt: skip
    background = generator.random((6, N_PATCHES)).astype(np.float32)
    whole, parts = (UsualPlaces(3, np.ones(6), SHAPE) for _ in range(2))
    whole.add(codes(*rows), np.arange(6, dtype=np.int32), background)
    for images in ([0, 1, 2], [3, 4, 5]):
        some = codes(*(row for row in rows if row[0] in images))
        parts.add(some, np.array(images, np.int32), background[images])
    assert whole.value.tolist() == parts.value.tolist()


def test_a_place_is_the_middle_of_a_bin():
    found = places_of((0, 1, 20, 1.0))[1]  # column 4 of row 2
    assert (found * N_BINS - 0.5).tolist() == [4.0, np.floor(2.5 / 6 * N_BINS)]


def test_a_patch_counts_for_less_the_farther_it_is_from_the_usual_place():
    places = np.array([[0.5, 0.25], [0.7, 0.25], [0.5, 0.65]])
    assert nearness(places, (0.5, 0.25)) == pytest.approx([1, np.exp(-0.5), np.exp(-2)])  # none, one, two deviations


def test_no_patch_counts_for_nothing():
    far = nearness(np.array([[-7.0, -5.0], [0.0, 0.0]]), (1.0, 1.0))
    assert far[0] == far[1] > 0
