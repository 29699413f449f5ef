"""Regions of a table on drawn boxes: what random places give is counted, not drawn."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled_worlds import make_inputs
from PIL import Image

from sae_traits.errors import CollectionError, ConfigError
from sae_traits.evaluation.benchmarks.inputs import EmbeddedImages
from sae_traits.evaluation.benchmarks.located import holds_any, locate, share_inside
from sae_traits.evaluation.benchmarks.tasks import TASKS
from sae_traits.schema import Collection, ImageRecord, Taxon

NONE = EmbeddedImages(name="toy", images=np.empty((0, 0), np.float32))
WIDTH, HEIGHT = 40, 30


@pytest.fixture
def collection(tmp_path):
    """Twelve photographs that nobody opens."""
    return Collection(
        tmp_path,
        tuple(
            ImageRecord(
                image_id=str(n), individual_id="", file=f"{n}.png", taxon=Taxon(), split="test", width=WIDTH,
                height=HEIGHT, sha256="",
            )
            for n in range(12)
        ),
    )  # fmt: skip


def table(file, boxes):
    file.write_text("image,x,y,width,height\n" + "".join(f"{n},{','.join(map(str, box))}\n" for n, box in boxes))
    return file


def asked(**options):
    return make_inputs(n_classes=3, n_images=4, asked={"regions": "regions.csv", **options})


def run(located):
    task, inputs = TASKS["localisation"], replace(asked(), located=located)
    task.check(inputs)
    return task.run(inputs, NONE).result


def test_regions_on_the_organism_are_all_on_it_and_as_large_as_the_image_nowhere_else(collection, tmp_path):
    boxes = table(tmp_path / "boxes.csv", [(n, (10, 10, 10, 10)) for n in range(12)])
    on = table(tmp_path / "on.csv", [(n, (12, 12, 4, 4)) for n in range(12)])
    result = run(locate(collection, on, boxes=boxes))
    assert result.inside.value.mean == 1.0
    assert 0 < result.inside.elsewhere.mean < 0.15
    assert result.inside.gain.individuals.low > 0
    assert result.on_part is None
    whole = table(tmp_path / "whole.csv", [(n, (0, 0, WIDTH, HEIGHT)) for n in range(12)])
    result = run(locate(collection, whole, boxes=boxes))
    assert result.inside.value.mean == result.inside.elsewhere.mean == pytest.approx(100 / (WIDTH * HEIGHT))
    assert "no more on the organism" in TASKS["localisation"].notes(result)[0]


def test_regions_at_all_places_have_no_gain(collection, tmp_path):
    boxes = table(tmp_path / "boxes.csv", [(n, (5, 5, 15, 12)) for n in range(2)])
    places = [(n, (x, y, 16, 16)) for n in range(2) for x in range(WIDTH - 15) for y in range(HEIGHT - 15)]
    gain = run(locate(collection, table(tmp_path / "all.csv", places), boxes=boxes)).inside.gain.individuals
    assert gain.mean == pytest.approx(0, abs=1e-12)


def test_parts_with_masks_are_the_organism_and_keypoints_are_held_or_not(collection, tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, :20] = 255
    for n in range(12):
        (tmp_path / "masks" / str(n)).mkdir(parents=True)
        Image.fromarray(mask).save(tmp_path / "masks" / str(n) / "wing.png")
    keypoints = tmp_path / "points.csv"
    keypoints.write_text("image,part,x,y\n" + "".join(f"{n},eye,2,3\n" for n in range(6)) + "elsewhere,eye,1,1\n")
    regions = table(tmp_path / "regions.csv", [(n, (0, 0, 10, 10)) for n in range(6)] + [(7, (15, 0, 10, 10))])
    result = run(locate(collection, regions, part_masks=tmp_path / "masks", keypoints=keypoints))
    assert result.inside.value.mean == pytest.approx((6 + 0.5) / 7)
    assert result.on_part.n_regions == 6
    assert result.on_part.value.mean == 1.0
    assert result.on_part.elsewhere.mean < 0.1
    assert "1 entry of the files is of no image here" in TASKS["localisation"].notes(result)[0]


def test_a_keypoint_on_the_right_or_lower_edge_counts(collection, tmp_path):
    keypoints = tmp_path / "points.csv"
    edges = [(WIDTH, 3), (5, HEIGHT), (WIDTH, HEIGHT)]
    keypoints.write_text("image,part,x,y\n" + "".join(f"{n},tail,{x},{y}\n" for n, (x, y) in enumerate(edges)))
    regions = table(tmp_path / "regions.csv", [(0, (30, 0, 10, 10)), (1, (0, 20, 10, 10)), (2, (0, 0, 10, 10))])
    result = run(locate(collection, regions, keypoints=keypoints))
    assert result.on_part.n_regions == 3
    assert result.on_part.value.mean == pytest.approx(2 / 3)


def test_the_order_of_the_rows_of_a_table_changes_nothing(collection, tmp_path):
    generator = np.random.default_rng(1)
    rows = [(n, tuple(generator.integers(1, 20, size=4))) for n in range(12)]
    boxes = table(tmp_path / "boxes.csv", [(n, (5, 5, 15, 12)) for n in range(12)])
    one, other = (
        run(locate(collection, table(tmp_path / f"{step}.csv", rows[::step]), boxes=boxes)) for step in (1, -1)
    )
    assert one == other


@given(
    region=st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(1, 4), st.integers(1, 4)),
    seed=st.integers(0, 1000),
)
def test_the_mean_over_places_is_that_over_all_windows(region, seed):
    top, left, height, width = region
    marked = np.random.default_rng(seed).random((11, 12)) < 0.3
    windows = np.lib.stride_tricks.sliding_window_view(marked, (height, width))
    here, everywhere = share_inside(marked, region)
    assert here == pytest.approx(marked[top : top + height, left : left + width].mean())
    assert everywhere == pytest.approx(windows.mean())
    held, held_anywhere = holds_any(marked, region)
    assert held == marked[top : top + height, left : left + width].any()
    assert held_anywhere == pytest.approx(windows.any(axis=(2, 3)).mean())


def test_what_is_missing_is_said(collection, tmp_path):
    boxes = table(tmp_path / "boxes.csv", [(0, (5, 5, 5, 5))])
    regions = table(tmp_path / "regions.csv", [(1, (5, 5, 5, 5))])
    with pytest.raises(ConfigError, match="needs --boxes, --part-masks or --keypoints"):
        locate(collection, regions)
    with pytest.raises(CollectionError, match="no image has both a region"):
        locate(collection, regions, boxes=boxes)
    with pytest.raises(ConfigError, match="needs --regions"):
        TASKS["localisation"].check(make_inputs())
    with pytest.raises(ConfigError, match="no --embeddings"):
        TASKS["localisation"].check(asked(embeddings="e.npz"))
