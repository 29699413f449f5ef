"""Images -> patch features on disk, in batches, resumable at every shard, over any number of processes."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from sae_traits.errors import CollectionError, ConfigError, StoreError
from sae_traits.features.backbone import Backbone, patch_counts
from sae_traits.features.loading import EncodedBatch, batches_of, encoded_batches
from sae_traits.features.source import empty_shard, fingerprint_of, plan_shards, threads_of
from sae_traits.features.store import (
    DTYPES,
    FORMAT,
    INDEX_FILE,
    SHARDS,
    FeatureShard,
    FeatureStore,
    ShardEntry,
    shard_fingerprint,
    write_index,
    write_shard,
)
from sae_traits.io import hash_of_file
from sae_traits.logging import say, track, warn
from sae_traits.schema import BackboneInfo, Collection
from sae_traits.vocabulary import Dtype


@dataclass(frozen=True)
class Extraction:
    """Which features are extracted, and where they go.

    Args:
        collection, backbone, folder: the images, where their features come from, and where they go.
        storage_dtype: in which the features are kept.
        image_batch_size: images per forward pass.
        workers: processes that read and prepare images; 0 does it in this one.
        deterministic: whether one thread computes them; shards that others computed are not kept then.
    """

    collection: Collection
    backbone: Backbone
    folder: Path
    storage_dtype: Dtype = "float32"
    image_batch_size: int = 16
    workers: int = 2
    deterministic: bool = False

    @cached_property
    def units(self) -> list[range]:
        """The rows of each shard."""
        return plan_shards(len(self.collection.images), self.backbone.info, self.storage_dtype)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that the features depend on."""
        settings = {"format": FORMAT, "backbone": self.backbone.info.identity(), "dtype": self.storage_dtype}
        settings |= threads_of(self.deterministic) | {"starts": [rows.start for rows in self.units]}
        return fingerprint_of(self.collection, settings)

    def write(self, numbers: Iterable[int]) -> Iterator[Path]:
        """Write the shards of some numbers, and yield each file; one that is there already is kept.

        Needs no other process, and takes no lock: a shard of another extraction is replaced.

        Raises:
            CollectionError: an image cannot be read any more.
            StoreError: the disk is full or the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot write into {self.folder}: {error.strerror}") from error
        files = {number: _shard_file(self.folder, number) for number in numbers}
        pending = {n: self.units[n] for n, file in files.items() if shard_fingerprint(file) != self.fingerprint}
        kept = [file for number, file in files.items() if number not in pending]
        if kept:
            say(f"features: {len(kept)} of {len(files)} shards are there already")
        yield from kept
        if pending:
            (self.folder / INDEX_FILE).unlink(missing_ok=True)
        # Forward passes end where shards end, so that a shard is the same to the last bit whoever makes it, and when.
        row_batches = [batch for rows in pending.values() for batch in batches_of(rows, self.image_batch_size)]
        batches = encoded_batches(self.collection, self.backbone, row_batches, workers=self.workers)
        info, dtype = self.backbone.info, self.storage_dtype
        for number, shard in _filled_shards(self.collection, info, pending, batches, dtype):
            write_shard(files[number], shard, self.fingerprint)
            yield files[number]

    def entry(self, number: int) -> ShardEntry:
        """What the index says of a shard whose file is there."""
        path = _shard_file(self.folder, number)
        return replace(self.entry_without_content(number), bytes=path.stat().st_size, sha256=hash_of_file(path))

    def entry_without_content(self, number: int) -> ShardEntry:
        """What is known of a shard before it is there."""
        rows = self.units[number]
        return ShardEntry(
            file=_shard_file(Path(), number).name,
            first_image=rows.start,
            n_images=len(rows),
            n_patches=int(patch_counts(self.collection.images[rows.start : rows.stop], self.backbone.info).sum()),
            bytes=0,
            sha256="",
        )

    def join(self, written: Mapping[str, tuple[int, str]]) -> FeatureStore:
        """Make shards that were written apart from each other one store.

        Args:
            written: size and sha256 of each shard's file, by its name.
        """
        entries = [self.entry_without_content(number) for number in range(len(self.units))]
        entries = [replace(e, bytes=written[e.file][0], sha256=written[e.file][1]) for e in entries]
        for path in self.folder.glob(SHARDS):
            if path.name not in written:
                path.unlink()
        write_index(self.folder, self.backbone.info, self.fingerprint, self.storage_dtype, entries)
        return FeatureStore.open(self.folder)


def extract(collection: Collection, backbone: Backbone, folder: Path, **settings: Any) -> FeatureStore:
    """Write the patch features of all images of a collection, and read back the index.

    A shard that is there already is kept if it is of the same plan (same images, backbone and settings); shards of
    another plan are replaced. Under `accelerate launch` the shards are dealt out over the processes, which must see the
    same folder. The arguments and settings are those of an `Extraction`.

    Raises:
        CollectionError: there are no images, or an image cannot be read any more.
        ConfigError: several processes were launched that do not know of each other.
        StoreError: the disk is full or the folder cannot be written; run it again to go on.
    """
    from accelerate import PartialState
    from accelerate.utils import gather_object, parse_flag_from_env

    if not collection.images:
        raise CollectionError(f"there are no images in {collection.root} to extract features from")
    extraction = Extraction(collection, backbone, folder, **settings)
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))  # unlike Accelerator, it does not look itself
    check_launch(state.num_processes)
    if state.is_main_process:
        _clear_others(extraction)
    state.wait_for_everyone()
    if (folder / INDEX_FILE).is_file():
        return FeatureStore.open(folder)

    assigned = range(len(extraction.units))[state.process_index :: state.num_processes]
    for _ in extraction.write(assigned):
        pass
    entries = gather_object([extraction.entry(number) for number in assigned])
    if state.is_main_process:
        entries.sort(key=lambda entry: entry.first_image)
        write_index(folder, backbone.info, extraction.fingerprint, extraction.storage_dtype, entries)
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


def _clear_others(extraction: Extraction) -> None:
    """Make the folder, and remove what is half-written, damaged or of another plan: the index first."""
    folder = extraction.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        index = folder / INDEX_FILE
        if index.is_file() and (damaged := _damaged(extraction)) != []:
            for path in (index, *(damaged or ())):
                path.unlink()
        others = [path for path in folder.glob(SHARDS) if shard_fingerprint(path) != extraction.fingerprint]
        if others:
            warn(f"features: {len(others)} shards in {folder} are of another extraction and are replaced")
        for path in (*folder.glob("shard-*.partial"), *others):
            path.unlink()
    except OSError as error:
        raise StoreError(f"cannot write into {folder}: {error.strerror}") from error


def _damaged(extraction: Extraction) -> list[Path] | None:
    """The shards of a finished extraction that are not as they were written; None where its index is another."""
    folder = extraction.folder
    expected = FeatureStore(folder, extraction.backbone.info, extraction.fingerprint, extraction.storage_dtype, ())
    try:
        store = FeatureStore.open(folder)
    except StoreError:
        return None
    listed = [replace(entry, bytes=0, sha256="") for entry in store.entries]
    planned = [extraction.entry_without_content(number) for number in range(len(extraction.units))]
    if replace(store, entries=()) != expected or listed != planned:
        return None
    return [path for entry in store.entries if hash_of_file(path := folder / entry.file) != entry.sha256]


def _shard_file(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.safetensors"
