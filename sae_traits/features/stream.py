"""Shuffled training batches from a store that is larger than memory, and the moments of its features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from sae_traits.errors import StoreError
from sae_traits.features.store import DTYPES, FeatureShard, FeatureStore

BUFFER_BYTES = 512 * 2**20
"""Features that are shuffled together; more mixes better, and one shard is the least."""


@dataclass(frozen=True)
class Refill:
    """One filling of the buffer: some shards, and the seed of the order in which their patches leave it."""

    shards: tuple[int, ...]
    """In the order of the store, so that the same shards make the same buffer."""
    n_patches: int
    seed: tuple[int, ...]


class PatchStream:
    """Iterates shuffled float32 batches `[batch_size, d_model]` of the patches of some specimens.

    Each epoch permutes the shards, fills a bounded buffer with as many as fit, permutes the patches in it, and goes on;
    every patch comes once an epoch, and batches run across refills and epochs. The order is a function of the seed
    alone, and any step can be reached without reading what comes before it: batch t of a stream that starts at step s
    is batch t of one that starts at 0. Each iteration starts again at `start`.
    """

    def __init__(
        self,
        store: FeatureStore,
        specimens: ArrayLike,
        *,
        n_patches: int,
        batch_size: int,
        seed: int = 0,
        start: int = 0,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        """A stream over some specimens of a store.

        Args:
            store: the features.
            specimens: rows in the collection that take part `[n]`, for example the train split.
            n_patches: how many patches in all, counted with repetition, rounded up to whole batches.
            batch_size: patches a batch.
            seed: of the order.
            start: step to begin at, when training resumes.
            buffer_bytes: size of the buffer, in the precision of the store.

        Raises:
            StoreError: the store has no patches of these specimens.
        """
        self.n_steps = -(-n_patches // batch_size)
        self.start = start
        self._store, self._seed, self._batch_size = store, seed, batch_size
        self._chosen = _membership(store, specimens)
        self._patches_of_shard = [
            int(counts[self._chosen[rows]].sum()) for rows, counts in map(store.counts, range(len(store.entries)))
        ]
        if not sum(self._patches_of_shard):
            raise StoreError(f"{store.folder} has no patches of the specimens to train on")
        dtype = DTYPES[store.dtype]
        self._capacity = buffer_bytes // (store.info.d_model * dtype.itemsize)

    def __len__(self) -> int:
        """Steps that are left, from `start` on."""
        return max(0, self.n_steps - self.start)

    def __iter__(self) -> Iterator[torch.Tensor]:
        """The batches of the steps `start` to `n_steps`."""
        left, needed, parts = len(self), self._batch_size, []
        skip = self.start * self._batch_size
        buffer, held = torch.empty(0), ()
        for refill in self.refills():
            if not left:
                return
            if skip >= refill.n_patches:
                skip -= refill.n_patches
                continue
            if refill.shards != held:
                del buffer  # before the next is made: two would be twice the memory
                buffer, held = self._fill(refill), refill.shards
            order = torch.from_numpy(np.random.default_rng(refill.seed).permutation(refill.n_patches)[skip:])
            skip = 0
            while left and len(order):
                taken, order = order[:needed], order[needed:]
                parts.append(buffer[taken])
                needed -= len(taken)
                if not needed:
                    yield torch.cat(parts).float()
                    left, needed, parts = left - 1, self._batch_size, []

    def refills(self) -> Iterator[Refill]:
        """The endless sequence of refills, epoch after epoch; needs no features."""
        epoch = 0
        while True:
            order = np.random.default_rng([self._seed, epoch]).permutation(len(self._patches_of_shard))
            group: list[int] = []
            size = number = 0
            for shard in (int(s) for s in order if self._patches_of_shard[s]):
                if group and size + self._patches_of_shard[shard] > self._capacity:
                    yield Refill(tuple(sorted(group)), size, (self._seed, epoch, number))
                    group, size, number = [], 0, number + 1
                group.append(shard)
                size += self._patches_of_shard[shard]
            yield Refill(tuple(sorted(group)), size, (self._seed, epoch, number))
            epoch += 1

    def _fill(self, refill: Refill) -> torch.Tensor:
        buffer = torch.empty(refill.n_patches, self._store.info.d_model, dtype=DTYPES[self._store.dtype])
        end = 0
        for index in refill.shards:
            features = _features_of(self._store.shard(index), self._chosen)
            buffer[end : end + len(features)] = features
            end += len(features)
        return buffer


@dataclass(frozen=True)
class Moments:
    """Mean and size of features, in float64."""

    n_patches: int
    mean: torch.Tensor
    """`[d_model]`, float64."""
    mean_squared_norm: float
    """Mean over patches of |x|^2."""

    @property
    def mean_squared_deviation(self) -> float:
        """Mean over patches of |x - mean|^2: the error of a dictionary that knows the mean only."""
        return self.mean_squared_norm - float(self.mean @ self.mean)


def moments(store: FeatureStore, specimens: ArrayLike) -> Moments:
    """Mean and mean squared norm of the patches of some specimens, one shard in memory at a time.

    Args:
        store: the features.
        specimens: rows in the collection `[n]`.

    Raises:
        StoreError: the store has no patches of these specimens.
    """
    chosen = _membership(store, specimens)
    total = torch.zeros(store.info.d_model, dtype=torch.float64)
    squares, n_patches = 0.0, 0
    for shard in store.shards():
        features = _features_of(shard, chosen)
        total += features.sum(dim=0, dtype=torch.float64)
        squares += float(features.square().sum(dtype=torch.float64))
        n_patches += len(features)
    if not n_patches:
        raise StoreError(f"{store.folder} has no patches of the specimens to train on")
    return Moments(n_patches, total / n_patches, squares / n_patches)


def _membership(store: FeatureStore, specimens: ArrayLike) -> NDArray[np.bool_]:
    """Whether each row of the collection takes part `[n_specimens]`."""
    chosen = np.zeros(store.n_specimens, dtype=bool)
    chosen[np.asarray(specimens, dtype=np.int64)] = True
    return chosen


def _features_of(shard: FeatureShard, chosen: NDArray[np.bool_]) -> torch.Tensor:
    """The features of a shard's specimens that take part, float32 `[n, d_model]`."""
    own = np.repeat(chosen[shard.specimens], np.diff(shard.offsets))
    return shard.features if own.all() else shard.features[torch.from_numpy(own)]
