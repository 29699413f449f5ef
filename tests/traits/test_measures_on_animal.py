"""Where on the animal a region lies: painted animals of known place, length and direction."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from grids import square_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.draw import polygon2mask

from sae_traits.describers.pattern import pattern_of
from sae_traits.describers.surface import cut_out
from sae_traits.schema import Region
from sae_traits.traits.animals import Animal, estimated_animal, place_in_frame, place_on_animal
from sae_traits.traits.measures import measure
from sae_traits.traits.regions import make_region

SIZE = (200, 120)


def painted_mask(left, top, width, height, size=SIZE):
    mask = np.zeros((size[1], size[0]), dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


def box_region(x, y, width, height, size=SIZE):
    ring = (x, y, x + width, y, x + width, y + height, x, y + height)
    share = width * height / (size[0] * size[1])
    return Region(box=(x, y, width, height), polygons=(tuple(map(float, ring)),), patches=(0,), area_fraction=share)


LONG = Animal.of(painted_mask(20, 50, 160, 20))


@pytest.mark.parametrize(
    ("region", "on_animal", "share", "position"),
    [
        (box_region(90, 50, 20, 20), 1.0, 1 / 8, 0.0),  # the middle
        (box_region(20, 50, 20, 20), 1.0, 1 / 8, 0.875),  # one end: its centroid is 10 of 80 pixels from it
        (box_region(160, 50, 20, 20), 1.0, 1 / 8, 0.875),  # the other end is told no different
        (box_region(120, 40, 20, 20), 0.5, 1 / 16, 0.375),  # half above the animal
        (box_region(170, 50, 20, 20), 0.5, 1 / 16, 0.9375),  # half beyond its end: the half that lies on it counts
        (box_region(0, 0, 200, 120), 1 / 7.5, 1.0, 0.0),  # all of the image
        (box_region(20, 0, 40, 30), 0.0, 0.0, None),  # beside it
    ],
)
def test_shares_and_position_of_a_painted_animal(region, on_animal, share, position):
    found = place_on_animal(region, LONG)
    assert found.on_animal == pytest.approx(on_animal, abs=0.01)
    assert found.share_of_animal == pytest.approx(share, abs=0.01)
    assert found.position_along_axis == (None if position is None else pytest.approx(position, abs=0.01))


@settings(max_examples=30, deadline=None)
@given(angle=st.floats(0, 3.1), along=st.floats(-0.9, 0.9), scale=st.sampled_from([1, 4]))
def test_the_position_is_the_distance_from_the_middle_at_any_angle_and_scale(angle, along, scale):
    size, half = 240 * scale, 100 * scale
    y, x = np.mgrid[:size, :size] + 0.5 - size / 2
    direction = np.array([np.cos(angle), np.sin(angle)])
    mask = (abs(x * direction[0] + y * direction[1]) <= half) & (abs(x * direction[1] - y * direction[0]) <= half / 5)
    place = size / 2 + along * half * direction - 3 * scale
    region = box_region(place[0], place[1], 6 * scale, 6 * scale, (size, size))
    found = place_on_animal(region, Animal.of(mask))
    # An end is where the last pixel is: a corner of the slanting bar reaches a little beyond its middle.
    assert found.position_along_axis == pytest.approx(abs(along), abs=0.04)


def test_an_animal_as_wide_as_long_has_no_axis_and_a_moth_has():
    y, x = np.mgrid[:100, :100] - 49.5
    assert Animal.of(x**2 + y**2 < 40**2).frame.ends is None
    assert Animal.of((x / 45) ** 2 + (y / 35) ** 2 < 1).frame.ends is not None
    assert Animal.of(painted_mask(7, 9, 1, 1)).frame.ends is None
    assert Animal.of(painted_mask(7, 9, 5, 1)).frame.ends is not None


@given(
    patches=st.sets(st.integers(0, 15), min_size=1),
    left=st.integers(0, 150), top=st.integers(0, 80), width=st.integers(1, 200), height=st.integers(1, 120),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_the_shares_are_those_of_the_masks_area_on_the_patches(patches, left, top, width, height):
    grid = square_grid("squash", source=SIZE, size=64, patch=16)
    mask = painted_mask(left, top, width, height)
    region = make_region(sorted(patches), grid)
    inside = np.zeros_like(mask)
    for ring in region.polygons:  # holes are filled, as in what is measured
        inside |= polygon_mask(ring, mask.shape)
    found = place_on_animal(region, Animal.of(mask))
    assert found.on_animal == pytest.approx((mask & inside).sum() / inside.sum(), abs=0.03)
    assert found.share_of_animal == pytest.approx(
        (mask & inside).sum() / mask.sum(), abs=0.03 * inside.sum() / mask.sum()
    )
    assert 0 <= found.on_animal <= 1
    assert 0 <= found.share_of_animal <= 1


def polygon_mask(ring, shape):
    # pixel centres lie half a pixel in
    return polygon2mask(shape, np.reshape(ring, (-1, 2))[:, ::-1] - 0.5)


def test_with_a_mask_colour_contrast_and_pattern_are_those_of_the_animal_alone():
    image = np.full((120, 200, 3), (40, 120, 50), dtype=np.uint8)
    image[50:70, 20:180] = (230, 120, 20)
    image[40:50, 60:100:8] = (250, 250, 250)
    region = box_region(60, 30, 40, 35)
    plain, masked = measure(image, region), measure(image, region, animal=LONG)
    assert (plain.color_name, masked.color_name) == ("green", "orange")
    assert plain.texture_contrast > 5
    assert masked.texture_contrast == pytest.approx(0)
    places = ("animal_source", "on_animal", "share_of_animal", "distance_from_centre", "position_along_axis")
    assert [getattr(plain, name) for name in places] == [None] * 5
    assert masked.animal_source == "mask"
    assert masked.on_animal == pytest.approx(15 / 35, abs=0.01)
    # What is measured of the outline stays: a mask says nothing about the region's own size.
    assert (masked.length_px, masked.width_px) == (plain.length_px, plain.width_px)
    assert pattern_of(cut_out(image, region, LONG.mask)) == "plain"


def test_a_region_off_the_animal_keeps_its_own_colour_and_says_that_it_is_off():
    image = np.full((120, 200, 3), (40, 60, 200), dtype=np.uint8)
    measurement = measure(image, box_region(20, 0, 40, 30), animal=LONG)
    assert measurement.color_name == "blue"
    assert (measurement.on_animal, measurement.share_of_animal, measurement.position_along_axis) == (0.0, 0.0, None)


def test_a_mask_of_a_large_photograph_costs_little():
    mask = np.asarray(Image.fromarray(LONG.mask).resize((4000, 2400)))
    started = time.perf_counter()
    animal = Animal.of(mask)
    place_on_animal(box_region(1800, 1000, 400, 400, (4000, 2400)), animal)
    assert time.perf_counter() - started < 1


GRID = square_grid("squash", source=SIZE, size=64, patch=16)  # 4 x 4 patches of 50 x 30 pixels


def background_of(*animal):
    """Probabilities of background: low at the patches of the animal."""
    background = np.full(16, 0.9, dtype=np.float32)
    background[list(animal)] = 0.1
    return background


def test_the_animal_is_estimated_from_the_connected_patches_that_are_no_background():
    background = background_of(4, 5, 6, 7, 13)  # the second row, and a speck below it that does not touch it
    region = make_region([7], GRID)
    frame = estimated_animal(background, np.array([7]), GRID)
    assert frame is not None
    assert frame.area == pytest.approx(4 * 50 * 30)
    assert frame.centre == pytest.approx((100, 45))
    assert frame.ends is not None
    assert sorted(map(abs, frame.ends)) == pytest.approx([0, 200])
    found = place_in_frame(region, frame)
    assert (found.animal_source, found.on_animal) == ("background", None)
    assert found.share_of_animal == pytest.approx(1 / 4)
    assert found.position_along_axis == pytest.approx(0.75)
    measured = measure(np.zeros((120, 200, 3), np.uint8), dataclasses.replace(region, animal=frame))
    assert measured.animal_source == "background"
    assert measured.position_along_axis == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("background", "patch"),
    [
        (None, 5),
        (background_of(4, 5, 6, 7), 15),  # off the animal
        (background_of(4, 5, 6), 5),  # a speck
        (background_of(*range(15)), 5),  # it fills the photograph
        (np.full(16, np.nan, dtype=np.float32), 5),
    ],
)
def test_no_animal_is_estimated_where_none_can_be_told(background, patch):
    assert estimated_animal(background, np.array([patch]), GRID) is None


def test_an_estimate_from_patches_says_nearly_what_the_mask_of_the_same_pixels_says():
    grid = square_grid("squash", source=(320, 320), size=64, patch=4)
    y, x = np.mgrid[:320, :320] - 159.5
    mask = (x / 140) ** 2 + (y / 70) ** 2 < 1
    outside = (1 - grid.patch_means(mask)).astype(np.float32)
    for patch in (8 * 16 + 8, 8 * 16 + 13, 5 * 16 + 7, 10 * 16 + 4):
        region = make_region([patch], grid)
        frame = estimated_animal(outside, np.array([patch]), grid)
        assert frame is not None
        estimated, exact = place_in_frame(region, frame), place_on_animal(region, Animal.of(mask))
        assert estimated.share_of_animal == pytest.approx(exact.share_of_animal, rel=0.1)
        assert estimated.distance_from_centre == pytest.approx(exact.distance_from_centre, abs=0.05)
        assert estimated.position_along_axis == pytest.approx(exact.position_along_axis, abs=0.05)


def test_the_distance_from_the_centre_is_that_within_the_ellipse():
    y, x = np.mgrid[:200, :300] - np.array([99.5, 149.5])[:, None, None]
    animal = Animal.of((x / 120) ** 2 + (y / 60) ** 2 < 1)
    for place, distance in (
        ((150, 100), 0),
        ((210, 100), 0.5),
        ((150, 130), 0.5),
        ((266, 100), 0.97),
        ((150, 43), 0.95),
    ):
        region = box_region(place[0] - 1, place[1] - 1, 2, 2, (300, 200))
        assert place_on_animal(region, animal).distance_from_centre == pytest.approx(distance, abs=0.03)
