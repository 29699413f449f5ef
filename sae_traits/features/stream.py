"""Shuffled training batches, from a store that is larger than memory or straight from images, and their moments."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from threading import Event

import numpy as np
import torch
from numpy.typing import ArrayLike

from sae_traits.errors import StoreError
from sae_traits.features.buffer import BUFFER_BYTES, Fill, MixedStream
from sae_traits.features.encoding import EncodedBatch, encoded_batches, fill_from
from sae_traits.features.loading import batches_of
from sae_traits.features.source import FeatureSource, ImageSource
from sae_traits.features.store import DTYPES, DtypeName, FeatureStore, membership

_PATCHES_AT_ONCE = 2**16


class PatchStream(MixedStream):
    """Shuffled float32 batches `[batch_size, d_model]` of patches in a store; see `MixedStream` for order and memory.

    Whole shards meet in the buffer; of each only the images that take part are read, in the precision of the store.
    """

    def __init__(
        self,
        store: FeatureStore,
        records: ArrayLike,
        *,
        n_patches: int,
        batch_size: int,
        seed: int = 0,
        start: int = 0,
        buffer_bytes: int = BUFFER_BYTES,
        device: torch.device | str = "cpu",
    ) -> None:
        """A stream over some images of a store.

        Args:
            store: the features.
            images: rows in the collection that take part `[n]`, for example the train split.
            n_patches: how many patches in all, counted with repetition, rounded up to whole batches.
            batch_size: patches a batch.
            seed: of the order.
            start: step to begin at, when training resumes.
            buffer_bytes: size of one of the two buffers, in the precision of the store.
            device: where buffers and batches lie.

        Raises:
            StoreError: the store has no patches of these images; while iterating, a shard is not what was written.
        """
        self._store = store
        self._chosen = membership(store.n_images, records)
        counts = np.where(self._chosen, store.patch_counts(), 0)
        super().__init__(
            np.array([counts[entry.rows].sum() for entry in store.entries]),
            store.info.d_model,
            n_patches=n_patches,
            batch_size=batch_size,
            seed=seed,
            start=start,
            buffer_bytes=buffer_bytes,
            dtype=DTYPES[store.dtype],
            device=device,
        )

    def _filler(self, abandoned: Event) -> Fill:
        return self._fill

    def _fill(self, shards: tuple[int, ...], buffer: torch.Tensor) -> None:
        end = 0
        for index in shards:
            end += self._store.copy_features(index, self._chosen, buffer[end:])


class ImagePatchStream(MixedStream):
    """Shuffled float32 batches `[batch_size, d_model]` straight from images; see `MixedStream` for order and memory.

    Random images meet in the buffer. Workers read images ahead, also while the trainer computes. A stream that
    begins at step s opens the images of the refill that s falls into, and none before. Batches of images never run
    across refills, so a resumed stream gives the same features to the last bit.
    """

    def __init__(
        self,
        source: ImageSource,
        records: ArrayLike,
        *,
        n_patches: int,
        batch_size: int,
        seed: int = 0,
        start: int = 0,
        buffer_bytes: int = BUFFER_BYTES,
        dtype: DtypeName = "float32",
        device: torch.device | str = "cpu",
    ) -> None:
        """A stream over some images of a collection.

        Args:
            source: images and backbone.
            images: rows in the collection that take part `[n]`, for example the train split.
            n_patches: as for `PatchStream`, like the next three.
            batch_size: patches a batch.
            seed: of the order.
            start: step to begin at, when training resumes.
            buffer_bytes: size of one of the two buffers, in the precision `dtype`.
            dtype: precision of the features in the buffer.
            device: where buffers and batches lie; best where the backbone runs.

        Raises:
            StoreError: there are no patches of these images.
            CollectionError: while iterating: an image cannot be read any more, or has changed.
        """
        self._source = source
        chosen = membership(source.n_images, records)
        super().__init__(
            np.where(chosen, source.patch_counts(), 0),
            source.info.d_model,
            n_patches=n_patches,
            batch_size=batch_size,
            seed=seed,
            start=start,
            buffer_bytes=buffer_bytes,
            dtype=DTYPES[dtype],
            device=device,
        )

    def _filler(self, abandoned: Event) -> Fill:
        source = self._source
        row_batches = (
            rows
            for visit in self.visits()
            if not visit.is_held
            for rows in batches_of(visit.refill.parts, source.image_batch_size)
        )
        # Made here and not in the thread that fills the buffer: workers should be forked from a thread without locks.
        batches = encoded_batches(source.collection, source.backbone, row_batches, workers=source.workers)
        wanted = _until(abandoned, batches)

        def fill(_: tuple[int, ...], buffer: torch.Tensor) -> None:
            fill_from(wanted, buffer)

        return fill


def _until(abandoned: Event, batches: Iterator[EncodedBatch]) -> Iterator[EncodedBatch]:
    """Batches, as long as someone wants them; CancelledError then ends the filling of the buffer half way."""
    for batch in batches:
        if abandoned.is_set():
            raise CancelledError
        yield batch


@dataclass(frozen=True)
class Moments:
    """Mean and size of features, in float64."""

    n_images: int
    n_patches: int
    mean: torch.Tensor
    """`[d_model]`, float64."""
    mean_squared_norm: float
    """Mean over patches of |x|^2."""

    @property
    def mean_squared_deviation(self) -> float:
        """Mean over patches of |x - mean|^2: the error of a dictionary that knows the mean only."""
        return self.mean_squared_norm - float(self.mean @ self.mean)


def moments(source: FeatureSource, records: ArrayLike, *, at_most: int | None = None, seed: int = 0) -> Moments:
    """Mean and mean squared norm of the patches of some images, one shard in memory at a time.

    Reading a store the first time compares the checksums of its shards, so a training that begins with its moments
    finds a damaged shard before it has spent any time.

    Args:
        source: the features.
        images: rows in the collection `[n]`.
        at_most: take a random sample of so many images, where features have to be computed; None takes all.
        seed: of the sample.

    Raises:
        StoreError: there are no patches of these images, or a shard is not what was written.
        CollectionError: an image cannot be read any more, or has changed.
    """
    rows = np.unique(np.asarray(records, dtype=np.int64))
    if at_most is not None:
        rows = np.random.default_rng(seed).permutation(rows)[:at_most]
    total = torch.zeros(source.info.d_model, dtype=torch.float64)
    squares, n_patches = 0.0, 0
    for shard in source.shards(rows):
        for features in shard.features.split(_PATCHES_AT_ONCE):
            total += features.sum(dim=0, dtype=torch.float64)
            squares += float(features.square().sum(dtype=torch.float64))
            n_patches += len(features)
    if not n_patches:
        raise StoreError("the collection has no patches of the images to train on; look at how it is split")
    return Moments(len(rows), n_patches, total / n_patches, squares / n_patches)
