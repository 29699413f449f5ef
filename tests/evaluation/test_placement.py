from collections import Counter

import numpy as np
import pytest
import shapely
from grids import square_grid
from hypothesis import given, settings
from hypothesis.strategies import data, integers, lists

from sae_traits.errors import ConfigError
from sae_traits.evaluation.placement import OnMask, mean_over_placements, random_placement
from sae_traits.traits.regions import make_region, region_of_outlines, whole_image


def shape(patches, grid):
    rows, columns = np.divmod(np.asarray(patches), grid.columns)
    return [(int(r - rows.min()), int(c - columns.min())) for r, c in zip(rows, columns, strict=True)]


@given(data=data(), width=integers(30, 400), height=integers(30, 400), seed=integers(0, 1000))
def test_the_shape_is_kept_and_stays_on_the_image(data, width, height, seed):
    grid = square_grid("letterbox", source=(width, height), size=112, patch=14)
    chosen = data.draw(lists(integers(0, len(grid.valid) - 1), min_size=1, max_size=12, unique=True))
    patches = grid.valid[chosen]
    placed = random_placement(patches, grid, np.random.default_rng(seed))
    assert shape(placed, grid) == shape(patches, grid)
    assert np.isin(placed, grid.valid).all()


def test_every_place_is_equally_likely():
    grid = square_grid("squash", source=(40, 30), size=40, patch=10)
    rng = np.random.default_rng(0)
    # An L of three patches, 2 x 2, has 3 x 3 places on 4 x 4 patches.
    counts = Counter(tuple(random_placement([5, 9, 10], grid, rng).tolist()) for _ in range(1800))
    assert len(counts) == 9
    assert all(140 < count < 265 for count in counts.values())


def test_a_region_as_large_as_the_image_stays_where_it_is():
    grid = square_grid("squash", source=(40, 40), size=40, patch=10)
    everything = np.arange(16)
    assert np.array_equal(random_placement(everything, grid, np.random.default_rng(0)), everything)


@pytest.mark.parametrize("patches", [[0, 12], [20], [0, 16]])
def test_a_region_of_another_grid_is_refused(patches):
    # 40 x 10 pixels in a letterbox of 4 x 4 patches: only one or two rows are on the image.
    grid = square_grid("letterbox", source=(40, 10), size=40, patch=10)
    with pytest.raises(ConfigError, match="fits nowhere"):
        random_placement(patches, grid, np.random.default_rng(0))


def test_the_mean_over_placements_is_that_of_every_place_where_the_shape_fits():
    grid = square_grid("squash", source=(40, 40), size=40, patch=10)
    values = np.arange(16.0)
    assert mean_over_placements([3], values, grid) == 7.5
    assert mean_over_placements(np.arange(16), values, grid) == 7.5
    # Four in a row fit only where they begin at the left: every patch counts once. Two of three columns do not.
    assert mean_over_placements([4, 5, 6, 7], values, grid) == 7.5
    left_column = np.tile([1.0, 0.0, 0.0, 0.0], 4)
    assert mean_over_placements([0, 1, 2], left_column, grid) == 1 / 6


def test_the_mean_over_placements_leaves_out_padding():
    grid = square_grid("letterbox", source=(40, 10), size=40, patch=10)
    values = np.full(16, 5.0)
    values[grid.valid] = 1
    assert mean_over_placements(grid.valid[:1], values, grid) == 1


def right_angle(left, top, side):
    """A triangle with its right angle at the upper left, whose outline follows no patch."""
    ring = np.array([(left, top), (left + side, top), (left, top + side)], dtype=float)
    return region_of_outlines([ring], [0], (40, 30))


def test_the_share_on_a_mask_is_that_of_the_outlines_and_not_of_the_patches():
    grid = square_grid("squash", source=(40, 30), size=40, patch=10)
    mask = np.zeros((30, 40), dtype=bool)
    mask[:10, :10] = True
    on_mask = OnMask(mask, grid)
    assert on_mask.shares(make_region([0, 1], grid))[0] == 0.5
    assert on_mask.shares(right_angle(0, 0, 10))[0] == 1
    assert on_mask.shares(right_angle(0, 0, 20))[0] == pytest.approx(0.5, abs=0.03)
    assert on_mask.shares(right_angle(10, 10, 8))[0] == 0


@settings(max_examples=15, deadline=None)
@given(data=data(), left=integers(0, 20), top=integers(0, 10), side=integers(4, 20))
def test_the_mean_over_all_places_is_that_of_the_outline_at_each_of_them(data, left, top, side):
    mask = np.random.default_rng(data.draw(integers(0, 50))).random((30, 40)) < 0.3
    grid = square_grid("squash", source=(40, 30), size=40, patch=10)
    on_mask = OnMask(mask, grid)
    elsewhere = [on_mask.shares(right_angle(x, y, side))[0] for x in range(40 - side + 1) for y in range(30 - side + 1)]
    assert on_mask.shares(right_angle(left, top, side))[1] == pytest.approx(np.mean(elsewhere))


def test_no_place_lies_where_a_crop_does_not_reach():
    # 80 x 40 pixels, of which the middle 40 x 40 are seen; the animal lies outside.
    grid = square_grid("crop", source=(80, 40), size=40, patch=10, resize=40)
    mask = np.zeros((40, 80), dtype=bool)
    mask[:, :20] = True
    assert OnMask(mask, grid).shares(make_region([5], grid)) == (0, 0)
    assert OnMask(~mask, grid).shares(make_region([5], grid)) == (1, 1)
    assert OnMask(mask[:, ::-1], grid).shares(make_region([5], grid)) == (0, 0)


def test_a_thin_region_of_a_large_photograph_is_not_blurred():
    grid = square_grid("squash", source=(3000, 2000), size=40, patch=10)
    leg = np.array([(100, 100), (1500, 1300), (1530, 1300), (130, 100)], dtype=float)
    x, y = np.meshgrid(np.arange(3000) + 0.5, np.arange(2000) + 0.5)
    mask = shapely.contains_xy(shapely.Polygon(leg), x, y)
    share, elsewhere = OnMask(mask, grid).shares(region_of_outlines([leg], [0], (3000, 2000)))
    assert share == pytest.approx(1, abs=0.03)  # a mask knows a border to half a pixel
    assert elsewhere < 0.04
    everywhere = OnMask(mask, grid).shares(whole_image((3000, 2000)))
    assert everywhere[0] == everywhere[1], "there is no other place"


def test_a_mask_of_another_size_than_its_image_is_refused():
    grid = square_grid("squash", source=(40, 30), size=40, patch=10)
    with pytest.raises(ConfigError, match="the mask is 80 x 60 pixels, the image 40 x 30"):
        OnMask(np.ones((60, 80), dtype=bool), grid)
