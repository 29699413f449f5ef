"""Patch features on disk: safetensors shards of consecutive images, and an index that says what they are.

    activations/
      index.json                    written last: a folder without it is not complete
      shard-00000.safetensors …     features, patches, offsets, images

Only patches on the image are stored. Each shard holds its plan's fingerprint in the safetensors metadata.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from sae_traits.errors import StoreError
from sae_traits.features.index_file import INDEX_FILE
from sae_traits.io import hash_of_file, write_whole
from sae_traits.schema import BackboneInfo
from sae_traits.vocabulary import Dtype

FORMAT = "sae-traits features 1"
SHARDS = "shard-*.safetensors"
"""Files that carry their checksum in the index, by which `FeatureStore` compares them."""
DTYPES: dict[Dtype, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_WHAT_TO_DO = "run the extraction again: it keeps the shards that are complete"
_WHERE_DISK_IS_FULL = f"free some space, or store half as much with --storage-dtype bfloat16, and {_WHAT_TO_DO}"


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """One shard, as index.json lists it."""

    file: str
    first_image: int
    n_images: int
    n_patches: int
    bytes: int
    sha256: str

    @property
    def rows(self) -> slice:
        """The rows of its images in the collection."""
        return slice(self.first_image, self.first_image + self.n_images)


@dataclass(frozen=True)
class FeatureShard:
    """The features of some images; those of image i of the shard are at offsets[i] to offsets[i + 1]."""

    images: NDArray[np.int64]
    """Rows in the collection `[n_images]`."""
    offsets: NDArray[np.int64]
    """`[n_images + 1]`, the first 0, the last n_patches."""
    patches: NDArray[np.int32]
    """Index of each patch in its image's grid, ascending within an image `[n_patches]`."""
    features: torch.Tensor
    """float32 `[n_patches, d_model]`, as read."""

    def of(self, i: int) -> tuple[torch.Tensor, NDArray[np.int32]]:
        """Features `[n, d_model]` and patches `[n]` of the i-th image of this shard."""
        patches = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        return self.features[patches], self.patches[patches]

    def only(self, chosen: NDArray[np.bool_]) -> FeatureShard:
        """A shard of those images only that are chosen `[n_images]`."""
        if chosen.all():
            return self
        counts = np.diff(self.offsets)
        rows = np.repeat(chosen, counts)
        offsets = np.concatenate([[0], np.cumsum(counts[chosen])]).astype(np.int64)
        return FeatureShard(self.images[chosen], offsets, self.patches[rows], self.features[torch.from_numpy(rows)])


Fill = Callable[[tuple[int, ...], torch.Tensor], None]
"""Puts the features of some parts of a source, one after the other, into `[n_patches, d_model]`."""


@dataclass(frozen=True)
class Parts:
    """What can be read of a source in one piece (its shards, or its images), of the images that take part."""

    n_patches: NDArray[np.int64]
    """Patches of each part `[n_parts]`; 0 where no image of it takes part."""
    d_model: int
    dtype: torch.dtype
    """In which the features are kept."""
    filler: Callable[[Iterator[tuple[int, ...]], Event], Fill]
    """Given the parts of every filling that is going to be asked for, what does it, in a background thread. Where that
    takes long it looks at the event, and gives up when it is set."""


@dataclass(frozen=True)
class FeatureStore:
    """A complete folder of features; a `FeatureSource`. `FeatureStore.open` reads and checks it.

    A shard's checksum is compared when its features are read for the first time through this object.
    """

    folder: Path
    info: BackboneInfo
    fingerprint: str
    """Of everything that the features depend on: images, backbone, layer, preprocessing, storage dtype, shards."""
    storage_dtype: Dtype
    entries: tuple[ShardEntry, ...]
    _verified: set[int] = field(default_factory=set, init=False, repr=False, compare=False)
    """Shards whose checksum was found right."""

    @property
    def n_images(self) -> int:
        return sum(entry.n_images for entry in self.entries)

    @property
    def n_patches(self) -> int:
        return sum(entry.n_patches for entry in self.entries)

    @property
    def is_computed(self) -> bool:
        """False: features are read, which is cheap to do again."""
        return False

    @classmethod
    def open(cls, folder: Path) -> FeatureStore:
        """Read the index; a StoreError where it is missing or of another format, or a shard is missing or truncated."""
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
            _check_size(folder / entry.file, entry)
        return store

    @property
    def units(self) -> list[range]:
        """The rows of each shard."""
        return [range(entry.first_image, entry.first_image + entry.n_images) for entry in self.entries]

    def count_shards(self, rows: ArrayLike | None = None) -> int:
        chosen = membership(self.n_images, rows)
        return sum(bool(chosen[entry.rows].any()) for entry in self.entries)

    def patch_counts(self) -> NDArray[np.int64]:
        counts = [np.empty(0, np.int64)]
        for index in range(len(self.entries)):
            with self._opened(index) as file:
                counts.append(np.diff(file.get_tensor("offsets").numpy()))
        return np.concatenate(counts)

    def shards(self, rows: ArrayLike | None = None) -> Iterator[FeatureShard]:
        """The features of all images, or of some rows, in the order of the collection, shard by shard.

        Raises:
            StoreError: a shard cannot be read, or is not what was written.
        """
        chosen = membership(self.n_images, rows)
        for index, entry in enumerate(self.entries):
            if chosen[entry.rows].any():
                yield self.shard(index).only(chosen[entry.rows])

    def shard(self, index: int) -> FeatureShard:
        """Read one shard; a StoreError where the file cannot be read, or is not what was written."""
        self._verify(index)
        with self._opened(index) as file:
            images, offsets, patches = (file.get_tensor(n).numpy() for n in ("images", "offsets", "patches"))
            return FeatureShard(images, offsets, patches, file.get_tensor("features").float())

    def copy_features(self, index: int, chosen: NDArray[np.bool_], into: torch.Tensor) -> int:
        """Copy the features of a shard's images that are chosen `[n_images]` into a tensor's first rows; how many rows.

        Read in blocks, one per run of chosen images, with no memory in between. Errors as of `shard`.
        """
        self._verify(index)
        end = 0
        with self._opened(index) as file:
            features, offsets = file.get_slice("features"), file.get_tensor("offsets").numpy()
            for first, last in _runs(chosen[self.entries[index].rows]):
                block = features[int(offsets[first]) : int(offsets[last])]
                into[end : end + len(block)] = block
                end += len(block)
        return end

    def parts(self, rows: ArrayLike) -> Parts:
        """The shards, of which only the images of some rows are read."""
        chosen = membership(self.n_images, rows)
        counts = np.where(chosen, self.patch_counts(), 0)

        def fill(shards: tuple[int, ...], buffer: torch.Tensor) -> None:
            end = 0
            for index in shards:
                end += self.copy_features(index, chosen, buffer[end:])

        return Parts(
            n_patches=np.array([counts[entry.rows].sum() for entry in self.entries]),
            d_model=self.info.d_model,
            dtype=DTYPES[self.storage_dtype],
            filler=lambda fillings, abandoned: fill,
        )

    def _verify(self, index: int) -> None:
        """Compare a shard's size and checksum, once."""
        if index in self._verified:
            return
        entry = self.entries[index]
        path = self.folder / entry.file
        _check_size(path, entry)
        if hash_of_file(path) != entry.sha256:
            raise StoreError(
                f"{path} has changed since it was written: its sha256 is not that of {INDEX_FILE}; delete it and "
                f"{_WHAT_TO_DO}"
            )
        self._verified.add(index)

    @contextmanager
    def _opened(self, index: int) -> Iterator[Any]:
        """A shard as safetensors opens it: in place, so that only what is used is read."""
        path = self.folder / self.entries[index].file
        try:
            with safe_open(path, framework="pt") as file:
                yield file
        except (OSError, SafetensorError) as error:
            raise StoreError(f"cannot read {path} ({error}); delete it and {_WHAT_TO_DO}") from error


def membership(n_images: int, rows: ArrayLike | None) -> NDArray[np.bool_]:
    """Whether each row of a collection is among some rows; None is all of them `[n_images]`."""
    if rows is None:
        return np.ones(n_images, dtype=bool)
    chosen = np.zeros(n_images, dtype=bool)
    chosen[np.asarray(rows, dtype=np.int64)] = True
    return chosen


def _runs(chosen: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield first and last + 1 of every run of consecutive chosen images."""
    edges = np.flatnonzero(np.diff(chosen, prepend=False, append=False)).tolist()
    return zip(edges[::2], edges[1::2], strict=True)


def shard_bytes(n_images: int, n_patches: int, d_model: int, storage_dtype: Dtype) -> int:
    """Size of the tensors of one shard; its header comes on top."""
    features, patches = n_patches * d_model * DTYPES[storage_dtype].itemsize, n_patches * 4
    images, offsets = n_images * 8, (n_images + 1) * 8
    return features + patches + images + offsets


def _check_size(path: Path, entry: ShardEntry) -> None:
    if not path.is_file():
        raise StoreError(f"{path} is missing; {_WHAT_TO_DO}")
    if (size := path.stat().st_size) != entry.bytes:
        raise StoreError(f"{path} has {size} bytes, not {entry.bytes}; delete it and {_WHAT_TO_DO}")


def write_shard(path: Path, shard: FeatureShard, fingerprint: str) -> None:
    """Write one shard whole, its features in the dtype that they have; a StoreError where it cannot be written."""
    tensors = {
        "images": torch.from_numpy(shard.images),
        "offsets": torch.from_numpy(shard.offsets),
        "patches": torch.from_numpy(shard.patches),
        "features": shard.features,
    }
    # One entry only: safetensors writes several in random order, and the same shard must be the same bytes.
    write_whole(path, save(tensors, metadata={"fingerprint": fingerprint}), on_full_disk=_WHERE_DISK_IS_FULL)


def write_index(
    folder: Path, info: BackboneInfo, fingerprint: str, storage_dtype: Dtype, entries: list[ShardEntry]
) -> None:
    """Write index.json, which makes the folder a complete store; a StoreError where it cannot be written."""
    index: dict[str, Any] = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "backbone": info.to_dict(),
        "dtype": storage_dtype,
        "d_model": info.d_model,
        "n_images": sum(entry.n_images for entry in entries),
        "n_patches": sum(entry.n_patches for entry in entries),
        "shards": [asdict(entry) for entry in entries],
    }
    content = (json.dumps(index, indent=1) + "\n").encode()
    write_whole(folder / INDEX_FILE, content, on_full_disk=_WHERE_DISK_IS_FULL)


def shard_fingerprint(path: Path) -> str | None:
    """The fingerprint that a shard was written with; None where there is no readable shard."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("fingerprint")
    except (OSError, SafetensorError):
        return None
