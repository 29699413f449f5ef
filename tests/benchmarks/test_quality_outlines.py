"""The measures of outlines, on masks whose scores are known."""

# pyright: reportMissingImports=false

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # benchmarks are scripts, not a package

from quality_outlines import WAYS, Outlined, animal_scores, border, part_scores

from sae_traits.schema import ImageRecord, Taxon

RECORD = ImageRecord(
    image_id="a", file="a.png", taxon=Taxon(), split="test", width=100, height=80, sha256="a"
)  # fmt: skip


def square(left, top, right, bottom):
    mask = np.zeros((80, 100), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def test_a_region_is_compared_with_the_part_that_most_of_it_lies_on():
    labels = (square(20, 20, 60, 60) * 2 + square(60, 20, 90, 60) * 1).astype(np.uint8)
    region = Outlined(RECORD, {"patches": square(40, 30, 70, 50), "image": square(20, 20, 60, 60)})
    part, scores = part_scores(region, labels, 3) or (None, {})
    assert part == 2
    assert scores["image"] == [1, 1, 1]
    assert scores["patches"] == pytest.approx([400 / (600 + 1600 - 400), 400 / 600, 400 / 1600])
    assert part_scores(Outlined(RECORD, {"patches": square(0, 0, 10, 10)}), labels, 3) is None


def test_an_outline_along_the_border_scores_higher_than_one_across_it():
    animal = square(0, 0, 50, 80)
    across, along = square(30, 20, 66, 50), square(30, 20, 50, 50)
    scores = animal_scores(Outlined(RECORD, {"patches": across, "image": along}), animal)
    assert scores["image"][0] == 1
    assert scores["patches"][0] == pytest.approx(20 / 36)
    assert scores["image"][1] == pytest.approx(20 / 36)
    assert scores["image"][2:] == [1, 1]
    assert max(scores["patches"][2:]) < 0.6
    inside = animal_scores(Outlined(RECORD, {"patches": square(5, 5, 20, 20)}), animal)
    assert np.isnan(inside["patches"][2:]).all()


@pytest.mark.parametrize("name", WAYS)
def test_every_way_finds_a_square_of_another_colour(name):
    rows, columns = np.mgrid[:60, :60]
    inside = (abs(rows - 29.5) < 12) & (abs(columns - 29.5) < 12)
    part = (abs(rows - 29.5) < 16) & (abs(columns - 29.5) < 16)
    lab = np.where(part[..., None], [40.0, -30.0, 20.0], [80.0, 5.0, 5.0])
    lab += np.random.default_rng(0).normal(0, 0.5, lab.shape)
    signed = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    mask = WAYS[name](lab, signed / 12)
    iou = (mask & part).sum() / (mask | part).sum()
    assert iou > (0.5 if name in ("patches", "superpixels") else 0.85)
    assert not border(np.ones((4, 4), dtype=bool)).any()
