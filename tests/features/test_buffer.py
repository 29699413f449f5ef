"""The mixing buffer: how much memory it takes, what it does ahead, and which parts it asks for."""

from __future__ import annotations

import threading
from threading import Event

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.strategies import integers, lists

from sae_traits.features.buffer import BATCHES_AHEAD, MixedStream

PATCHES = np.array([5, 3, 8, 2, 6, 4])
FIRST = np.concatenate([[0], np.cumsum(PATCHES)])


class Numbers(MixedStream):
    """A stream of the numbers 0, 1, 2 …, one a patch; it remembers what was filled."""

    def __init__(self, *, capacity: int, n_patches: int = 60, batch_size: int = 4, start: int = 0, patches=PATCHES):
        super().__init__(
            patches,
            1,
            n_patches=n_patches,
            batch_size=batch_size,
            seed=0,
            start=start,
            buffer_bytes=capacity * 4,
            dtype=torch.float32,
            device="cpu",
        )
        self.filled: list[tuple[int, ...]] = []
        self.memory: set[int] = set()
        self.twice = Event()

    def _filler(self, abandoned):
        def fill(parts, buffer):
            numbers = [FIRST[part] + i for part in parts for i in range(PATCHES[part])]
            assert len(numbers) == len(buffer)
            buffer[:, 0] = torch.tensor(numbers)
            self.filled.append(parts)
            self.memory.add(buffer.data_ptr())
            if len(self.filled) == 2:
                self.twice.set()

        return fill


def test_two_buffers_are_used_again_and_again():
    stream = Numbers(capacity=10, n_patches=280)
    numbers = torch.cat(list(stream)).flatten().tolist()
    assert len(stream.filled) > 20
    assert len(stream.memory) == 2
    for epoch in range(10):
        assert sorted(numbers[epoch * 28 : (epoch + 1) * 28]) == list(range(28))


def test_a_collection_that_fits_is_read_once_and_kept_once():
    stream = Numbers(capacity=28, n_patches=280)
    assert len(list(stream)) == 70
    assert stream.filled == [(0, 1, 2, 3, 4, 5)]


def test_the_next_buffer_is_filled_while_this_one_is_used():
    stream = Numbers(capacity=14, batch_size=1)
    batches = iter(stream)
    next(batches)
    assert stream.twice.wait(10)
    assert len(stream.filled) == 2
    batches.close()
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


def test_only_the_parts_that_the_steps_need_are_filled():
    whole = Numbers(capacity=10)
    batches = list(whole)
    refills = [visit.refill.parts for visit in whole.visits() if not visit.is_held]
    assert whole.filled == refills
    resumed = Numbers(capacity=10, start=9)
    assert torch.equal(torch.cat(list(resumed)), torch.cat(batches[9:]))
    assert resumed.filled == refills[-len(resumed.filled) :]
    assert len(resumed.filled) < len(refills)


@given(
    patches=lists(integers(0, 9), min_size=1, max_size=12).filter(any),
    capacity=integers(0, 40),
    n_patches=integers(1, 200),
    batch_size=integers(1, 20),
    start=integers(0, 30),
)
def test_visits_cover_exactly_the_steps_that_are_left(patches, capacity, n_patches, batch_size, start):
    stream = Numbers(
        capacity=capacity, n_patches=n_patches, batch_size=batch_size, start=start, patches=np.array(patches)
    )
    visits = list(stream.visits())
    assert sum(visit.end - visit.first for visit in visits) == len(stream) * batch_size
    assert all(visit.first == 0 for visit in visits[1:])
    assert all(visit.end == visit.refill.n_patches for visit in visits[:-1])
    held: tuple[int, ...] = ()
    for visit in visits:
        assert visit.is_held == (visit.refill.parts == held)
        assert visit.refill.n_patches == sum(patches[part] for part in visit.refill.parts)
        assert visit.refill.n_patches <= capacity or len(visit.refill.parts) == 1
        held = visit.refill.parts


@pytest.mark.parametrize("batch_size", [3, 30])
def test_batches_are_made_ahead_but_not_without_end(batch_size):
    stream = Numbers(capacity=100, n_patches=10_000, batch_size=batch_size)
    batches = iter(stream)
    first = next(batches)
    assert first.shape == (batch_size, 1)
    assert len(stream) > BATCHES_AHEAD
    batches.close()
    assert len(stream.filled) == 1
