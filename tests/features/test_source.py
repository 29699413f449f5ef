"""Features straight from images are those of a store, and computed only where they are asked for."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny_collections import TinyBackbone, make_collection

from sae_traits.config.features import FeaturesConfig
from sae_traits.errors import CollectionError, StoreError
from sae_traits.features.extract import extract
from sae_traits.features.source import FeatureSource, ImageSource, open_features
from sae_traits.features.stream import moments


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    return make_collection(tmp_path_factory.mktemp("images"), 34)


def test_images_and_a_store_of_them_give_the_same(collection, tmp_path):
    images: FeatureSource = ImageSource(collection, TinyBackbone(), image_batch_size=5, workers=0)
    store: FeatureSource = extract(collection, TinyBackbone(), tmp_path, workers=0)
    assert images.info == store.info
    assert images.n_images == store.n_images == 34
    assert images.count_shards() == store.count_shards() == len(list(store.shards())) == 3
    assert images.patch_counts().tolist() == store.patch_counts().tolist()
    assert set(images.patch_counts()) == {8, 16}
    assert images.fingerprint != store.fingerprint
    for own, stored in zip(images.shards(), store.shards(), strict=True):
        assert own.images.tolist() == stored.images.tolist()
        assert own.offsets.tolist() == stored.offsets.tolist()
        assert own.patches.tolist() == stored.patches.tolist()
        assert own.patches.dtype == stored.patches.dtype
        assert torch.equal(own.features, stored.features)


def test_only_the_chosen_images_are_read(collection):
    backbone = TinyBackbone()
    rows = [30, 2, 3, 17]
    source = ImageSource(collection, backbone, image_batch_size=3, workers=1)
    shards = list(source.shards(rows))
    assert backbone.encoded == [2, 2]
    assert [shard.images.tolist() for shard in shards] == [[2, 3], [17, 30]]
    whole = list(ImageSource(collection, TinyBackbone(), workers=0).shards())
    assert [shard.images.tolist() for shard in whole] == [list(unit) for unit in source.units]
    for some, of_unit in zip(shards, whole[:2], strict=True):
        for i, row in enumerate(some.images):
            assert torch.equal(some.of(i)[0], of_unit.of(int(row) - int(of_unit.images[0]))[0])
    assert list(ImageSource(collection, backbone).shards([])) == []


def test_the_fingerprint_is_of_the_images_and_the_backbone(tmp_path):
    ten, other = make_collection(tmp_path / "a", 10), make_collection(tmp_path / "b", 10, seed=1)
    assert ImageSource(ten, TinyBackbone()).fingerprint == ImageSource(ten, TinyBackbone(), workers=0).fingerprint
    assert ImageSource(ten, TinyBackbone()).fingerprint != ImageSource(other, TinyBackbone()).fingerprint


def test_an_image_that_has_changed_is_named(tmp_path):
    collection = make_collection(tmp_path, 4)
    (tmp_path / "002.png").write_bytes((tmp_path / "001.png").read_bytes())
    with pytest.raises(CollectionError, match=r"002\.png has changed since"):
        list(ImageSource(collection, TinyBackbone(), workers=0).shards())


def test_moments_of_a_sample_say_how_many_images_they_are_of(collection):
    backbone = TinyBackbone()
    source = ImageSource(collection, backbone, workers=0)
    rows = np.arange(4, 34)
    sample = moments(source, rows, max_images=6)
    assert sum(backbone.encoded) == sample.n_images == 6
    assert moments(source, rows, max_images=6).mean.tolist() == sample.mean.tolist()
    whole = moments(source, rows, max_images=100)
    assert whole.n_images == 30
    features = torch.cat([shard.features for shard in source.shards(rows)]).double()
    torch.testing.assert_close(whole.mean, features.mean(0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(sample.mean[:3], whole.mean[:3], rtol=0.05, atol=0)


def test_reading_images_leaves_the_random_state_alone(collection):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(ImageSource(collection, TinyBackbone(), workers=1).shards([0, 1]))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_shard_of_images_holds_consecutive_rows_of_those_asked_for(collection):
    shards = list(ImageSource(collection, TinyBackbone(), workers=0).shards(range(0, 34, 2)))
    assert [len(shard.images) for shard in shards] == [8, 8, 1]
    rows = [row for shard in shards for row in shard.images]
    assert all(a < b for a, b in pairwise(rows))


def test_extracted_features_are_opened_without_a_backbone_and_streamed_ones_with_it(collection, tmp_path):
    def no_backbone():
        raise AssertionError("weights were loaded for features that are on disk")

    with pytest.raises(StoreError, match="not complete"):
        open_features(collection, tmp_path, no_backbone, FeaturesConfig())
    extracted = extract(collection, TinyBackbone(), tmp_path, workers=0)
    store = open_features(collection, tmp_path, no_backbone, FeaturesConfig())
    assert (store, store.is_computed) == (extracted, False)

    backbone = TinyBackbone()
    config = FeaturesConfig(stream=True, storage_dtype="float16", image_batch_size=3, workers=0)
    streamed = open_features(collection, tmp_path, lambda: backbone, config)
    assert (streamed.is_computed, streamed.parts([0]).dtype) == (True, torch.float16)
    list(streamed.shards([0, 1, 2, 3]))
    assert backbone.encoded == [3, 1]
