"""Drawing regions: the lines show on any ground, lie where the region is, and leave the given image alone."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sae_traits.schema import Region
from sae_traits.traits.overlay import BLACK, ORANGE, WHITE, draw_region


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


@pytest.mark.parametrize("y", [0, 60, 95])
@pytest.mark.parametrize("label", ["latent 7", "a label that is much longer than the image is wide", "Ä\nö"])
def test_a_label_stays_inside_the_image(y, label):
    image = Image.new("RGB", (160, 100), (90, 140, 90))
    region = region_of(120, y, 40, 5)
    with_label, without = draw_region(image, region, label), draw_region(image, region)
    added = (np.asarray(with_label) != np.asarray(without)).any(axis=2)
    assert added.sum() > 100
    written = np.asarray(with_label)[added]
    assert written.min() == 0
    assert written.max() > 200
    assert with_label.size == image.size
