"""Features on disk: what was written comes back, and what is broken is noticed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import booleans, integers, lists, tuples
from safetensors import safe_open
from tiny_stores import features_of, info_of, write_store

from sae_traits.errors import StoreError
from sae_traits.features.store import FeatureStore
from sae_traits.io import whole_file, write_whole


def test_what_was_written_comes_back(tmp_path):
    store = write_store(tmp_path, [[3, 1], [2, 5, 4]])
    assert (store.n_images, store.n_patches, store.fingerprint) == (5, 15, "plan")
    assert store.info == info_of(4)
    first, second = store.shards()
    assert first.images.tolist() == [0, 1]
    assert second.images.tolist() == [2, 3, 4]
    features, patches = second.of(1)
    assert torch.equal(features, features_of(3, 5, 4))
    assert patches.tolist() == [0, 1, 2, 3, 4]
    assert (second.images.dtype, second.patches.dtype) == (np.int64, np.int32)
    assert store.patch_counts().tolist() == [3, 1, 2, 5, 4]
    assert store.count_shards() == 2
    assert [store.count_shards(rows) for rows in ([], [1], [1, 0], [4, 1])] == [0, 1, 1, 2]
    assert [len(list(store.shards(rows))) for rows in ([], [1], [1, 0], [4, 1])] == [0, 1, 1, 2]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 0), ("float16", 1e-3), ("bfloat16", 1e-2)])
def test_features_come_back_as_float32_whatever_is_stored(tmp_path, dtype, tolerance):
    store = write_store(tmp_path, [[3, 2]], dtype=dtype)
    with safe_open(tmp_path / "shard-00000.safetensors", framework="pt") as file:
        assert str(file.get_tensor("features").dtype) == f"torch.{dtype}"
        assert set(file.keys()) == {"features", "patches", "offsets", "images"}
    features, _ = store.shard(0).of(1)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, features_of(1, 2, 4), rtol=tolerance, atol=tolerance)


def test_a_folder_without_index_is_not_complete(tmp_path):
    write_store(tmp_path, [[1]])
    (tmp_path / "index.json").unlink()
    with pytest.raises(StoreError, match=r"index\.json does not exist, so the features are not complete"):
        FeatureStore.open(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "sae-traits features 1", "shards": 3}'])
def test_another_file_in_place_of_the_index_is_refused(tmp_path, content):
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(StoreError, match="is not an index of features"):
        FeatureStore.open(tmp_path)


def test_an_index_of_another_format_is_refused(tmp_path):
    write_store(tmp_path, [[1]])
    index = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps(index | {"format": "sae-traits features 99"}))
    with pytest.raises(StoreError, match="features 99"):
        FeatureStore.open(tmp_path)


def test_some_images_of_some_shards(tmp_path):
    store = write_store(tmp_path, [[3, 1], [2], [5, 4, 6]])
    first, second = store.shards([5, 0, 3])
    assert (first.images.tolist(), second.images.tolist()) == ([0], [3, 5])
    assert second.offsets.tolist() == [0, 5, 11]
    features, patches = second.of(1)
    assert torch.equal(features, features_of(5, 6, 4))
    assert patches.tolist() == [0, 1, 2, 3, 4, 5]


@given(shard=lists(tuples(integers(1, 5), booleans()), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_blocks_of_chosen_images_are_copied_in_the_precision_of_the_store(tmp_path_factory, shard):
    counts, chosen = [n for n, _ in shard], np.array([False, *(c for _, c in shard)])
    store = write_store(tmp_path_factory.mktemp("store"), [[2], counts], dtype="bfloat16")
    into = torch.zeros(50, 4, dtype=torch.bfloat16)
    parts = [features_of(i, n, 4) for i, (n, own) in enumerate(shard, start=1) if own]
    expected = torch.cat([*parts, torch.empty(0, 4)]).bfloat16()
    assert store.copy_features(1, chosen, into) == len(expected)
    assert torch.equal(into[: len(expected)], expected)
    assert not into[len(expected) :].any()


def test_a_changed_shard_is_found_when_it_is_read_first_and_named(tmp_path):
    write_store(tmp_path, [[3], [2]])
    store = FeatureStore.open(tmp_path)
    shard = tmp_path / "shard-00001.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    into = torch.empty(2, 4)
    for read in (lambda: list(store.shards()), lambda: store.copy_features(1, np.ones(2, dtype=bool), into)):
        with pytest.raises(
            StoreError, match=r"shard-00001\.safetensors has changed.*; delete it and run the extraction"
        ):
            read()
    content[-1] ^= 1
    shard.write_bytes(content)
    assert len(list(store.shards())) == 2


def test_checksums_are_compared_once_for_each_opened_store(tmp_path):
    store = write_store(tmp_path, [[3]])
    store.shard(0)
    shard = tmp_path / "shard-00000.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    store.shard(0)
    with pytest.raises(StoreError, match="has changed"):
        FeatureStore.open(tmp_path).shard(0)


def test_a_missing_and_a_truncated_shard_are_noticed(tmp_path):
    store = write_store(tmp_path, [[3], [2]])
    shard = tmp_path / "shard-00001.safetensors"
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    truncated = rf"shard-00001\.safetensors has {len(content) - 1} bytes, not {len(content)}; delete it and run the ext"
    with pytest.raises(StoreError, match=truncated):
        FeatureStore.open(tmp_path)
    with pytest.raises(StoreError, match=truncated):
        store.shard(1)
    with pytest.raises(StoreError, match=r"cannot read .*shard-00001"):
        store.patch_counts()
    shard.unlink()
    for read in (lambda: FeatureStore.open(tmp_path), lambda: store.shard(1)):
        with pytest.raises(StoreError, match=r"shard-00001\.safetensors is missing"):
            read()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    (tmp_path / f"a.bin.{os.getpid()}.partial").symlink_to("/dev/full")
    with pytest.raises(StoreError, match=r"the disk is full: .*a\.bin cannot be written; take a smaller one"):
        write_whole(tmp_path / "a.bin", bytes(3_000_000), on_full_disk="take a smaller one")
    assert list(tmp_path.iterdir()) == []
    write_whole(tmp_path / "a.bin", b"now it fits")
    assert (tmp_path / "a.bin").read_bytes() == b"now it fits"


def test_a_folder_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(StoreError, match=r"cannot write .*a\.bin: No such file"):
        write_whole(tmp_path / "nowhere" / "a.bin", b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_where_there_is_no_room_for_a_shard_the_advice_is_about_extraction(tmp_path):
    (tmp_path / f"shard-00000.safetensors.{os.getpid()}.partial").symlink_to("/dev/full")
    with pytest.raises(StoreError, match=r"cannot be written; free some space, or store half .* run the extraction ag"):
        write_store(tmp_path, [[100_000]])


def test_a_file_that_was_not_completed_is_not_there(tmp_path):
    def write_half():
        with whole_file(tmp_path / "a.bin", on_full_disk="") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert list(tmp_path.iterdir()) == []
