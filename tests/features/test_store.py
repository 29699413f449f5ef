"""Features on disk: what was written comes back, and what is broken is noticed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tiny_stores import features_of, info_of, write_store

from sae_traits.errors import StoreError
from sae_traits.features.store import FeatureStore, write_whole


def test_what_was_written_comes_back(tmp_path):
    store = write_store(tmp_path, [[3, 1], [2, 5, 4]])
    assert (store.n_specimens, store.n_patches, store.fingerprint) == (5, 15, "plan")
    assert store.info == info_of(4)
    first, second = store.shards()
    assert first.specimens.tolist() == [0, 1]
    assert second.specimens.tolist() == [2, 3, 4]
    features, patches = second.of(1)
    assert torch.equal(features, features_of(3, 5, 4))
    assert patches.tolist() == [0, 1, 2, 3, 4]
    assert (second.specimens.dtype, second.patches.dtype) == (np.int64, np.int32)
    specimens, counts = store.counts(1)
    assert (specimens.tolist(), counts.tolist()) == ([2, 3, 4], [2, 5, 4])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 0), ("float16", 1e-3), ("bfloat16", 1e-2)])
def test_features_come_back_as_float32_whatever_is_stored(tmp_path, dtype, tolerance):
    store = write_store(tmp_path, [[3, 2]], dtype=dtype)
    with safe_open(tmp_path / "shard-00000.safetensors", framework="pt") as file:
        assert str(file.get_tensor("features").dtype) == f"torch.{dtype}"
        assert set(file.keys()) == {"features", "patches", "offsets", "specimens"}
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


def test_a_missing_a_truncated_and_a_changed_shard_are_noticed(tmp_path):
    store = write_store(tmp_path, [[3], [2]])
    store.verify()
    shard = tmp_path / "shard-00001.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StoreError, match=r"shard-00001\.safetensors has changed since it was written"):
        FeatureStore.open(tmp_path).verify()
    shard.write_bytes(content[:-1])
    with pytest.raises(StoreError, match=rf"has {len(content) - 1} bytes, not {len(content)}"):
        FeatureStore.open(tmp_path)
    with pytest.raises(StoreError, match=r"cannot read .*shard-00001"):
        store.shard(1)
    shard.unlink()
    with pytest.raises(StoreError, match=r"shard-00001\.safetensors is missing"):
        FeatureStore.open(tmp_path)
    with pytest.raises(StoreError, match=r"cannot read .*shard-00001"):
        store.verify()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    (tmp_path / "a.bin.partial").symlink_to("/dev/full")
    with pytest.raises(StoreError, match=r"the disk is full: .*a\.bin needs 3 MB more; free some space"):
        write_whole(tmp_path / "a.bin", bytes(3_000_000))
    assert list(tmp_path.iterdir()) == []
    write_whole(tmp_path / "a.bin", b"now it fits")
    assert (tmp_path / "a.bin").read_bytes() == b"now it fits"


def test_a_folder_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(StoreError, match=r"cannot write .*a\.bin: No such file"):
        write_whole(tmp_path / "nowhere" / "a.bin", b"")
