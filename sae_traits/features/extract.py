"""Images -> patch features on disk, in batches, resumable at every shard, over any number of processes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sae_traits.errors import CollectionError, ConfigError, StoreError
from sae_traits.features.backbone import Backbone
from sae_traits.features.encoding import encoded_batches
from sae_traits.features.loading import batches_of
from sae_traits.features.patches import valid_patches
from sae_traits.features.store import (
    DTYPES,
    FORMAT,
    INDEX_FILE,
    DtypeName,
    FeatureShard,
    FeatureStore,
    ShardEntry,
    shard_fingerprint,
    write_index,
    write_shard,
)
from sae_traits.io import hash_of_file
from sae_traits.logging import say, track
from sae_traits.schema import BackboneInfo, Collection

SHARD_BYTES = 256 * 2**20
"""A shard is at most about this large."""
SHARDS_OF_A_SMALL_COLLECTION = 8
"""A small collection is cut into about this many shards all the same, so that it resumes too …"""
SPECIMENS_OF_A_SMALL_SHARD = 16
"""… but not into shards of fewer images than this."""


@dataclass(frozen=True)
class ShardPlan:
    """What one shard is going to hold."""

    file: str
    rows: range
    """Of the collection."""


def extract(
    collection: Collection,
    backbone: Backbone,
    folder: Path,
    *,
    dtype: DtypeName = "float32",
    image_batch_size: int = 16,
    workers: int = 2,
) -> FeatureStore:
    """Write the patch features of all images of a collection, and read back the index.

    A shard that is there already is kept if it is of the same plan (same images, backbone and settings); shards of
    another plan are replaced. Under `accelerate launch` the shards are dealt out over the processes, which must see the
    same folder.

    Args:
        collection: the images.
        backbone: where the features come from.
        folder: where they go.
        dtype: precision of the stored features.
        image_batch_size: images a forward pass.
        workers: processes that read and prepare images; 0 does it in this one.

    Raises:
        CollectionError: there are no images, or an image cannot be read any more.
        ConfigError: several processes were launched that do not know of each other.
        StoreError: the disk is full or the folder cannot be written; run it again to go on.
    """
    from accelerate import PartialState
    from accelerate.utils import gather_object, parse_flag_from_env

    if not collection.images:
        raise CollectionError(f"there are no images in {collection.root} to extract features from")
    plans = plan_shards(len(collection.images), backbone.info, dtype)
    settings = {
        "format": FORMAT,
        "backbone": backbone.info.to_dict(),
        "dtype": dtype,
        "starts": [plan.rows.start for plan in plans],
    }
    fingerprint = fingerprint_of(collection, settings)
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))  # unlike Accelerator, it does not look itself
    check_launch(state.num_processes)
    if state.is_main_process:
        _clear_others(folder, fingerprint)
    state.wait_for_everyone()
    if (folder / INDEX_FILE).is_file():
        return FeatureStore.open(folder)

    own = plans[state.process_index :: state.num_processes]
    kept = [plan for plan in own if (folder / plan.file).is_file()]
    pending = [plan for plan in own if plan not in kept]
    if kept:
        say(f"features: {len(kept)} of {len(own)} shards are there already")
    # Forward passes end where shards end, so that a shard is the same to the last bit in an extraction that resumes.
    row_batches = [rows for plan in pending for rows in batches_of(plan.rows, image_batch_size)]
    batches = encoded_batches(collection, backbone, row_batches, workers=workers if pending else 0)
    features = (own for batch in batches for own in batch.features.to("cpu", DTYPES[dtype]).split(batch.counts))
    progress = track(features, "features", total=sum(len(plan.rows) for plan in pending))
    for plan in pending:
        _write_shard(folder / plan.file, plan, progress, collection, backbone.info, dtype, fingerprint)
    assert next(progress, None) is None

    entries = gather_object([_entry(folder, plan, collection, backbone.info) for plan in own])
    if state.is_main_process:
        write_index(folder, backbone.info, fingerprint, dtype, sorted(entries, key=lambda e: e.first_image))
    state.wait_for_everyone()
    return FeatureStore.open(folder)


def check_launch(n_processes: int) -> None:
    """Raise a ConfigError where a launcher started more processes than Accelerate knows of.

    Each would take itself for the only one, and all would write the same files at the same time. It happens on machines
    without a GPU, where Accelerate has to be told to use the CPU.

    Args:
        n_processes: those that Accelerate knows of.
    """
    n_launched = int(os.environ.get("WORLD_SIZE", "1"))
    if n_launched > n_processes:
        raise ConfigError(
            f"{n_launched} processes were launched, and each takes itself for the only one; on a CPU set "
            "ACCELERATE_USE_CPU=true before torchrun"
        )


def plan_shards(n_images: int, info: BackboneInfo, dtype: DtypeName) -> list[ShardPlan]:
    """Consecutive images a shard: as many as fit into SHARD_BYTES, fewer in small collections."""
    bytes_per_image = info.rows * info.columns * info.d_model * DTYPES[dtype].itemsize
    fitting = max(1, SHARD_BYTES // bytes_per_image)
    few = max(SPECIMENS_OF_A_SMALL_SHARD, -(-n_images // SHARDS_OF_A_SMALL_COLLECTION))
    step = min(fitting, few)
    starts = range(0, n_images, step)
    return [
        ShardPlan(f"shard-{number:05d}.safetensors", range(start, min(start + step, n_images)))
        for number, start in enumerate(starts)
    ]


def fingerprint_of(collection: Collection, settings: dict[str, Any]) -> str:
    """A hash of everything that features depend on: settings, and the images' content and order."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for record in collection.images:
        digest.update(f"\n{record.image_id} {record.sha256}".encode())
    return digest.hexdigest()


def _clear_others(folder: Path, fingerprint: str) -> None:
    """Make the folder, and remove what is half-written or of another plan: the index first."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        index = folder / INDEX_FILE
        if index.is_file() and not _is_complete(folder, fingerprint):
            index.unlink()
        for partial in folder.glob("shard-*.safetensors.partial"):
            partial.unlink()
        others = [s for s in sorted(folder.glob("shard-*.safetensors")) if shard_fingerprint(s) != fingerprint]
        if others:
            say(f"features: {len(others)} shards in {folder} are of another extraction and are replaced")
        for shard in others:
            shard.unlink()
    except OSError as error:
        raise StoreError(f"cannot write into {folder}: {error.strerror}") from error


def _is_complete(folder: Path, fingerprint: str) -> bool:
    try:
        return FeatureStore.open(folder).fingerprint == fingerprint
    except StoreError:
        return False


def _write_shard(
    path: Path,
    plan: ShardPlan,
    features: Iterator[torch.Tensor],
    collection: Collection,
    info: BackboneInfo,
    dtype: DtypeName,
    fingerprint: str,
) -> None:
    """Take the features of the plan's images, which come next, and write them."""
    patches = [valid_patches(collection.images[row], info) for row in plan.rows]
    offsets = np.concatenate([[0], np.cumsum([len(valid) for valid in patches])]).astype(np.int64)
    stored = torch.empty(int(offsets[-1]), info.d_model, dtype=DTYPES[dtype])
    for start, end in pairwise(offsets):
        stored[start:end] = next(features)
    records = np.array(plan.rows, dtype=np.int64)
    write_shard(path, FeatureShard(records, offsets, np.concatenate(patches).astype(np.int32), stored), fingerprint)


def _entry(folder: Path, plan: ShardPlan, collection: Collection, info: BackboneInfo) -> ShardEntry:
    path = folder / plan.file
    return ShardEntry(
        file=plan.file,
        first_image=plan.rows.start,
        n_images=len(plan.rows),
        n_patches=sum(len(valid_patches(collection.images[row], info)) for row in plan.rows),
        bytes=path.stat().st_size,
        sha256=hash_of_file(path),
    )
