"""What a model is shown: the region is where it should be in every picture, at any size of the image."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import floats, integers
from PIL import Image

from sae_traits.describers.overlay import MIN_CROP, ORANGE, context_box, place_region
from sae_traits.describers.view import MAX_SIDE, MIN_SIDE, View, decode_picture, picture_size
from sae_traits.schema import Measurement, Region

MEASUREMENT = Measurement(
    length_px=1, width_px=1, elongation=1, texture_contrast=0, color_lab=(0.0, 0.0, 0.0), color_name="black"
)


def region_of(x: float, y: float, width: float, height: float) -> Region:
    ring = (x, y, x + width, y, x + width, y + height, x, y + height)
    return Region(box=(x, y, width, height), polygons=(ring,), patches=(0,), area_fraction=0.1)


def near(picture: Image.Image, color: tuple[int, int, int]) -> np.ndarray:
    return np.abs(np.asarray(picture).astype(int) - color).max(axis=2) < 40


def pictures(show, image: np.ndarray, region: Region) -> list[Image.Image]:
    return [decode_picture(url) for url in View(show)(image, region, MEASUREMENT)]


@pytest.mark.parametrize("size", [(60, 40), (600, 500), (2000, 900)])
def test_the_overlay_outlines_the_region_and_the_crop_shows_it_in_the_middle(size):
    width, height = size
    image = np.full((height, width, 3), 120, np.uint8)
    x, y, w, h = width // 2, height * 2 // 5, width // 6, height // 6
    image[y : y + h, x : x + w] = 0, 0, 200
    overlay, crop = pictures("both", image, region_of(x, y, w, h))
    assert MIN_SIDE <= max(overlay.size) <= MAX_SIDE
    assert MIN_SIDE <= max(crop.size) <= MAX_SIDE
    rows, columns = np.nonzero(near(overlay, ORANGE))
    scale = overlay.width / width
    for found, expected in ((columns.min(), x), (columns.max(), x + w), (rows.min(), y), (rows.max(), y + h)):
        assert found == pytest.approx(expected * scale, abs=10)
    blue = near(crop, (0, 0, 200))
    assert 0.05 < blue.mean() < 0.9
    assert blue[crop.height // 2, crop.width // 2]
    assert not near(crop, ORANGE).any()


def test_whole_shows_the_image_and_nothing_drawn():
    image = np.full((300, 400, 3), 120, np.uint8)
    (picture,) = pictures("whole", image, region_of(50, 50, 100, 100))
    assert np.abs(np.asarray(picture).astype(int) - 120).max() <= 2


@settings(max_examples=30)
@given(width=integers(8, 4000), height=integers(8, 4000))
def test_pictures_keep_their_shape_and_their_longer_side_lies_between_the_limits(width, height):
    found = picture_size((width, height))
    assert MIN_SIDE <= max(found) <= MAX_SIDE
    if min(found) > 20:
        assert found[0] / found[1] == pytest.approx(width / height, rel=0.05)


@given(
    x=floats(0, 90), y=floats(0, 70), width=floats(0.5, 100), height=floats(0.5, 80),
)  # fmt: skip
def test_a_crop_holds_its_box_and_lies_in_the_image(x, y, width, height):
    width, height = min(width, 100 - x), min(height, 80 - y)
    left, top, right, bottom = context_box((x, y, width, height), (100, 80))
    assert 0 <= left <= x + 1
    assert 0 <= top <= y + 1
    assert x + width - 1 <= right <= 100
    assert y + height - 1 <= bottom <= 80
    assert min(right - left, bottom - top) >= MIN_CROP


def test_a_region_is_placed_by_cutting_out_and_then_resizing():
    placed = place_region(region_of(30, 20, 10, 5), (10, 10), (2.0, 3.0))
    assert placed.box == (40, 30, 20, 15)
    assert placed.polygons[0] == (40, 30, 60, 30, 60, 45, 40, 45)


def test_the_sizes_are_known_beforehand_and_a_view_travels_to_workers():
    image = np.zeros((300, 400, 3), np.uint8)
    region = region_of(10, 10, 60, 30)
    for show in ("overlay", "crop", "both", "whole"):
        view = pickle.loads(pickle.dumps(View(show)))
        assert view.sizes((400, 300), region) == [picture.size for picture in pictures(show, image, region)]
        assert view.settings["show"] == show
