import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_traits.traits.usual_places import N_BINS, NEARNESS, UsualPlaces, nearness, organism_boxes, places_in

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
    columns = {"image": image, "latent": latent, "patch": patch}
    return pa.table(
        {**{k: pa.array(v, pa.int32()) for k, v in columns.items()}, "value": pa.array(value, pa.float32())}
    )


@given(st.integers(0, 7), st.integers(0, 5), st.integers(1, 8), st.integers(1, 6))
def test_the_box_is_that_around_what_is_probably_not_background(left, top, width, height):
    width, height = min(width, 8 - left), min(height, 6 - top)
    boxes = organism_boxes(np.stack([photograph(left, top, width, height)] * 2), SHAPE)
    assert boxes.tolist() == [[left, top, width, height]] * 2


def test_patches_of_which_nothing_is_known_are_in_no_box_and_half_is_not_too_much():
    background = photograph(2, 1, 3, 2)
    background[[0, 47]] = np.nan, 0.5
    only_background, unknown = np.full(N_PATCHES, 0.51, np.float32), np.full(N_PATCHES, np.nan, np.float32)
    boxes = organism_boxes(np.stack([background, only_background, unknown]), SHAPE)
    assert boxes[0].tolist() == [2, 1, 6, 5]
    assert np.isnan(boxes[1:]).all()


def test_places_are_those_of_the_middles_of_patches():
    box = np.array([2.0, 1.0, 4.0, 2.0])
    patches = np.array([10, 21, 0], np.int32)  # columns 2, 5 and 0 of rows 1, 2 and 0
    assert places_in(box, patches, 8).tolist() == [[0.125, 0.25], [0.875, 0.75], [-0.375, -0.25]]
    each = np.stack([box, box, [0.0, 0.0, 8.0, 6.0]])
    assert places_in(each, patches, 8)[2].tolist() == pytest.approx([1 / 16, 1 / 12])


FULL = (photograph(0, 0, 8, 6),) * 3
"""Photographs that the organism fills."""


def place_of(*rows, weights=(1.0, 1.0, 1.0), photographs=FULL):
    places = UsualPlaces(3, np.array(weights), SHAPE)
    places.add(codes(*rows), np.arange(3, dtype=np.int32), np.stack(photographs))
    return places.value[1]


def test_a_latent_of_both_of_a_pair_has_the_place_of_the_stronger_one_and_not_of_the_middle():
    # Patches 8 and 15 are the ends of the second row.
    assert place_of((0, 1, 8, 3.0), (0, 1, 15, 2.0)).tolist() == [1 / 16, 5 / 16]
    assert place_of((0, 1, 8, 3.0), (1, 1, 15, 4.0)).tolist() == [15 / 16, 5 / 16]


def test_images_that_are_not_trained_on_and_patches_of_background_do_not_count():
    rows = (0, 1, 8, 3.0), (1, 1, 15, 4.0)
    assert place_of(*rows, weights=(1.0, 0.5, 1.0)).tolist() == [1 / 16, 5 / 16]
    assert np.isnan(place_of(*rows, weights=(0.0, 0.0, 1.0))).all()
    assert np.isnan(place_of(*rows, photographs=(np.full(N_PATCHES, 0.6, np.float32),) * 3)).all()
    half = photograph(0, 0, 8, 6)
    half[15] = 0.5
    assert place_of(*rows, photographs=(half,) * 3).tolist() == [1 / 16, 5 / 16]  # 3.0 x 0.9 against 4.0 x 0.5


def test_the_place_is_that_on_the_organism_wherever_it_is_in_the_photograph():
    there = [photograph(0, 0, 4, 3), photograph(4, 3, 4, 3), photograph(0, 0, 8, 6)]
    upper_right = [(0, 1, 3, 1.0), (1, 1, 31, 1.0), (2, 1, 7, 1.0)]  # the last column of each organism's first row
    found = place_of(*upper_right, photographs=there)
    assert found.tolist() == [15 / 16, 1 / 16]
    assert np.isnan(place_of((0, 0, 3, 1.0), photographs=there)).all()  # of a latent that does not fire


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
    found = place_of((0, 1, 20, 1.0))  # column 4 of row 2
    assert (found * N_BINS - 0.5).tolist() == [4.0, np.floor(2.5 / 6 * N_BINS)]


def test_a_patch_counts_for_less_the_farther_it_is_from_the_usual_place():
    box = np.array([0.0, 0.0, 8.0, 6.0])
    found = nearness((4.5 / 8, 2.5 / 6), box, np.array([20, 21, 44], np.int32), 8)
    assert found == pytest.approx([1, np.exp(-((1 / 8) ** 2) / (2 * NEARNESS**2)), np.exp(-0.25 / (2 * NEARNESS**2))])


def test_no_patch_counts_for_nothing_and_without_an_organism_all_count_the_same():
    far = nearness((1.0, 1.0), np.array([7.0, 5.0, 1.0, 1.0]), np.arange(N_PATCHES, dtype=np.int32), 8)
    assert (far > 0).all()
    assert nearness((0.0, 0.0), np.full(4, np.nan), np.arange(3, dtype=np.int32), 8).tolist() == [1, 1, 1]
