"""The mixing buffer: parts of a collection are put into it together, and its patches leave it in a random order.

Which parts meet in the buffer and in which order their patches leave it are functions of the seed alone, known without
any features. A stream can therefore begin at any step: what comes before it is counted, not read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from threading import Event

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sae_traits.errors import StoreError
from sae_traits.features.prefetch import prefetch

BUFFER_BYTES = 512 * 2**20
"""Features that are shuffled together; more mixes better, and one part is the least."""
BATCHES_AHEAD = 2
"""Batches that are ready before the trainer asks for them."""

Fill = Callable[[tuple[int, ...], Tensor], None]
"""Puts the features of some parts into a buffer."""


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


class MixedStream(ABC):
    """Iterates shuffled float32 batches `[batch_size, d_model]` of the patches of some parts, epoch after epoch.

    Each epoch permutes the parts, fills a bounded buffer with as many as fit, permutes the patches in it, empties it
    and goes on; every patch comes once an epoch, and batches run across refills and epochs. The order is a function of
    the seed alone, and any step can be reached without the features that come before its refill: batch t of a stream
    that starts at step s is batch t of one that starts at 0. Each iteration starts again at `start`.

    Two background threads work ahead: one fills the next buffer while the other draws batches from this one. Memory:
    two buffers (one where everything fits into it) and BATCHES_AHEAD + 1 batches more than the trainer holds. The
    threads end when the iterator is dropped, and what goes wrong in them is raised where the batches are used.
    """

    def __init__(
        self,
        patches_of_part: NDArray[np.int64],
        d_model: int,
        *,
        n_patches: int,
        batch_size: int,
        seed: int,
        start: int,
        buffer_bytes: int,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        """A stream over parts of so many patches each `[n_parts]`; for the rest see the streams made of this one.

        Raises:
            StoreError: there is not a single patch.
        """
        if not patches_of_part.sum():
            raise StoreError("the collection has no patches of the images to train on; look at how it is split")
        self.n_steps = -(-n_patches // batch_size)
        self.start = start
        self._patches_of_part, self._d_model = patches_of_part, d_model
        self._batch_size, self._seed = batch_size, seed
        self._capacity = buffer_bytes // (d_model * dtype.itemsize)
        self._dtype, self._device = dtype, torch.device(device)

    @abstractmethod
    def _filler(self, abandoned: Event) -> Fill:
        """For one iteration: what puts the features of some parts, one after the other, into `[n_patches, d_model]`.

        It is called, in a background thread, with the parts of every visit whose parts are not held, in their order.
        Where that takes long it looks at `abandoned` and gives up when it is set.
        """

    def __len__(self) -> int:
        """Steps that are left, from `start` on."""
        return max(0, self.n_steps - self.start)

    def __iter__(self) -> Generator[Tensor]:
        """The batches of the steps `start` to `n_steps`; closing the generator ends the threads at once."""
        abandoned = Event()
        return prefetch(self._batches(self._filler(abandoned), abandoned), BATCHES_AHEAD, abandoned)

    def refills(self) -> Iterator[Refill]:
        """The endless sequence of refills, epoch after epoch."""
        epoch = 0
        while True:
            order = np.random.default_rng([self._seed, epoch]).permutation(len(self._patches_of_part))
            order = order[self._patches_of_part[order] > 0]
            ends = np.cumsum(self._patches_of_part[order])
            first = number = 0
            while first < len(order):
                before = ends[first - 1] if first else 0
                last = max(first + 1, int(np.searchsorted(ends, before + self._capacity, side="right")))
                parts = tuple(np.sort(order[first:last]).tolist())
                yield Refill(parts, int(ends[last - 1] - before), (self._seed, epoch, number))
                first, number = last, number + 1
            epoch += 1

    def visits(self) -> Iterator[Visit]:
        """The refills that the steps `start` to `n_steps` need."""
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
        """Of every visit the filled buffer and the rows that leave it, in their order."""
        largest = max(min(self._capacity, int(self._patches_of_part.sum())), int(self._patches_of_part.max()))
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
        return torch.empty(n_patches, self._d_model, dtype=self._dtype, device=self._device)

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
