"""Keypoints, part masks and boxes are read, matched with the images, and what does not match is told."""

import json

import numpy as np
import pytest
from PIL import Image

from sae_traits.errors import CollectionError
from sae_traits.evaluation.part_files import Keypoint, part_of_name, read_part_files
from sae_traits.schema import Collection, ImageRecord, Taxon


def record(file):
    return ImageRecord(
        image_id=f"id-{file.replace('/', '-')}", file=file, taxon=Taxon(species="Parus major"), split="train",
        width=40, height=20, sha256="",
    )  # fmt: skip


@pytest.fixture
def collection(tmp_path):
    return Collection(tmp_path, tuple(map(record, ["a/1.jpg", "b/1.jpg", "b/2.png"])))


def write(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_keypoints_of_a_table_are_matched_by_the_end_of_a_path(collection, tmp_path):
    table = "image,part,x,y,visible\na/1,left eye,1,2,1\nb/1.jpg,right_eye,3,4,0\n2,tail,5.5,6,\n"
    files = read_part_files(collection, keypoints=write(tmp_path, "k.csv", table))
    assert files.keypoints == {0: [Keypoint("eye", 1, 2)], 2: [Keypoint("tail", 5.5, 6)]}
    assert files.parts == ("eye", "tail")
    assert files.problems == ()


def test_other_separators_and_names_of_columns_are_understood(collection, tmp_path):
    table = "File;Landmark;X;Y\nid-b-2.png;3;1,5;2\n"
    files = read_part_files(collection, keypoints=write(tmp_path, "k.csv", table))
    assert files.keypoints == {2: [Keypoint("3", 1.5, 2)]}


def test_images_and_boxes_may_be_called_as_in_a_table_of_images(collection, tmp_path):
    points = write(tmp_path, "k.csv", "path,part,x,y\na/1.jpg,eye,1,2\n")
    boxes = write(tmp_path, "b.csv", "file_name,bbox_x,bbox_y,bbox_w,bbox_h\na/1.jpg,1,2,3,4\n")
    files = read_part_files(collection, keypoints=points, boxes=boxes)
    assert (files.keypoints, files.boxes) == ({0: [Keypoint("eye", 1, 2)]}, {0: [(1, 2, 3, 4)]})


def test_columns_of_keypoints_and_boxes_that_are_not_read_are_told(collection, tmp_path, caplog):
    points = write(tmp_path, "k.csv", "image,part,x,y,visble,occluded\na/1,eye,1,2,0,1\n")
    boxes = write(tmp_path, "b.csv", "image,x,y,width,height,score\na/1,1,2,3,4,0.1\n")
    read_part_files(collection, keypoints=points, boxes=boxes)
    assert [record.getMessage() for record in caplog.records] == [
        "columns of k.csv that are not read: visble (did you mean visible?), occluded",
        "columns of b.csv that are not read: score",
    ]


def test_what_does_not_match_is_told_once_per_image(collection, tmp_path):
    table = "image,part,x,y\n1,eye,1,2\n1,tail,1,2\n9.jpg,eye,1,2\nb/2,eye,40.5,2\nb/2,eye,x,2\nb/2,eye,3,2\n"
    files = read_part_files(collection, keypoints=write(tmp_path, "k.csv", table))
    assert files.keypoints == {2: [Keypoint("eye", 3, 2)]}
    assert [(problem.file, problem.reason.split(";")[0]) for problem in files.problems] == [
        ("1", "several images of the collection are called so"),
        ("9.jpg", "no image of the collection"),
        ("b/2.png", "its eye at (40.5, 2) lies outside of the image and is left out"),
        ("b/2.png", "k.csv, row 5: 'x' is not a number"),
    ]


def test_a_file_that_belongs_to_no_image_is_refused_with_a_reason(collection, tmp_path):
    with pytest.raises(CollectionError, match=r"nothing in .*k.csv belongs to an image .*9: no image"):
        read_part_files(collection, keypoints=write(tmp_path, "k.csv", "image,part,x,y\n9,eye,1,2\n"))
    with pytest.raises(CollectionError, match="no column `part` and no column `y`; its columns are image, x"):
        read_part_files(collection, keypoints=write(tmp_path, "k.csv", "image,x\n9,eye\n"))


def coco(annotation):
    return json.dumps(
        {
            "images": [{"id": 7, "file_name": "b/2.png"}, {"id": 8, "file_name": "elsewhere.png"}],
            "annotations": [{"image_id": 7, "category_id": 1} | annotation, {"image_id": 8, "bbox": [0, 0, 1, 1]}],
            "categories": [{"id": 1, "keypoints": ["beak", "left_eye", "tail"]}],
        }
    )


def test_coco_keypoints_in_sight_are_taken(collection, tmp_path):
    path = write(tmp_path, "k.json", coco({"keypoints": [1, 2, 2, 3, 4, 1, 0, 0, 0]}))
    files = read_part_files(collection, keypoints=path)
    assert files.keypoints == {2: [Keypoint("beak", 1, 2)]}
    assert [problem.file for problem in files.problems] == ["elsewhere.png"]


def test_boxes_come_from_tables_and_coco(collection, tmp_path):
    table = "image,x,y,width,height\na/1,1,2,3,4\na/1,10,2,3,4\nb/2,50,2,3,4\nb/1,1,1,0,4\n"
    files = read_part_files(collection, boxes=write(tmp_path, "b.csv", table))
    assert files.boxes == {0: [(1, 2, 3, 4), (10, 2, 3, 4)]}
    assert [problem.file for problem in files.problems] == ["b/2.png", "b/1.jpg"]
    files = read_part_files(collection, boxes=write(tmp_path, "b.json", coco({"bbox": [1, 2, 3.5, 4]})))
    assert files.boxes == {2: [(1, 2, 3.5, 4)]}


def test_boxes_are_cut_to_their_images_and_corners_are_told(collection, tmp_path, caplog):
    table = "image,x,y,width,height\na/1,-2,2,30,20\na/1,30,15,38,19\nb/2,5,5,39,19\nb/1,0,0,40,20\n"
    files = read_part_files(collection, boxes=write(tmp_path, "b.csv", table))
    assert files.boxes == {0: [(0, 2, 28, 18)], 1: [(0, 0, 40, 20)]}
    assert [(problem.file, problem.reason) for problem in files.problems] == [
        ("a/1.jpg", "its box of 38 x 19 pixels at (30, 15) reaches out of its 40 x 20 pixels and is left out"),
        ("b/2.png", "its box of 39 x 19 pixels at (5, 5) reaches out of its 40 x 20 pixels and is left out"),
    ]
    assert "2 of 4 boxes reach out of their images" in caplog.text
    caplog.clear()
    files = read_part_files(collection, boxes=write(tmp_path, "b.json", coco({"bbox": [1, 2, 40.5, 4]})))
    assert files.boxes == {2: [(1, 2, 39, 4)]}
    assert caplog.text == ""


@pytest.mark.parametrize("text", ["{", "[]", '{"images": [{}], "annotations": []}', '{"images": 1}'])
def test_a_file_that_is_no_coco_is_refused(collection, tmp_path, text):
    with pytest.raises(CollectionError, match=r"k\.json"):
        read_part_files(collection, keypoints=write(tmp_path, "k.json", text))


def save_mask(path, size=(40, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((size[1], size[0]), dtype=np.uint8)).save(path)


def test_part_masks_lie_in_folders_of_images_or_of_parts(collection, tmp_path):
    folder = tmp_path / "masks"
    for file in ("a/1/head.png", "head/b/1.png", "tail/2.png"):
        save_mask(folder / file)
    files = read_part_files(collection, part_masks=folder)
    assert files.part_masks == {
        0: {"head": folder / "a/1/head.png"},
        1: {"head": folder / "head/b/1.png"},
        2: {"tail": folder / "tail/2.png"},
    }
    assert files.parts == ("head", "tail")


def test_part_masks_that_cannot_be_used_are_told(collection, tmp_path):
    folder = tmp_path / "masks"
    for file in ("head.png", "1/head.png", "9/head.png", "2/head.png"):
        save_mask(folder / file)
    save_mask(folder / "b/1/tail.png", size=(20, 40))
    (folder / "a/1").mkdir(parents=True)
    (folder / "a/1/tail.png").write_bytes(b"")
    files = read_part_files(collection, part_masks=folder)
    assert list(files.part_masks) == [2]
    assert sorted(problem.file for problem in files.problems) == ["1", "9", "a/1/tail.png", "b/1/tail.png", "head.png"]


@pytest.mark.parametrize(
    ("written", "part"),
    [("left_eye", "eye"), ("Right Wing", "wing"), ("eye left", "eye"), ("left", "left"), ("Crown", "crown")],
)
def test_sides_are_one_part(written, part):
    assert part_of_name(written) == part
