"""Plain ground is found by its even colour, whatever its shape, and an organism on it is none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.color import lab2rgb

from sae_traits.features.plain_ground import lies_on, plain_ground

SIDE = 512
RESIZED = 128
"""To so many pixels; a margin of four of them is left out."""
MARGIN = 4


def dish(organism=60, texture=30.0, grain=4.0, ground=(215, 212, 208), seed=0):
    """A textured disc in the middle of plain ground that grows darker outwards, with the grain of a sensor."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    distance = np.hypot(x, y)
    pixels = np.array(ground) - 30 * (distance / SIDE)[..., None] + generator.normal(0, grain, (SIDE, SIDE, 3))
    blocks = generator.normal((120, 90, 60), texture, (SIDE // 8, SIDE // 8, 3)).repeat(8, 0).repeat(8, 1)
    pixels[distance < organism] = blocks[distance < organism]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def test_the_ground_is_all_but_the_organism_and_a_margin_around_it():
    ground = plain_ground(dish())
    assert ground.shape == (RESIZED, RESIZED)
    y, x = np.mgrid[:RESIZED, :RESIZED] + 0.5 - RESIZED / 2
    distance = np.hypot(x, y) * SIDE / RESIZED
    margin = MARGIN * SIDE / RESIZED
    assert not ground[distance < 60 + 1.4 * margin].any(), (
        "the margin, and half of the window in which colours are compared"
    )
    assert ground[distance > 60 + 2.5 * margin].all(), "the photograph's own edges are no border"


@pytest.mark.parametrize("image", [dish(organism=SIDE), Image.effect_noise((300, 200), 60).convert("RGB")])
def test_a_photograph_full_of_texture_has_none(image):
    assert plain_ground(image) is None


@pytest.mark.parametrize(("share", "is_found"), [(0.16, False), (0.28, True)])
def test_a_small_plain_area_is_none(share, is_found):
    pixels = np.array(dish(organism=SIDE))
    pixels[: round(SIDE * share)] = 200
    assert (plain_ground(Image.fromarray(pixels)) is not None) is is_found


def test_of_several_plain_areas_each_large_one_is_ground():
    pixels = np.array(dish(organism=SIDE))
    pixels[: SIDE // 4], pixels[SIDE // 2 :], pixels[200:220] = 40, 220, 120
    ground = plain_ground(Image.fromarray(pixels))
    assert ground[: RESIZED // 4 - 2 * MARGIN].all()
    assert not ground[RESIZED // 4 : RESIZED // 2].any()
    assert ground[RESIZED // 2 + 2 * MARGIN :].all()


@pytest.mark.parametrize("n_turns", range(4))
def test_a_plain_area_that_goes_on_beyond_the_photograph_is_ground_whatever_it_surrounds(n_turns):
    pixels = np.array(dish(organism=SIDE))
    pixels[: SIDE // 2, SIDE // 8 : -SIDE // 8] = 200  # reaches one edge alone
    assert plain_ground(Image.fromarray(np.rot90(pixels, n_turns))) is not None


@pytest.mark.parametrize(("spot", "is_ground"), [(0, False), (20, False), (60, True)])
def test_a_plain_area_within_a_photograph_is_ground_only_if_it_surrounds_something(spot, is_ground):
    """An egg is none, nor a bird with an eye; a dish on which an organism lies is."""
    pixels = np.array(dish(organism=SIDE))
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    plain = (np.hypot(x, y) < 200) & (np.hypot(x, y) >= spot)
    pixels[plain] = 230
    assert (plain_ground(Image.fromarray(pixels)) is not None) is is_ground


def checks(one, other):
    """A board of two colours in CIELAB, a pixel of the resized photograph each."""
    odd = np.indices((RESIZED, RESIZED)).sum(axis=0) % 2 == 1
    return Image.fromarray((lab2rgb(np.where(odd[..., None], one, other)) * 255).round().astype(np.uint8))


@pytest.mark.parametrize(
    ("one", "other", "is_plain"),
    [
        ((57.9, 0, 0), (62.1, 0, 0), True),
        ((57.1, 0, 0), (62.9, 0, 0), False),
        ((60, 2.9, 0), (60, -2.9, 0), False),
        ((60, 0, 2.9), (60, 0, -2.9), False),
        ((57.7, 2.3, 0), (62.3, -2.3, 0), False),  # 3.3 in all
    ],
)
def test_colours_may_deviate_by_two_and_a_half_in_all(one, other, is_plain):
    assert (plain_ground(checks(one, other)) is not None) is is_plain


@pytest.mark.parametrize("size", [(1, 1), (3, 400), (400, 3), (60, 40)])
def test_photographs_of_any_size_have_a_ground_of_their_form(size):
    ground = plain_ground(Image.new("RGB", size, (200, 180, 160)))
    assert ground.all()
    assert ground.shape[0] / ground.shape[1] == pytest.approx(size[1] / size[0], rel=0.5, abs=0.02)


@given(st.integers(1, 900), st.integers(1, 900), st.data())
def test_a_place_is_looked_up_where_it_is_in_the_photograph(width, height, data):
    ground = np.zeros((4, 8), dtype=bool)
    ground[1, 6] = True
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    inside = 6 / 8 <= x / width < 7 / 8 and 1 / 4 <= y / height < 2 / 4
    assert lies_on(ground, np.array([[x, y]]), (width, height)).tolist() == [inside]


def test_without_ground_nothing_lies_on_it():
    assert lies_on(None, np.zeros((3, 2), dtype=np.intp), (10, 10)).tolist() == [False] * 3
