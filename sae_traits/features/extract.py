"""Images -> patch features on disk, in batches, resumable at every shard, over any number of processes."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from sae_traits.errors import CollectionError, ConfigError, StoreError
from sae_traits.features.backbone import Backbone, patch_counts
from sae_traits.features.loading import EncodedBatch, batches_of, encoded_batches
from sae_traits.features.source import empty_shard, fingerprint_of, plan_shards, threads_of
from sae_traits.features.store import (
    DTYPES,
    FORMAT,
    INDEX_FILE,
    FeatureShard,
    FeatureStore,
    ShardEntry,
    shard_fingerprint,
    write_index,
    write_shard,
)
from sae_traits.io import hash_of_file
from sae_traits.logging import say, track, warn
from sae_traits.schema import BackboneInfo, Collection, Dtype


def extract(
    collection: Collection,
    backbone: Backbone,
    folder: Path,
    *,
    storage_dtype: Dtype = "float32",
    image_batch_size: int = 16,
    workers: int = 2,
    deterministic: bool = False,
) -> FeatureStore:
    """Write the patch features of all images of a collection, and read back the index.

    A shard that is there already is kept if it is of the same plan (same images, backbone and settings); shards of
    another plan are replaced. Under `accelerate launch` the shards are dealt out over the processes, which must see the
    same folder.

    Args:
        collection, backbone, folder: the images, where their features come from, and where they go.
        storage_dtype: in which the features are kept.
        image_batch_size: images per forward pass.
        workers: processes that read and prepare images; 0 does it in this one.
        deterministic: whether one thread computes them; shards that others computed are not kept then.

    Raises:
        CollectionError: there are no images, or an image cannot be read any more.
        ConfigError: several processes were launched that do not know of each other.
        StoreError: the disk is full or the folder cannot be written; run it again to go on.
    """
    from accelerate import PartialState
    from accelerate.utils import gather_object, parse_flag_from_env

    if not collection.images:
        raise CollectionError(f"there are no images in {collection.root} to extract features from")
    plans = plan_shards(len(collection.images), backbone.info, storage_dtype)
    settings = {"format": FORMAT, "backbone": backbone.info.to_dict(), "dtype": storage_dtype}
    settings |= threads_of(deterministic)
    fingerprint = fingerprint_of(collection, settings | {"starts": [rows.start for rows in plans]})
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))  # unlike Accelerator, it does not look itself
    check_launch(state.num_processes)
    if state.is_main_process:
        expected = FeatureStore(folder, backbone.info, fingerprint, storage_dtype, ())
        _clear_others(
            expected, [_without_content(number, rows, collection, backbone.info) for number, rows in enumerate(plans)]
        )
    state.wait_for_everyone()
    if (folder / INDEX_FILE).is_file():
        return FeatureStore.open(folder)

    assigned = list(enumerate(plans))[state.process_index :: state.num_processes]
    pending = {number: rows for number, rows in assigned if not _shard_file(folder, number).is_file()}
    if n_kept := len(assigned) - len(pending):
        say(f"features: {n_kept} of {len(assigned)} shards are there already")
    # Forward passes end where shards end, so that a shard is the same to the last bit in an extraction that resumes.
    row_batches = [batch for rows in pending.values() for batch in batches_of(rows, image_batch_size)]
    batches = encoded_batches(collection, backbone, row_batches, workers=workers)
    for number, shard in _filled_shards(collection, backbone.info, pending, batches, storage_dtype):
        write_shard(_shard_file(folder, number), shard, fingerprint)

    entries = gather_object([_entry(folder, number, rows, collection, backbone.info) for number, rows in assigned])
    if state.is_main_process:
        entries.sort(key=lambda entry: entry.first_image)
        write_index(folder, backbone.info, fingerprint, storage_dtype, entries)
    state.wait_for_everyone()
    return FeatureStore.open(folder)


def _filled_shards(
    collection: Collection,
    info: BackboneInfo,
    pending: Mapping[int, range],
    batches: Iterator[EncodedBatch],
    storage_dtype: Dtype,
) -> Iterator[tuple[int, FeatureShard]]:
    """Yield the numbers and the contents of the shards that are still missing, of the batches of their images."""
    stored = ((batch.features.to("cpu", DTYPES[storage_dtype]), batch.counts) for batch in batches)
    of_images = (of_image for features, counts in stored for of_image in features.split(counts))
    progress = track(of_images, "features", total=sum(map(len, pending.values())))
    for number, rows in pending.items():
        shard = empty_shard(collection, info, rows, storage_dtype)
        for start, end in pairwise(shard.offsets):
            shard.features[start:end] = next(progress)
        yield number, shard
    assert next(progress, None) is None


def check_launch(n_processes: int) -> None:
    """Raise a ConfigError where a launcher started more processes than those that Accelerate knows of.

    Each would take itself for the only one, and all would write the same files at the same time. It happens on machines
    without a GPU, where Accelerate has to be told to use the CPU.
    """
    n_launched = int(os.environ.get("WORLD_SIZE", "1"))
    if n_launched > n_processes:
        raise ConfigError(
            f"{n_launched} processes were launched, and each takes itself for the only one; on a CPU set "
            "ACCELERATE_USE_CPU=true before torchrun"
        )


def _clear_others(expected: FeatureStore, entries: list[ShardEntry]) -> None:
    """Make the folder, and remove what is half-written, damaged or of another plan: the index first.

    Args:
        expected: what the folder is to hold.
        entries: its shards, without the size and hash that they will have.
    """
    folder, fingerprint = expected.folder, expected.fingerprint
    try:
        folder.mkdir(parents=True, exist_ok=True)
        index = folder / INDEX_FILE
        if index.is_file() and (damaged := _damaged(expected, entries)) != []:
            for path in (index, *(damaged or ())):
                path.unlink()
        others = [path for path in folder.glob("shard-*.safetensors") if shard_fingerprint(path) != fingerprint]
        if others:
            warn(f"features: {len(others)} shards in {folder} are of another extraction and are replaced")
        for path in (*folder.glob("shard-*.partial"), *others):
            path.unlink()
    except OSError as error:
        raise StoreError(f"cannot write into {folder}: {error.strerror}") from error


def _damaged(expected: FeatureStore, entries: list[ShardEntry]) -> list[Path] | None:
    """The shards of a finished extraction that are not as they were written; None where its index is another."""
    folder = expected.folder
    try:
        store = FeatureStore.open(folder)
    except StoreError:
        return None
    listed = [replace(entry, bytes=0, sha256="") for entry in store.entries]
    if replace(store, entries=()) != expected or listed != entries:
        return None
    return [path for entry in store.entries if hash_of_file(path := folder / entry.file) != entry.sha256]


def _shard_file(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.safetensors"


def _entry(folder: Path, number: int, rows: range, collection: Collection, info: BackboneInfo) -> ShardEntry:
    path = _shard_file(folder, number)
    entry = _without_content(number, rows, collection, info)
    return replace(entry, bytes=path.stat().st_size, sha256=hash_of_file(path))


def _without_content(number: int, rows: range, collection: Collection, info: BackboneInfo) -> ShardEntry:
    return ShardEntry(
        file=_shard_file(Path(), number).name,
        first_image=rows.start,
        n_images=len(rows),
        n_patches=int(patch_counts(collection.images[rows.start : rows.stop], info).sum()),
        bytes=0,
        sha256="",
    )
