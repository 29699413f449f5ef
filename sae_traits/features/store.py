"""Patch features on disk: safetensors shards of consecutive specimens, and an index that says what they are.

    activations/
      index.json                    written last: a folder without it is not complete
      shard-00000.safetensors …     features, patches, offsets, specimens

Only patches on the image are stored. Each shard holds its plan's fingerprint in the safetensors metadata.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from sae_traits.errors import StoreError
from sae_traits.schema import BackboneInfo

FORMAT = "sae-traits features 1"
INDEX_FILE = "index.json"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_WHAT_TO_DO = "run the extraction again: it keeps the shards that are complete"


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """One shard, as index.json lists it."""

    file: str
    first_specimen: int
    n_specimens: int
    n_patches: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class FeatureShard:
    """The features of consecutive specimens; those of specimen i of the shard are at offsets[i] to offsets[i + 1]."""

    specimens: NDArray[np.int64]
    """Rows in the collection `[n_specimens]`."""
    offsets: NDArray[np.int64]
    """`[n_specimens + 1]`, the first 0, the last n_patches."""
    patches: NDArray[np.int32]
    """Index of each patch in its image's grid, ascending within a specimen `[n_patches]`."""
    features: torch.Tensor
    """float32 `[n_patches, d_model]`, as read."""

    def of(self, i: int) -> tuple[torch.Tensor, NDArray[np.int32]]:
        """Features `[n, d_model]` and patches `[n]` of the i-th specimen of this shard."""
        own = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        return self.features[own], self.patches[own]


@dataclass(frozen=True)
class FeatureStore:
    """A complete folder of features; `FeatureStore.open` reads and checks it."""

    folder: Path
    info: BackboneInfo
    fingerprint: str
    """Of everything that the features depend on: images, backbone, layer, preprocessing, dtype, shards."""
    dtype: Literal["float32", "bfloat16", "float16"]
    entries: tuple[ShardEntry, ...]

    @property
    def n_specimens(self) -> int:
        """Specimens in all shards."""
        return sum(entry.n_specimens for entry in self.entries)

    @property
    def n_patches(self) -> int:
        """Stored patches in all shards."""
        return sum(entry.n_patches for entry in self.entries)

    @classmethod
    def open(cls, folder: Path) -> FeatureStore:
        """Read the index and check that every shard is there in its full size.

        Raises:
            StoreError: the index is missing or of another format, or a shard is missing or truncated.
        """
        path = folder / INDEX_FILE
        if not path.is_file():
            raise StoreError(f"{path} does not exist, so the features are not complete; {_WHAT_TO_DO}")
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
            if index["format"] != FORMAT:
                raise StoreError(f"{path} has format {index['format']!r}, not {FORMAT!r}; extract the features again")
            entries = tuple(ShardEntry(**entry) for entry in index["shards"])
            info = BackboneInfo.from_dict(index["backbone"])
            store = cls(folder, info, index["fingerprint"], index["dtype"], entries)
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path} is not an index of features ({error!r}); extract the features again") from error
        for entry in entries:
            shard = folder / entry.file
            if not shard.is_file():
                raise StoreError(f"{shard} is missing; {_WHAT_TO_DO}")
            if (size := shard.stat().st_size) != entry.bytes:
                raise StoreError(f"{shard} has {size} bytes, not {entry.bytes}; delete it and {_WHAT_TO_DO}")
        return store

    def verify(self) -> None:
        """Read every shard and compare its checksum.

        Raises:
            StoreError: a shard is not what was written.
        """
        for entry in self.entries:
            path = self.folder / entry.file
            if hash_of_file(path) != entry.sha256:
                raise StoreError(f"{path} has changed since it was written; delete it and {_WHAT_TO_DO}")

    def shards(self) -> Iterator[FeatureShard]:
        """All shards in the order of the collection, one in memory at a time."""
        for index in range(len(self.entries)):
            yield self.shard(index)

    def shard(self, index: int) -> FeatureShard:
        """One shard.

        Raises:
            StoreError: the file cannot be read.
        """
        tensors = self._read(index, "specimens", "offsets", "patches", "features")
        specimens, offsets, patches = (tensors[name].numpy() for name in ("specimens", "offsets", "patches"))
        return FeatureShard(specimens, offsets, patches, tensors["features"].float())

    def counts(self, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Specimens of a shard and the number of patches of each `[n_specimens]`, without reading the features."""
        tensors = self._read(index, "specimens", "offsets")
        return tensors["specimens"].numpy(), np.diff(tensors["offsets"].numpy())

    def _read(self, index: int, *names: str) -> dict[str, torch.Tensor]:
        path = self.folder / self.entries[index].file
        try:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in names}
        except (OSError, SafetensorError) as error:
            raise StoreError(f"cannot read {path} ({error}); delete it and {_WHAT_TO_DO}") from error


def write_shard(path: Path, shard: FeatureShard, fingerprint: str) -> None:
    """Write one shard whole, its features in the precision that they have.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    tensors = {
        "specimens": torch.from_numpy(shard.specimens),
        "offsets": torch.from_numpy(shard.offsets),
        "patches": torch.from_numpy(shard.patches),
        "features": shard.features,
    }
    # One entry only: safetensors writes several in random order, and the same shard must be the same bytes.
    write_whole(path, save(tensors, metadata={"fingerprint": fingerprint}))


def write_index(folder: Path, info: BackboneInfo, fingerprint: str, dtype: str, entries: list[ShardEntry]) -> None:
    """Write index.json, which makes the folder a complete store.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    index: dict[str, Any] = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "backbone": info.to_dict(),
        "dtype": dtype,
        "d_model": info.d_model,
        "n_specimens": sum(entry.n_specimens for entry in entries),
        "n_patches": sum(entry.n_patches for entry in entries),
        "shards": [asdict(entry) for entry in entries],
    }
    write_whole(folder / INDEX_FILE, (json.dumps(index, indent=1) + "\n").encode())


def shard_fingerprint(path: Path) -> str | None:
    """The fingerprint that a shard was written with; None where there is no readable shard."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("fingerprint")
    except (OSError, SafetensorError):
        return None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a crash or a power cut.

    Raises:
        StoreError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                f"the disk is full: {path} needs {len(content) / 1e6:.0f} MB more; free some space, or store half as "
                f"much with --dtype bfloat16, and {_WHAT_TO_DO}"
            ) from error
        raise StoreError(f"cannot write {path}: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    """Make the renaming of a file durable; Windows cannot open folders, and needs no such thing."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hash_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        StoreError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
