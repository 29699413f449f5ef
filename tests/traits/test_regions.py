import numpy as np
import pytest
import shapely
from grids import square_grid
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_traits.traits.regions import make_region, strongest_component

GRID = square_grid("squash", source=(300, 200), size=64, patch=16)  # 4 x 4 patches of 75 x 50 source pixels


def test_the_component_with_the_largest_summed_activation_wins_not_the_one_with_the_highest_peak():
    patches = np.array([0, 10, 11, 14], dtype=np.int32)
    values = np.array([5.0, 2.0, 2.0, 2.0], dtype=np.float32)
    chosen, chosen_values = strongest_component(patches, values, GRID)
    assert chosen.tolist() == [10, 11, 14]
    assert chosen_values.tolist() == [2.0, 2.0, 2.0]


def test_patches_that_touch_at_a_corner_are_one_component():
    chosen, _ = strongest_component(np.array([5, 0], np.int32), np.array([1.0, 2.0], np.float32), GRID)
    assert chosen.tolist() == [0, 5]


def test_a_region_by_hand():
    region = make_region([5, 6], GRID)
    assert region.box == (75.0, 50.0, 150.0, 50.0)
    assert len(region.polygons) == 1
    assert shapely.Polygon(np.reshape(region.polygons[0], (-1, 2))).area == pytest.approx(150 * 50)
    assert region.area_fraction == pytest.approx(2 / 16)


@pytest.mark.parametrize("framing", ["crop", "letterbox", "squash"])
@given(width=st.integers(100, 4000), height=st.integers(100, 4000))
@settings(max_examples=40, deadline=None)
def test_patches_side_by_side_are_one_polygon(framing, width, height):
    grid = square_grid(framing, source=(width, height), size=224, patch=14, resize=256 * (framing == "crop"))
    patches = [row * 16 + column for row in (7, 8, 9) for column in (7, 8, 9)]
    if set(patches) <= set(grid.valid.tolist()):
        assert len(make_region(patches, grid).polygons) == 1


def test_specks_are_passed_over_and_the_strongest_of_the_others_wins():
    patches, values = np.array([0, 10, 11, 14], np.int32), np.array([9.0, 2.0, 2.0, 2.0], np.float32)
    assert strongest_component(patches, values, GRID)[0].tolist() == [0]
    assert strongest_component(patches, values, GRID, min_patches=2)[0].tolist() == [10, 11, 14]
    assert strongest_component(patches, values, GRID, min_patches=3)[0].tolist() == [10, 11, 14]
    none, no_values = strongest_component(patches, values, GRID, min_patches=4)
    assert (len(none), len(no_values)) == (0, 0)


def test_where_a_patch_counts_for_more_decides_which_group_it_is_and_changes_none_of_its_values():
    patches, values = np.array([0, 10, 11, 14], np.int32), np.array([5.0, 2.0, 2.0, 2.0], np.float32)
    by_hand = {(0.9, 1.0): [10, 11, 14], (1.0, 0.8): [0], (1e-11, 1e-12): [0]}
    for (of_first, of_others), expected in by_hand.items():
        weights = np.array([of_first, *[of_others] * 3])
        chosen, chosen_values = strongest_component(patches, values, GRID, weights=weights)
        assert chosen.tolist() == expected
        assert chosen_values.tolist() == [{0: 5.0}.get(patch, 2.0) for patch in expected]


@pytest.mark.parametrize(
    ("patches", "margin", "box"),
    [
        ([5, 6], 0.1, (60.0, 35.0, 180.0, 80.0)),  # a tenth of 150 pixels on every side
        ([5, 6], 1.0, (0.0, 0.0, 300.0, 200.0)),  # no farther than the image
        ([0], 0.2, (0.0, 0.0, 90.0, 65.0)),
        ([15], 0.2, (210.0, 135.0, 90.0, 65.0)),
    ],
)
def test_a_margin_widens_the_box_within_the_image_and_leaves_the_outline(patches, margin, box):
    region, tight = make_region(patches, GRID, margin), make_region(patches, GRID)
    assert region.box == pytest.approx(box)
    assert (region.polygons, region.area_fraction) == (tight.polygons, tight.area_fraction)


@given(
    width=st.integers(15, 700),
    height=st.integers(15, 700),
    patches=st.sets(st.integers(0, 15), min_size=1),
    framing=st.sampled_from(["squash", "crop", "letterbox"]),
)
@settings(max_examples=80, deadline=None)
def test_a_region_is_exactly_its_patches_and_its_box_is_tight(width, height, patches, framing):
    grid = square_grid(framing, source=(width, height), size=64, patch=16, resize=70 if framing == "crop" else 0)
    patches = sorted(patches & set(grid.valid.tolist())) or [int(grid.valid[0])]
    region = make_region(patches, grid)
    outline = shapely.union_all([shapely.Polygon(np.reshape(ring, (-1, 2))) for ring in region.polygons])
    covered = shapely.union_all([shapely.box(x, y, x + w, y + h) for x, y, w, h in map(grid.box, patches)])
    filled = shapely.union_all([shapely.Polygon(part.exterior) for part in shapely.get_parts(covered)])
    assert shapely.symmetric_difference(outline, filled).area <= 1e-3 * (width + height)
    assert region.area_fraction == pytest.approx(covered.area / (width * height), rel=1e-6)
    x, y, w, h = region.box
    assert outline.bounds == pytest.approx((x, y, x + w, y + h), abs=2e-3)
    assert x >= 0
    assert y >= 0
    assert x + w <= width + 1e-6
    assert y + h <= height + 1e-6
