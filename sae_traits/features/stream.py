"""Shuffled training batches, from a store that is larger than memory or straight from images, and their moments.

Parts of a source (shards, or images) meet in a bounded buffer, and their patches leave it in a random order. Which
parts meet and in which order their patches leave are functions of the seed alone, known without any features. A stream
can therefore begin at any step: what comes before it is counted, not read.
"""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sae_traits.errors import StoreError
from sae_traits.features.source import FeatureSource
from sae_traits.features.store import Fill

BUFFER_BYTES = 512 * 2**20
"""Features that are shuffled together; more mixes better, and one part is the least."""
BATCHES_AHEAD = 2
"""Batches that are ready before the trainer asks for them."""
_PATCHES_AT_ONCE = 2**16
_NO_PATCHES = "the collection has no patches of the images to train on; look at how it is split"

Item = TypeVar("Item")


@dataclass(frozen=True)
class Refill:
    """One filling of the buffer: some parts, and the seed of the order in which their patches leave it."""

    parts: tuple[int, ...]
    """Ascending, so that the same parts make the same buffer."""
    n_patches: int
    seed: tuple[int, ...]


@dataclass(frozen=True)
class Visit:
    """What the steps of a stream need of one refill."""

    refill: Refill
    first: int
    """Place in the refill's order where the stream begins …"""
    end: int
    """… and where it has enough."""
    is_held: bool
    """The buffer holds these parts already, from the visit before."""


class PatchStream:
    """Iterates shuffled float32 batches `[batch_size, d_model]` of the patches of some images, epoch after epoch.

    Each epoch permutes the parts, fills a bounded buffer with as many as fit, permutes the patches in it, empties it
    and goes on; every patch comes once per epoch, and batches run across refills and epochs. The order is a function of
    the seed alone, and any step can be reached without the features that come before its refill: batch t of a stream
    that starts at step s is batch t of one that starts at 0. Each iteration starts again at `start`.

    Two background threads work ahead: one fills the next buffer while the other draws batches from this one. Memory:
    two buffers (one where everything fits into it) and BATCHES_AHEAD + 1 batches more than the trainer holds. The
    threads end when the iterator is dropped, and what goes wrong in them is raised where the batches are used.
    """

    def __init__(
        self,
        source: FeatureSource,
        rows: ArrayLike,
        *,
        n_patches: int,
        batch_size: int,
        seed: int = 0,
        start: int = 0,
        buffer_bytes: int = BUFFER_BYTES,
        device: torch.device | str = "cpu",
    ) -> None:
        """A stream over some images of a source.

        Args:
            rows: of the images in the collection that take part `[n]`, for example the train split.
            n_patches: how many patches in all, counted with repetition, rounded up to whole batches.
            start: step to begin at, when training resumes.
            buffer_bytes: size of one of the two buffers, in the storage dtype of the source.
            device: where buffers and batches lie; for features straight from images best where the backbone runs.

        Raises:
            StoreError: there are no patches of these images; while iterating, a shard is not what was written.
            CollectionError: while iterating: an image cannot be read any more, or has changed.
        """
        self._parts = source.parts(rows)
        if not self._parts.n_patches.sum():
            raise StoreError(_NO_PATCHES)
        self.n_steps = -(-n_patches // batch_size)
        self.start = start
        self._batch_size, self._seed = batch_size, seed
        self._capacity = buffer_bytes // (self._parts.d_model * self._parts.dtype.itemsize)
        self._device = torch.device(device)

    def __len__(self) -> int:
        """Steps that are left, from `start` on."""
        return max(0, self.n_steps - self.start)

    def __iter__(self) -> Generator[Tensor]:
        """Yield the batches of the steps `start` to `n_steps`; closing the generator ends the threads at once."""
        abandoned = Event()
        parts_of_fillings = (visit.refill.parts for visit in self.visits() if not visit.is_held)
        fill = self._parts.filler(parts_of_fillings, abandoned)
        return prefetch(self._batches(fill, abandoned), BATCHES_AHEAD, abandoned)

    def refills(self) -> Iterator[Refill]:
        """Yield the endless sequence of refills, epoch after epoch."""
        epoch = 0
        while True:
            order = np.random.default_rng([self._seed, epoch]).permutation(len(self._parts.n_patches))
            order = order[self._parts.n_patches[order] > 0]
            ends = np.cumsum(self._parts.n_patches[order])
            first = number = 0
            while first < len(order):
                before = ends[first - 1] if first else 0
                last = max(first + 1, int(np.searchsorted(ends, before + self._capacity, side="right")))
                parts = tuple(np.sort(order[first:last]).tolist())
                yield Refill(parts, int(ends[last - 1] - before), (self._seed, epoch, number))
                first, number = last, number + 1
            epoch += 1

    def visits(self) -> Iterator[Visit]:
        """Yield the refills that the steps `start` to `n_steps` need."""
        skipped, left = self.start * self._batch_size, len(self) * self._batch_size
        held: tuple[int, ...] = ()
        for refill in self.refills():
            if not left:
                return
            if skipped >= refill.n_patches:
                skipped -= refill.n_patches
                continue
            end = min(refill.n_patches, skipped + left)
            yield Visit(refill, skipped, end, is_held=refill.parts == held)
            left -= end - skipped
            skipped, held = 0, refill.parts

    def _fillings(self, fill: Fill) -> Generator[tuple[Tensor, Tensor]]:
        """Yield for every visit the filled buffer, and the rows that leave it in their order."""
        largest = max(min(self._capacity, int(self._parts.n_patches.sum())), int(self._parts.n_patches.max()))
        # Memory that is used again and again: new memory of this size costs more time than filling it.
        current, spare = self._empty(0), self._empty(0)
        for visit in self.visits():
            refill = visit.refill
            if not visit.is_held:
                current, spare = spare, current
                if not len(current):
                    current = self._empty(largest)
                fill(refill.parts, current[: refill.n_patches])
            order = np.random.default_rng(refill.seed).permutation(refill.n_patches)[visit.first : visit.end]
            yield current, torch.from_numpy(order).to(self._device)

    def _empty(self, n_patches: int) -> Tensor:
        return torch.empty(n_patches, self._parts.d_model, dtype=self._parts.dtype, device=self._device)

    def _batches(self, fill: Fill, abandoned: Event) -> Generator[Tensor]:
        missing, pieces = self._batch_size, []
        # One filling ahead: the buffer that is filled next is the one that the consumer has just done with.
        for buffer, order in prefetch(self._fillings(fill), 1, abandoned):
            while len(order):
                rows, order = order[:missing], order[missing:]
                pieces.append(buffer.index_select(0, rows))
                missing -= len(rows)
                if not missing:
                    yield (torch.cat(pieces) if len(pieces) > 1 else pieces[0]).float()
                    missing, pieces = self._batch_size, []


def prefetch(items: Generator[Item], ahead: int, abandoned: Event) -> Generator[Item]:
    """Yield the items of a generator, made by a thread that is at most `ahead` items further than the consumer.

    What goes wrong in the thread is raised here, when its turn has come. The thread starts with the first item and ends
    with the last one, or when this generator is closed or dropped; `items`, none of which is None, is closed with it,
    and `abandoned` is set, so that an item which takes long can be given up half made.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    with closing(items):
        try:
            upcoming = deque(thread.submit(next, items, None) for _ in range(ahead))
            while (item := upcoming.popleft().result()) is not None:
                upcoming.append(thread.submit(next, items, None))
                yield item
        finally:
            abandoned.set()
            thread.shutdown(cancel_futures=True)


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
        deviation = self.mean_squared_norm - float(self.mean @ self.mean)
        return max(deviation, 0.0)  # rounding can make nothing a little less; NaN, which comes first, stays


def moments(source: FeatureSource, rows: ArrayLike, *, max_images: int | None = None) -> Moments:
    """Compute the mean and mean squared norm of the patches of some images, one shard in memory at a time.

    Reading a store the first time compares the checksums of its shards, so a training that begins with its moments
    finds a damaged shard before it has spent any time.

    `rows` are those of the images in the collection `[n]`, of which `max_images` takes a random sample, the same each
    time.

    Raises:
        StoreError: there are no patches of these images, or a shard is not what was written.
        CollectionError: an image cannot be read any more, or has changed.
    """
    chosen = np.unique(np.asarray(rows, dtype=np.int64))
    if max_images is not None:
        chosen = np.random.default_rng(0).permutation(chosen)[:max_images]
    total = torch.zeros(source.info.d_model, dtype=torch.float64)
    squares, n_patches = 0.0, 0
    for shard in source.shards(chosen):
        for features in shard.features.split(_PATCHES_AT_ONCE):
            total += features.sum(dim=0, dtype=torch.float64)
            squares += float(features.square().sum(dtype=torch.float64))
            n_patches += len(features)
    if not n_patches:
        raise StoreError(_NO_PATCHES)
    return Moments(len(chosen), n_patches, total / n_patches, squares / n_patches)
