"""Drawing regions: the lines show on any ground, lie where the region is, and leave the given image alone."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from skimage.color import rgb2lab

from sae_traits.describers.colours import color_difference
from sae_traits.describers.overlay import BLACK, ORANGE, WHITE, draw_region
from sae_traits.schema import Region

# Machado, Oliveira and Fernandes 2009, severity 1.
PROTANOPIA = np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]])
DEUTERANOPIA = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
TRITANOPIA = np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]])


def region_of(x: float, y: float, width: float, height: float) -> Region:
    ring = (x, y, x + width, y, x + width, y + height, x, y + height)
    return Region(box=(x, y, width, height), polygons=(ring,), patches=(0,), area_fraction=0.1)


def has(image: Image.Image, color: tuple[int, int, int]) -> np.ndarray:
    return (np.asarray(image) == color).all(axis=2)


@pytest.mark.parametrize("size", [(64, 48), (300, 400), (1600, 1200)])
@pytest.mark.parametrize("ground", [BLACK, WHITE, ORANGE, (128, 128, 128)])
def test_the_outline_shows_on_any_ground_and_lies_on_the_region(size, ground):
    image = Image.new("RGB", size, ground)
    x, y, width, height = (side * share for side, share in zip(size * 2, (0.25, 0.25, 0.5, 0.5), strict=True))
    drawn = draw_region(image, region_of(x, y, width, height))
    changed = (np.asarray(drawn) != np.asarray(image)).any(axis=2)
    margin = max(size) / 300 * 4 + 2
    rows, columns = np.nonzero(changed)
    assert columns.min() == pytest.approx(x, abs=margin)
    assert columns.max() == pytest.approx(x + width, abs=margin)
    assert rows.min() == pytest.approx(y, abs=margin)
    assert not changed[round(y + height / 2), round(x + width / 2)]
    assert has(image, ground).all()


def test_a_region_on_the_border_is_outlined_on_all_four_sides():
    drawn = draw_region(Image.new("RGB", (200, 100), WHITE), region_of(0, 0, 200, 100))
    orange = has(drawn, ORANGE)
    assert orange[0, 100] or orange[1, 100]
    assert orange[-1, 100] or orange[-2, 100]
    assert orange[50, 0] or orange[50, 1]
    assert orange[50, -1] or orange[50, -2]


@pytest.mark.parametrize(("side", "line"), [(64, 1), (150, 1), (300, 2), (512, 4), (4000, 26)])
def test_the_outline_is_as_wide_for_its_image_at_every_size_and_leaves_a_patch_of_sixteen_to_be_seen(side, line):
    patch = side / 16
    drawn = draw_region(Image.new("RGB", (side, side), (90, 140, 90)), region_of(5 * patch, 5 * patch, patch, patch))
    across = has(drawn, ORANGE)[round(5.5 * patch)]
    assert across.sum() == 2 * line
    assert has(drawn, (90, 140, 90))[round(5.5 * patch), round(5.5 * patch)]


@pytest.mark.parametrize("matrix", [PROTANOPIA, DEUTERANOPIA, TRITANOPIA])
@pytest.mark.parametrize(
    "ground", [(200, 30, 30), (30, 150, 50), (40, 60, 200), (230, 159, 0), (0, 0, 0), (255, 255, 255)]
)
def test_to_colour_blind_eyes_the_outline_differs_from_any_ground_by_one_of_its_two_colours(matrix, ground):
    seen = {color: rgb2lab(simulated(color, matrix)) for color in (ORANGE, BLACK, ground)}
    differences = [color_difference(tuple(seen[color]), tuple(seen[ground])) for color in (ORANGE, BLACK)]
    assert max(differences) > 30
    assert color_difference(tuple(seen[ORANGE]), tuple(seen[BLACK])) > 50


def simulated(color, matrix):
    """How a colour looks to a dichromat, in linear light."""
    linear = (np.array(color) / 255) ** 2.2
    return (np.clip(matrix @ linear, 0, 1) ** (1 / 2.2) * 255).round().astype(np.uint8)
