"""Measuring regions: painted textures are told apart, painted colours named, painted sizes measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from skimage.color import rgb2lab

from sae_traits.describers.colours import FAMILIES, VOCABULARY, color_family, color_name, family_in_words
from sae_traits.describers.pattern import pattern_of
from sae_traits.describers.surface import color_clusters, cut_out
from sae_traits.schema import Region
from sae_traits.traits.measures import measure

ORANGE, BLACK = (230, 140, 30), (20, 20, 20)
TWELVE = {
    "black": ("#101010", "#1e1b1a"),
    "white": ("#f5f5f5", "#fafafa"),
    "grey": ("#808080", "#999999"),
    "brown": ("#8b5a2b", "#96592a", "#8b4513"),
    "dark brown": ("#3e2410", "#4a2c17"),
    "red": ("#c8201e", "#d62728", "#b22222"),
    "orange": ("#ee7f1a", "#ff7f0e", "#f08c28"),
    "yellow": ("#f2d024", "#ffdd33", "#f1c40f"),
    "green": ("#3c9a46", "#2ca02c", "#2e8b57"),
    "blue": ("#2f62c4", "#1f77b4", "#3a6ee0"),
    "purple": ("#7b3fa0", "#6a3d9a", "#800080"),
    "pink": ("#f29ac0", "#e377c2", "#ff9eb5"),
}


def make_region(image: NDArray[np.uint8], *rings: Sequence[float]) -> Region:
    xs, ys = np.concatenate([ring[::2] for ring in rings]), np.concatenate([ring[1::2] for ring in rings])
    box = (float(xs.min()), float(ys.min()), float(np.ptp(xs)), float(np.ptp(ys)))
    share = box[2] * box[3] / (image.shape[0] * image.shape[1])
    return Region(box=box, polygons=tuple(tuple(map(float, r)) for r in rings), patches=(0,), area_fraction=share)


def rectangle(x: float, y: float, width: float, height: float) -> tuple[float, ...]:
    return (x, y, x + width, y, x + width, y + height, x, y + height)


def whole(image: NDArray[np.uint8]) -> Region:
    return make_region(image, rectangle(0, 0, image.shape[1], image.shape[0]))


def flat(color: tuple[int, int, int], width: int = 60, height: int = 60) -> NDArray[np.uint8]:
    return np.full((height, width, 3), color, dtype=np.uint8)


def turned(size: int, angle: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, x = np.mgrid[:size, :size] + 0.5
    return x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)


def choose(mask: NDArray[np.bool_], inside: tuple[int, ...], outside: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.where(mask[..., None], np.array(inside, np.uint8), np.array(outside, np.uint8))


def bands(size: int, angle: float, period: float, colors=(ORANGE, BLACK)) -> NDArray[np.uint8]:
    across, _ = turned(size, angle)
    return choose(across / period % 1 < 0.5, *colors)


def spots(size: int, angle: float, period: float, colors=(BLACK, ORANGE)) -> NDArray[np.uint8]:
    u, v = (along % period - period / 2 for along in turned(size, angle))
    return choose(np.hypot(u, v) < 0.3 * period, *colors)


def photographed(image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """The painting with uneven light, a little blur and noise."""
    rng = np.random.default_rng(seed)
    light = np.linspace(0.85, 1.1, image.shape[1])[None, :, None]
    blurred = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(0.7)))
    return np.clip(blurred * light + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("name", "hexadecimal"), [(name, h) for name, hs in TWELVE.items() for h in hs])
@pytest.mark.parametrize("light", [0.9, 1.0, 1.1])
def test_the_twelve_plain_colours_are_recognised_in_any_light(name, hexadecimal, light):
    color = np.clip(np.array(list(bytes.fromhex(hexadecimal[1:]))) * light, 0, 255).astype(np.uint8)
    image = photographed(flat(tuple(color.tolist())), seed=1)
    assert color_family(measure(image, whole(image)).color_name) == name


def test_the_vocabulary_holds_the_plain_words_and_every_finer_name_has_one():
    assert set(TWELVE) <= set(VOCABULARY)
    assert {color_family(name) for name in VOCABULARY} == set(TWELVE)
    assert family_in_words("rufous") == family_in_words("tan") == "tan/brown/rufous"
    assert [family_in_words(name) for name in ("dark brown", "tan/brown/rufous", "azure")] == [None] * 3
    assert set(FAMILIES) <= set(VOCABULARY)
    for name, anchors in VOCABULARY.items():
        for anchor in anchors:
            lab = rgb2lab(np.array(list(bytes.fromhex(anchor[1:])), dtype=np.uint8))
            assert color_name(tuple(lab.tolist())) == name


def test_the_dominant_colour_is_the_one_that_covers_more_and_the_other_comes_after():
    image = flat((240, 210, 40))
    image[:, :18] = (30, 60, 160)
    dominant, further = color_clusters(cut_out(image, whole(image)).lab)
    assert color_name(dominant.lab) == "yellow"
    assert color_family(color_name(further.lab)) == "blue"
    assert dominant.share == pytest.approx(0.7)
    assert further.share == pytest.approx(0.3)


def test_there_are_at_most_three_colours_and_each_covers_a_tenth():
    image = flat((240, 210, 40), 80, 80)
    for column, color in ((0, (30, 60, 160)), (16, (20, 20, 20)), (28, (240, 240, 240)), (36, (200, 30, 30))):
        image[:, column : column + 16] = color
    shares = [color.share for color in color_clusters(cut_out(image, whole(image)).lab)]
    assert shares == pytest.approx([0.35, 0.2, 0.2])


@pytest.mark.parametrize(("columns", "other"), [(5, (30, 60, 160)), (25, (225, 200, 50))])
def test_a_small_or_similar_second_colour_is_none(columns, other):
    image = flat((240, 210, 40))
    image[:, :columns] = other
    assert len(color_clusters(cut_out(image, whole(image)).lab)) == 1


def test_only_pixels_inside_the_outline_count():
    image = flat((200, 30, 30), 100, 100)
    image[20:40, 20:40] = image[60:80, 60:80] = (30, 150, 50)
    region = make_region(image, rectangle(20, 20, 20, 20), rectangle(60, 60, 20, 20))
    measurement = measure(image, region)
    assert measurement.color_name == "green"
    assert measurement.texture_contrast == pytest.approx(0)


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.0, 2.2])
def test_length_and_width_do_not_depend_on_the_angle(angle):
    image = flat(ORANGE, 200, 200)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = np.array([[-40, -10], [40, -10], [40, 10], [-40, 10]]) @ turn + 100
    measurement = measure(image, make_region(image, corners.ravel().tolist())).with_scale(0.05)
    assert measurement.length_px == pytest.approx(80)
    assert measurement.width_px == pytest.approx(20)
    assert measurement.elongation == pytest.approx(4)
    assert measurement.length_mm == pytest.approx(4)
    assert measurement.width_mm == pytest.approx(1)


def test_without_a_scale_there_are_no_millimetres():
    image = flat(ORANGE)
    assert measure(image, whole(image)).length_mm is None


def test_texture_contrast_is_the_standard_deviation_of_lightness():
    image = flat((0, 0, 0), 40, 40)
    image[:, ::2] = 255
    assert measure(image, whole(image)).texture_contrast == pytest.approx(50, abs=0.1)


# Coordinates come rounded to a thousandth of a pixel; thinner rings are none to GEOS.
shares = integers(0, 1000).map(lambda thousandths: thousandths / 1000)


@settings(max_examples=60, deadline=None)
@given(
    width=integers(1, 40),
    height=integers(1, 40),
    x=shares,
    y=shares,
    box_width=shares,
    box_height=shares,
)
def test_any_region_can_be_measured_down_to_a_point_and_up_to_the_border(width, height, x, y, box_width, box_height):
    image = np.random.default_rng(width * 41 + height).integers(0, 256, (height, width, 3)).astype(np.uint8)
    left, top = x * width, y * height
    region = make_region(image, rectangle(left, top, box_width * (width - left), box_height * (height - top)))
    measurement = measure(image, region)
    assert measurement.length_px >= measurement.width_px >= 1
    assert np.isfinite([measurement.elongation, measurement.texture_contrast, *measurement.color_lab]).all()
    assert measurement.color_name in VOCABULARY
    assert pattern_of(cut_out(image, region)) in ("plain", "banded", "spotted")


def test_one_pixel_has_its_own_colour():
    image = flat((200, 30, 30), 30, 30)
    image[29, 29] = (30, 60, 160)
    region = make_region(image, rectangle(29, 29, 1, 1))
    assert color_family(measure(image, region).color_name) == "blue"
    assert color_family(measure(image, make_region(image, rectangle(29.1, 29.1, 0.2, 0.2))).color_name) == "blue"


@pytest.mark.parametrize("size", [48, 120, 400])
@pytest.mark.parametrize("repeats", [3, 5, 8])
@pytest.mark.parametrize("angle", [0.0, 0.5, 1.2, 2.4])
def test_bands_and_spots_are_told_apart_at_any_angle_and_scale(size, repeats, angle):
    banded = photographed(bands(size, angle, size / repeats), seed=2)
    spotted = photographed(spots(size, angle, size / repeats), seed=3)
    assert pattern_of(cut_out(banded, whole(banded))) == "banded"
    assert pattern_of(cut_out(spotted, whole(spotted))) == "spotted"


def test_bands_of_equal_lightness_are_seen_by_their_hue():
    image = bands(120, 0.3, 24, colors=((200, 60, 60), (20, 125, 60)))
    assert measure(image, whole(image)).texture_contrast < 3
    assert pattern_of(cut_out(image, whole(image))) == "banded"


@pytest.mark.parametrize("size", [5, 48, 400])
@pytest.mark.parametrize("color", [ORANGE, BLACK, (250, 250, 250)])
def test_an_even_surface_is_plain_in_spite_of_noise_and_shading(size, color):
    image = photographed(flat(color, size, size), seed=4)
    assert pattern_of(cut_out(image, whole(image))) == "plain"


@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_an_edge_or_a_single_stripe_is_no_pattern(angle):
    across, _ = turned(100, angle)
    edge = choose(across < across.mean(), ORANGE, BLACK)
    stripe = choose(np.abs(across - across.mean()) < 12, ORANGE, BLACK)
    assert pattern_of(cut_out(edge, whole(edge))) == "plain"
    assert pattern_of(cut_out(stripe, whole(stripe))) == "plain"


def test_a_pattern_outside_the_outline_is_not_seen():
    image = bands(200, 0.0, 20)
    image[60:140, 60:140] = ORANGE
    assert pattern_of(cut_out(image, make_region(image, rectangle(60, 60, 80, 80)))) == "plain"
