"""On which part, and where on the animal, regions lie, by masks, boxes and keypoints."""

import numpy as np
import pytest
from grids import square_grid
from PIL import Image

from sae_traits.errors import CollectionError
from sae_traits.evaluation.part_files import Keypoint, PartFiles
from sae_traits.evaluation.part_truth import PartTruth, bounds, painted
from sae_traits.evaluation.parts import OFF_PART, UNKNOWN_PART
from sae_traits.schema import Collection, ImageRecord, Taxon

SIZE = (80, 40)
GRID = square_grid("squash", source=SIZE, size=64, patch=16)
"""4 x 4 patches of 20 x 10 pixels of the image."""


def truth(tmp_path, files=None, **values):
    record = ImageRecord(
        image_id="1", file="1.jpg", taxon=Taxon(species="Parus major"), split="test", width=SIZE[0], height=SIZE[1],
        sha256="", **values,
    )  # fmt: skip
    return PartTruth(Collection(tmp_path, (record,)), files).of(0, GRID)


def save_mask(path, box):
    Image.fromarray((painted([box], SIZE) * 255).astype(np.uint8)).save(path)
    return path


def test_an_image_of_which_nothing_is_known_has_no_truth(tmp_path):
    assert truth(tmp_path) is None
    assert not PartTruth(Collection(tmp_path, ())).is_known


def test_a_box_of_the_table_is_the_animal_and_the_frame_of_places(tmp_path):
    found = truth(tmp_path, animal_box=(20.0, 10.0, 40.0, 20.0))
    assert found.on_animal.reshape(4, 4).tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert found.place_of([5, 6, 9, 10]).tolist() == [0.5, 0.5]
    assert found.place_of([0]).tolist() == [-0.25, -0.25]
    assert found.part_of([5]) == UNKNOWN_PART
    assert not found.knows_parts


def test_places_in_images_of_several_animals_are_unknown(tmp_path):
    found = truth(tmp_path, PartFiles(boxes={0: [(0, 0, 20, 10), (40, 0, 20, 10)]}))
    assert found.on_animal[:4].tolist() == [1, 0, 1, 0]
    assert np.isnan(found.place_of([0])).all()


def test_a_region_lies_on_the_part_with_the_largest_share_of_it(tmp_path):
    masks = {
        "head": save_mask(tmp_path / "head.png", (0, 0, 20, 10)),
        "tail": save_mask(tmp_path / "tail.png", (20, 0, 8, 10)),
    }
    found = truth(tmp_path, PartFiles(part_masks={0: masks}))
    assert found.part_of([0]) == 0
    assert found.part_of([1]) == OFF_PART  # the tail has 0.4 of it, nothing 0.6
    assert found.part_of([0, 1]) == 0  # head 0.5, tail 0.2, nothing 0.3
    assert found.part_of([0, 1, 4, 5]) == OFF_PART  # head 0.25
    assert found.box == (0, 0, 28, 10)  # all parts together are the animal, where it has no mask
    assert found.on_animal[:3].tolist() == pytest.approx([1, 0.4, 0])


def test_a_marked_part_lies_where_the_centre_of_its_mask_or_its_point_is(tmp_path):
    masks = {
        "head": save_mask(tmp_path / "head.png", (0, 0, 20, 10)),
        "tail": save_mask(tmp_path / "tail.png", (40, 10, 40, 20)),
    }
    places = {part: place.tolist() for part, place in truth(tmp_path, PartFiles(part_masks={0: masks})).marked_parts}
    assert places == {0: pytest.approx([10 / 80, 5 / 30]), 1: pytest.approx([60 / 80, 20 / 30])}
    points = [Keypoint("eye", 10, 5), Keypoint("eye", 40, 20), Keypoint("tail", 70, 35)]
    marked = truth(tmp_path, PartFiles(keypoints={0: points})).marked_parts
    assert [(part, place.tolist()) for part, place in marked] == [(0, [0, 0]), (0, [0.5, 0.5]), (1, [1, 1])]
    assert truth(tmp_path, animal_box=(20.0, 10.0, 40.0, 20.0)).marked_parts == []


def test_a_region_lies_on_the_part_of_the_nearest_keypoint_if_that_is_near(tmp_path):
    points = [Keypoint("eye", 10, 5), Keypoint("tail", 70, 35)]
    found = truth(tmp_path, PartFiles(keypoints={0: points}))
    assert found.box == (10, 5, 60, 30)
    assert found.on_animal is None
    assert (found.part_of([0]), found.part_of([15])) == (0, 1)
    assert found.part_of([4]) == OFF_PART  # 10 pixels away, a tenth of the diagonal is 6.7
    assert found.place_of([0]).tolist() == [0, 0]


def test_the_tolerance_is_a_share_of_the_given_box(tmp_path):
    files = PartFiles(keypoints={0: [Keypoint("eye", 10, 5)]}, boxes={0: [(0, 0, 80, 40)]})
    assert truth(tmp_path, files).part_of([0]) == 0
    assert truth(tmp_path, files).part_of([1]) == OFF_PART  # 20 pixels away; a tenth of the diagonal is 8.9
    alone = truth(tmp_path, PartFiles(keypoints={0: [Keypoint("eye", 10, 5)]}))
    assert alone.part_of([0]) == UNKNOWN_PART  # one point has no size
    assert not alone.knows_parts


def test_a_mask_comes_before_a_box(tmp_path):
    save_mask(tmp_path / "mask.png", (0, 0, 20, 10))
    found = truth(tmp_path, mask_file="mask.png", animal_box=(0.0, 0.0, 40.0, 10.0))
    assert found.on_animal[:2].tolist() == [1, 0]
    assert found.box == (0, 0, 40, 10)


def test_a_mask_that_is_gone_is_named(tmp_path):
    with pytest.raises(CollectionError, match=r"mask .*mask\.png"):
        truth(tmp_path, mask_file="mask.png")


def test_bounds_are_those_of_what_is_painted():
    assert bounds(painted([(3, 4, 10, 5), (20, 2, 1, 1)], SIZE)) == (3, 2, 18, 7)
    assert bounds(np.zeros((3, 3), dtype=bool)) is None
    assert painted([(-5, -5, 10, 10)], SIZE).sum() == 25
