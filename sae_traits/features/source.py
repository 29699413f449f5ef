"""Where patch features come from: a store on disk, or images and a backbone, with nothing kept in between."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from sae_traits.config.features import FeaturesConfig
from sae_traits.features.backbone import Backbone, patch_counts, valid_patches
from sae_traits.features.loading import EncodedBatch, batches_of, encoded_batches, fill_from
from sae_traits.features.store import DTYPES, FeatureShard, FeatureStore, Fill, Parts, membership
from sae_traits.schema import BackboneInfo, Collection
from sae_traits.vocabulary import Dtype

SHARD_BYTES = 256 * 2**20
"""A shard is at most about this large."""
SHARDS_OF_A_SMALL_COLLECTION = 8
"""A small collection is cut into about this many shards all the same, so that it resumes too …"""
IMAGES_OF_A_SMALL_SHARD = 16
"""… but not into shards of fewer images than this."""


class FeatureSource(Protocol):
    """Features of a collection, given shard by shard; a `FeatureStore` and an `ImageSource` are such.

    Attributes:
        info: what the features depend on, apart from the images.
        fingerprint: hash of everything that the features depend on.
        n_images: images of the collection.
        is_computed: whether features are computed whenever they are asked for, and are best asked for once.
    """

    @property
    def info(self) -> BackboneInfo: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def n_images(self) -> int: ...
    @property
    def is_computed(self) -> bool: ...
    @property
    def units(self) -> list[range]:
        """The rows of each shard of the whole collection; a shard of some rows lies within one of them."""
        ...

    def count_shards(self, rows: ArrayLike | None = None) -> int:
        """How many shards `shards` gives for all images, or for some rows."""
        ...

    def patch_counts(self) -> NDArray[np.int64]:
        """Number of patches of every image `[n_images]`, without reading or computing features."""
        ...

    def shards(self, rows: ArrayLike | None = None) -> Iterator[FeatureShard]:
        """Yield the features of all images, or of some rows, in the order of the collection, float32 on the CPU."""
        ...

    def parts(self, rows: ArrayLike) -> Parts:
        """What a `PatchStream` over some rows mixes."""
        ...


def open_features(
    collection: Collection, folder: Path, backbone: Callable[[], Backbone], config: FeaturesConfig
) -> FeatureSource:
    """The features of a collection: those that were extracted, or with `stream` its images and the backbone.

    `folder` is what `extract` wrote; `backbone` gives the loaded backbone and is not called where features were
    extracted. A StoreError where these are incomplete.
    """
    if not config.stream:
        return FeatureStore.open(folder)
    return ImageSource(
        collection,
        backbone(),
        image_batch_size=config.image_batch_size,
        workers=config.workers,
        storage_dtype=config.storage_dtype,
        deterministic=config.deterministic,
    )


@dataclass(frozen=True)
class ImageSource:
    """Features computed from the images whenever they are asked for; a `FeatureSource`."""

    collection: Collection
    backbone: Backbone
    image_batch_size: int = 16
    """Images per forward pass."""
    workers: int = 2
    """Processes that read and prepare images; 0 does it in this one."""
    storage_dtype: Dtype = "float32"
    """In which features are kept in the buffer of a `PatchStream`."""
    deterministic: bool = False
    """Whether one thread computes them."""

    @property
    def info(self) -> BackboneInfo:
        return self.backbone.info

    @property
    def fingerprint(self) -> str:
        """Hash of the images' content and order, and of the backbone."""
        settings = {"source": "images", "backbone": self.info.identity()} | threads_of(self.deterministic)
        return fingerprint_of(self.collection, settings)

    @property
    def n_images(self) -> int:
        return len(self.collection.images)

    @property
    def is_computed(self) -> bool:
        """True: every pass over the features reads the images and runs the backbone."""
        return True

    @property
    def units(self) -> list[range]:
        """The rows of each shard of the whole collection."""
        return plan_shards(self.n_images, self.info, "float32")

    def count_shards(self, rows: ArrayLike | None = None) -> int:
        """How many shards `shards` gives for all images, or for some rows: as many as a store of all images has."""
        return len(self._chosen(rows))

    def patch_counts(self) -> NDArray[np.int64]:
        """Number of patches of every image `[n_images]`, from the sizes of the images."""
        return patch_counts(self.collection.images, self.info)

    def shards(self, rows: ArrayLike | None = None) -> Iterator[FeatureShard]:
        """Yield the features of all images, or of some rows, in the order of the collection, float32 on the CPU.

        Raises:
            CollectionError: an image cannot be read any more, or has changed.
        """
        plans = self._chosen(rows)
        batches = self._encoded(batch for plan in plans for batch in batches_of(plan, self.image_batch_size))
        for plan in plans:
            shard = empty_shard(self.collection, self.info, plan, "float32")
            fill_from(batches, shard.features)
            yield shard

    def _chosen(self, rows: ArrayLike | None) -> list[list[int]]:
        """The rows of each unit that are among some rows, of units that have any."""
        chosen = membership(self.n_images, rows)
        of_units = [(np.flatnonzero(chosen[unit.start : unit.stop]) + unit.start).tolist() for unit in self.units]
        return [some for some in of_units if some]

    def parts(self, rows: ArrayLike) -> Parts:
        """The images, one by one.

        A stream that begins at step s opens the images of the filling that s falls into, and none before.
        """
        return Parts(
            n_patches=np.where(membership(self.n_images, rows), self.patch_counts(), 0),
            d_model=self.info.d_model,
            dtype=DTYPES[self.storage_dtype],
            filler=self._filler,
        )

    def _filler(self, fillings: Iterator[tuple[int, ...]], abandoned: Event) -> Fill:
        # Batches never run across fillings, so that a resumed stream gives the same features to the last bit.
        row_batches = (rows for images in fillings for rows in batches_of(images, self.image_batch_size))
        # Made here and not in the thread that fills the buffer: workers should be forked from a thread without locks.
        wanted = _until(abandoned, self._encoded(row_batches))
        return lambda images, buffer: fill_from(wanted, buffer)

    def _encoded(self, row_batches: Iterator[Sequence[int]]) -> Iterator[EncodedBatch]:
        return encoded_batches(self.collection, self.backbone, row_batches, workers=self.workers)


def _until(abandoned: Event, batches: Iterator[EncodedBatch]) -> Iterator[EncodedBatch]:
    """Yield batches as long as someone wants them; CancelledError then ends the filling of the buffer half way."""
    for batch in batches:
        if abandoned.is_set():
            raise CancelledError
        yield batch


def empty_shard(collection: Collection, info: BackboneInfo, rows: Sequence[int], dtype: Dtype) -> FeatureShard:
    """A shard of some images, whose features are still to be filled in."""
    patches = [valid_patches(collection.images[row], info) for row in rows]
    offsets = np.cumsum([0, *map(len, patches)], dtype=np.int64)
    features = torch.empty(int(offsets[-1]), info.d_model, dtype=DTYPES[dtype])
    return FeatureShard(np.array(rows, np.int64), offsets, np.concatenate(patches).astype(np.int32), features)


def plan_shards(n_images: int, info: BackboneInfo, storage_dtype: Dtype) -> list[range]:
    """The rows of each shard, consecutive images: as many as fit into SHARD_BYTES, fewer in small collections."""
    bytes_per_image = info.rows * info.columns * info.d_model * DTYPES[storage_dtype].itemsize
    fitting = max(1, SHARD_BYTES // bytes_per_image)
    few = max(IMAGES_OF_A_SMALL_SHARD, -(-n_images // SHARDS_OF_A_SMALL_COLLECTION))
    step = min(fitting, few)
    return [range(start, min(start + step, n_images)) for start in range(0, n_images, step)]


def threads_of(deterministic: bool) -> dict[str, int]:
    """What a fingerprint says of threads, whose number changes the last bits: only that it has to be one."""
    return {"n_threads": 1} if deterministic else {}


def fingerprint_of(collection: Collection, settings: dict[str, Any]) -> str:
    """A hash of everything that features depend on: settings, and the images' content and order."""
    text = f"{json.dumps(settings, sort_keys=True)} {collection.digest('image_id', 'sha256')}"
    return hashlib.sha256(text.encode()).hexdigest()
