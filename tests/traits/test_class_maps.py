import numpy as np
import pyarrow.parquet as pq
import pytest
from features.tiny_collections import make_collection

from sae_traits.config.regions import GradCAMRegions, WholeImage
from sae_traits.errors import BackboneError, StoreError
from sae_traits.features.gradcam import ClassMap
from sae_traits.geometry import Framing
from sae_traits.schema import BackboneInfo
from sae_traits.traits.class_maps import write_class_maps
from sae_traits.traits.plan import plan_regions

INFO = BackboneInfo(
    backbone="painted", revision="1", layer=0, d_model=4, rows=4, columns=4, patch=8.0,
    framing=Framing(mode="letterbox", size=(32, 32)), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
)  # fmt: skip


class Painted:
    """A classifier that sees its class where it is told to: image -> patch -> value."""

    info = INFO

    def __init__(self, *maps):
        self.maps = list(maps)
        self.batches = []

    def prepare(self, image):
        import torch

        return torch.zeros(1)

    def __call__(self, batch):
        self.batches.append(len(batch))
        return [self._map(self.maps.pop(0)) for _ in batch]

    def _map(self, painted):
        values = np.zeros(16, np.float32)
        values[list(painted)] = list(painted.values())
        return ClassMap(7, "moth", values)


@pytest.fixture
def collection(tmp_path):
    """Photographs of 90 x 60, 64 x 64 and 50 x 120 pixels: the first has no image in its last row of patches."""
    return make_collection(tmp_path / "photographs", 3)


def regions(collection, tmp_path, *maps):
    """The candidates of each image that has some, by its row."""
    file = tmp_path / "maps.parquet"
    write_class_maps(collection, Painted(*maps), file, image_batch_size=2, workers=0)
    return {candidate.image: (candidate, region) for _, ((candidate, region),) in candidates_of(collection, file)}


def candidates_of(collection, file):
    return list(plan_regions(GradCAMRegions(), collection, INFO, class_maps=file).candidates())


def test_the_region_is_the_strongest_connected_group_of_patches_above_the_share(collection, tmp_path):
    # Patches 0 and 5 touch at a corner and have 3.0 together; 3, 7 and 11 are a weaker group; 12 is too weak.
    found = regions(collection, tmp_path, {4: 1.0}, {0: 2.0, 5: 1.0, 3: 0.7, 7: 0.7, 11: 0.7, 12: 0.29}, {5: 3.0})
    candidate, region = found[1]
    assert candidate.patches == (0, 5)
    assert candidate.peak == 2.0
    assert region.box == (0.0, 0.0, 32.0, 32.0)  # of a photograph of 64 x 64, twice as large as the model's input
    assert found[0][0].patches == (4,)


@pytest.mark.parametrize(("value", "patches"), [(0.16, (0, 1)), (0.14, (0,))])
def test_patches_below_fifteen_hundredths_of_the_maximum_are_left_out(value, patches, collection, tmp_path):
    assert regions(collection, tmp_path, {4: 1.0}, {0: 1.0, 1: value}, {5: 1.0})[1][0].patches == patches


def test_there_is_no_latent_and_no_contrast(collection, tmp_path):
    candidate, _ = regions(collection, tmp_path, {4: 1.0}, {0: 1.0}, {5: 1.0})[2]
    assert (candidate.latent, candidate.contrast, candidate.effect, candidate.significant) == (None, None, 0.0, False)
    assert (candidate.region_source, candidate.name) == ("gradcam", "gradcam")
    plan = plan_regions(GradCAMRegions(), collection, INFO, class_maps=tmp_path / "maps.parquet")
    assert (len(plan.chosen), plan.species_without_latents) == (0, ())


def test_padding_neither_makes_a_region_nor_counts_as_the_maximum(collection, tmp_path):
    found = regions(collection, tmp_path, {15: 100.0, 4: 1.0}, {0: 1.0}, {5: 1.0})
    assert found[0][0].patches == (4,)


def test_specks_and_margins_are_those_of_latents(collection, tmp_path):
    regions(collection, tmp_path, {4: 1.0}, {0: 2.0, 10: 0.9, 11: 0.9}, {5: 1.0})
    options = GradCAMRegions(min_patches=2, box_margin=0.5)
    plan = plan_regions(options, collection, INFO, class_maps=tmp_path / "maps.parquet")
    ((record, ((candidate, region),)),) = plan.candidates()
    assert (record.image_id, candidate.patches, candidate.peak) == ("001", (10, 11), pytest.approx(0.9))
    assert region.box == (16.0, 16.0, 48.0, 48.0)  # 32 x 16 pixels and 16 more around, of a photograph of 64 x 64


def test_an_image_whose_map_is_zero_has_no_region_and_is_counted(collection, tmp_path):
    painted = Painted({4: 1.0}, {}, {5: 1.0})
    counts = write_class_maps(collection, painted, tmp_path / "maps.parquet", image_batch_size=2, workers=0)
    assert counts == {"n_maps": 2, "n_empty_maps": 1}
    assert painted.batches == [2, 1]
    found = candidates_of(collection, tmp_path / "maps.parquet")
    assert [record.image_id for record, _ in found] == ["000", "002"]
    assert pq.read_table(tmp_path / "maps.parquet")["class_name"].to_pylist() == ["moth"] * 3


def test_a_classifier_that_sees_nothing_anywhere_is_refused_and_leaves_no_file(collection, tmp_path):
    with pytest.raises(BackboneError, match=r"zero everywhere.*earlier --layer"):
        write_class_maps(collection, Painted({}, {}, {}), tmp_path / "m.parquet", image_batch_size=2, workers=0)
    assert not list(tmp_path.glob("m.*"))
    with pytest.raises(StoreError, match="--regions gradcam"):
        candidates_of(collection, tmp_path / "m.parquet")


def test_the_whole_image_is_one_region_of_all_its_patches(collection):
    found = list(plan_regions(WholeImage(), collection, INFO).candidates())
    assert [record for record, _ in found] == list(collection.images)
    for row, (record, ((candidate, region),)) in enumerate(found):
        assert candidate.image == row
        assert candidate.name == "whole"
        assert candidate.peak is None
        assert candidate.patches == region.patches == tuple(INFO.grid((record.width, record.height)).valid)
    assert found[1][1][0][1].box == (0.0, 0.0, 64.0, 64.0)
