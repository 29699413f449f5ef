"""Images to features on disk: complete, resumable, and honest about what it cannot read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_collections import TinyBackbone, make_collection

from sae_traits.config.features import Texture
from sae_traits.errors import CollectionError, ConfigError, StoreError
from sae_traits.features.backbone import Backbone, load_backbone
from sae_traits.features.extract import extract
from sae_traits.features.source import SHARD_BYTES, plan_shards
from sae_traits.features.store import FeatureStore
from sae_traits.features.texture import texture_info
from sae_traits.sae.extractor import Extractor
from sae_traits.schema import Collection


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return make_collection(tmp_path_factory.mktemp("images"), 34)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return TinyBackbone()


def written(folder: Path) -> dict[str, tuple[int, bytes]]:
    """When each file was written, and what is in it."""
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(folder.iterdir())}


def test_the_store_holds_the_valid_patches_of_every_image(collection, backbone, tmp_path):
    store = extract(collection, backbone, tmp_path / "run" / "features", image_batch_size=7)
    assert (store.n_images, len(store.entries)) == (34, 3)
    assert store.info == backbone.info
    n_patches = 0
    for shard in store.shards():
        for i, row in enumerate(shard.images):
            with Image.open(collection.path(collection.images[row])) as image:
                expected, grid = Extractor(backbone)(image)
            features, patches = shard.of(i)
            assert torch.equal(features, expected)
            assert patches.tolist() == grid.valid.tolist()
            n_patches += len(patches)
    assert store.n_patches == n_patches < 34 * 16
    index = json.loads((store.folder / "index.json").read_text())
    assert index["n_patches"] == n_patches
    assert index["d_model"] == backbone.info.d_model
    assert sorted(p.name for p in store.folder.iterdir()) == ["index.json", *(e.file for e in store.entries)]


def test_forward_passes_end_where_shards_end(tmp_path):
    """Else a shard made by an extraction that resumes would be computed in other company, and not to the last bit."""
    backbone = TinyBackbone()
    extract(make_collection(tmp_path / "images", 34), backbone, tmp_path / "features", image_batch_size=7, workers=0)
    assert backbone.encoded == [7, 7, 2, 7, 7, 2, 2]


def test_a_complete_store_is_left_alone(collection, backbone, tmp_path):
    first = extract(collection, backbone, tmp_path, workers=0)
    before = written(tmp_path)
    assert extract(collection, backbone, tmp_path, workers=0) == first
    assert written(tmp_path) == before


def test_features_of_other_settings_or_images_are_replaced(collection, backbone, tmp_path, caplog):
    extract(collection, backbone, tmp_path, workers=0)
    squash = load_backbone(Texture())
    store = extract(collection, squash, tmp_path, storage_dtype="bfloat16", workers=0)
    assert "3 shards in" in caplog.text
    assert (store.info, store.storage_dtype, store.n_patches) == (squash.info, "bfloat16", 34 * 256)
    fewer = replace(collection, images=collection.images[:10])
    store = extract(fewer, squash, tmp_path, workers=0)
    assert store.n_images == 10
    assert [path.name for path in tmp_path.glob("shard-*")] == ["shard-00000.safetensors"]


def test_a_damaged_shard_is_made_again_and_only_it(collection, backbone, tmp_path):
    complete = extract(collection, backbone, tmp_path, workers=0)
    before = written(tmp_path)
    damaged = tmp_path / "shard-00001.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    again = extract(collection, backbone, tmp_path, workers=0)
    assert len(list(again.shards())) == 3  # which compares checksums
    assert again == complete
    after = written(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {"index.json", damaged.name}


_EXTRACT = """
import sys
from pathlib import Path
from sae_traits.config.features import Texture
from sae_traits.features.backbone import load_backbone
from sae_traits.features.extract import extract
from sae_traits.schema import Collection
if __name__ == "__main__":
    backbone = load_backbone(Texture())
    store = extract(Collection.load(Path(sys.argv[1])), backbone, Path(sys.argv[2]), workers=int(sys.argv[3]))
    sys.stdout.write(f"{store.n_patches}\\n")  # in one piece, beside another process
"""


def test_a_killed_extraction_goes_on_where_it_was(tmp_path):
    collection = make_collection(tmp_path / "images", 64)
    backbone = load_backbone(Texture())
    collection.save(tmp_path / "images.parquet")
    folder = tmp_path / "features"
    command = [sys.executable, "-c", _EXTRACT, str(tmp_path / "images.parquet"), str(folder), "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not (folder / "shard-00001.safetensors").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    shards = {name: state for name, state in written(folder).items() if name.endswith(".safetensors")}
    assert 2 <= len(shards) < 4
    with pytest.raises(StoreError, match="not complete"):
        FeatureStore.open(folder)

    resumed = extract(collection, backbone, folder)
    assert len(list(resumed.shards())) == 4  # which compares checksums
    after = written(folder)
    assert {name: after[name] for name in shards} == shards
    uninterrupted = extract(collection, backbone, tmp_path / "other")
    assert resumed.entries == uninterrupted.entries  # checksums included
    assert resumed.fingerprint == uninterrupted.fingerprint
    assert set(after) == set(written(tmp_path / "other"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_stops_it_with_a_message_and_it_goes_on_later(collection, backbone, tmp_path):
    complete = extract(collection, backbone, tmp_path / "complete", workers=0)
    folder = tmp_path / "features"
    extract(collection, backbone, folder, workers=0)
    (folder / "shard-00001.safetensors").unlink()
    (folder / f"index.json.{os.getpid()}.partial").symlink_to("/dev/full")
    with pytest.raises(StoreError, match=r"the disk is full: .*index\.json cannot be written"):
        extract(collection, backbone, folder, workers=0)
    assert sorted(p.name for p in folder.iterdir()) == [entry.file for entry in complete.entries]
    assert extract(collection, backbone, folder, workers=0).entries == complete.entries


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_read_any_more_is_named(tmp_path, backbone, workers):
    collection = make_collection(tmp_path / "images", 5)
    (tmp_path / "images" / "003.png").write_bytes(b"")
    with pytest.raises(CollectionError, match=r"003\.png cannot be read any more: .*empty") as caught:
        extract(collection, backbone, tmp_path / "features", workers=workers)
    assert "\n" not in str(caught.value)
    Image.new("RGB", (10, 10)).save(tmp_path / "images" / "003.png")
    with pytest.raises(CollectionError, match=r"003\.png has changed since the collection was read"):
        extract(collection, backbone, tmp_path / "features", workers=workers)
    assert list((tmp_path / "features").iterdir()) == []


def test_a_collection_without_images_is_refused(backbone, tmp_path):
    with pytest.raises(CollectionError, match="there are no images"):
        extract(Collection(tmp_path, ()), backbone, tmp_path / "features")


@pytest.mark.parametrize("n_images", [1, 16, 17, 832, 100_000])
def test_shards_are_neither_too_large_nor_too_few(n_images):
    info = texture_info()
    plans = plan_shards(n_images, info, "float32")
    assert [row for rows in plans for row in rows] == list(range(n_images))
    bytes_per_image = 256 * info.d_model * 4
    assert max(len(rows) for rows in plans) * bytes_per_image <= SHARD_BYTES
    assert len(plans) >= min(8, n_images / 16)
    if n_images == 100_000:
        assert len(plans[0]) * bytes_per_image > 0.9 * SHARD_BYTES


def test_processes_that_do_not_know_of_each_other_write_nothing(collection, backbone, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")  # what a launcher sets, and Accelerate without a GPU does not look at
    with pytest.raises(ConfigError, match="2 processes were launched, and each takes itself for the only one"):
        extract(collection, backbone, tmp_path / "features", workers=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_several_processes_share_the_work(tmp_path):
    collection = make_collection(tmp_path / "images", 70)
    collection.save(tmp_path / "images.parquet")
    (tmp_path / "script.py").write_text(_EXTRACT)
    # What `accelerate launch` starts on machines with GPUs; on a CPU it would ask for MPI.
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]

    def run(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*launch, "script.py", "images.parquet", "features", "0"],
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )

    refused = run(ACCELERATE_USE_CPU="false")
    assert "2 processes were launched, and each takes itself for the only one" in refused.stderr
    assert not (tmp_path / "features").exists()
    done = run(ACCELERATE_USE_CPU="true")
    assert done.returncode == 0, done.stderr
    backbone = load_backbone(Texture())
    alone = extract(collection, backbone, tmp_path / "alone")
    assert FeatureStore.open(tmp_path / "features").entries == alone.entries
    assert done.stdout.split() == [str(alone.n_patches)] * 2
