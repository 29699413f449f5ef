"""Shuffled batches: every patch once an epoch, the same order again, from any step, in bounded memory."""

from __future__ import annotations

import gc
import multiprocessing
import threading
import time
from collections import Counter
from itertools import islice
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import data, integers, lists
from tiny_collections import TinyBackbone, make_collection
from tiny_stores import write_store

from sae_traits.errors import CollectionError, StoreError
from sae_traits.features.source import ImageSource
from sae_traits.features.store import FeatureShard, FeatureStore, Parts
from sae_traits.features.stream import BATCHES_AHEAD, Moments, PatchStream, moments, prefetch


@pytest.fixture(scope="module")
def make_store(tmp_path_factory):
    return lambda shards, **options: write_store(tmp_path_factory.mktemp("store"), shards, **options)


def identities(batches) -> list[tuple[int, int]]:
    """(image, patch) of every row."""
    return [(int(row[0]), int(row[1])) for batch in batches for row in batch]


@given(
    shards=lists(lists(integers(1, 7), min_size=1, max_size=4), min_size=1, max_size=5),
    batch_size=integers(1, 9),
    capacity=integers(1, 30),
    random=data(),
)
@settings(max_examples=40, deadline=None)
def test_every_chosen_patch_comes_once_an_epoch(make_store, shards, batch_size, capacity, random):
    counts = [n for shard in shards for n in shard]
    chosen = random.draw(lists(integers(0, len(counts) - 1), min_size=1, unique=True))
    expected = {(s, p) for s in chosen for p in range(counts[s])}
    store = make_store(shards)
    n_patches = 3 * len(expected)
    stream = PatchStream(
        store, chosen, n_patches=n_patches, batch_size=batch_size, seed=1, buffer_bytes=capacity * 4 * 4
    )
    batches = list(stream)
    assert len(batches) == len(stream) == -(-n_patches // batch_size)
    assert all(batch.shape == (batch_size, 4) and batch.dtype == torch.float32 for batch in batches)
    seen = identities(batches)
    for epoch in range(3):
        assert set(seen[epoch * len(expected) : (epoch + 1) * len(expected)]) == expected
    assert max(Counter(seen[:n_patches]).values()) == 3

    # Memory: a refill fits into the buffer, unless a single shard does not.
    for refill in islice(stream.refills(), 6):
        assert refill.n_patches <= capacity or len(refill.parts) == 1

    start = random.draw(integers(0, len(batches)))
    resumed = PatchStream(
        store,
        chosen,
        n_patches=n_patches,
        batch_size=batch_size,
        seed=1,
        start=start,
        buffer_bytes=capacity * 4 * 4,
    )
    assert len(resumed) == len(batches) - start
    assert all(torch.equal(a, b) for a, b in zip(resumed, batches[start:], strict=True))


def test_the_seed_and_nothing_else_decides_the_order(make_store):
    store = make_store([[20, 20], [20], [20, 20]])

    def order(seed: int) -> list[tuple[int, int]]:
        return identities(PatchStream(store, range(5), n_patches=100, batch_size=10, seed=seed))

    assert order(3) == order(3)
    assert order(3) != order(4)
    stream = PatchStream(store, range(5), n_patches=100, batch_size=10, seed=3)
    assert identities(stream) == identities(stream) == order(3)


def test_the_order_is_the_one_that_older_trainings_began_with(make_store):
    """Written down from the first version of the stream: a training that resumes must go on with the same batches."""
    store = make_store([[3, 2], [4], [1, 2]])
    stream = PatchStream(store, [0, 2, 3, 4], n_patches=12, batch_size=4, seed=7, buffer_bytes=5 * 16)
    expected = [(0, 0), (0, 2), (0, 1), (3, 0), (4, 1), (4, 0), (2, 2), (2, 3), (2, 0), (2, 1), (0, 0), (0, 2)]
    assert identities(stream) == expected


def test_batches_mix_images_and_epochs_differ(make_store):
    store = make_store([[50] * 5] * 4)
    batches = list(PatchStream(store, range(20), n_patches=2000, batch_size=100))
    assert all(len({s for s, _ in identities([batch])}) > 12 for batch in batches)
    assert identities(batches[:10]) != identities(batches[10:])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_small_precisions_are_widened(make_store, dtype):
    store = make_store([[5, 5]], dtype=dtype)
    (batch,) = PatchStream(store, [1], n_patches=5, batch_size=5)
    assert batch.dtype == torch.float32
    assert {p for _, p in identities([batch])} == set(range(5))


def test_a_stream_that_is_over_gives_nothing(make_store):
    assert list(PatchStream(make_store([[4]]), [0], n_patches=8, batch_size=4, start=2)) == []


def test_moments_are_those_of_the_chosen_images(make_store):
    store = make_store([[30, 20], [10], [40, 5]], d_model=6)
    features = torch.cat([shard.of(i)[0] for shard, i in zip(store.shards(), (1, 0, 0), strict=True)]).double()
    found = moments(store, [1, 2, 3])
    mean = features.mean(dim=0)
    assert found.n_patches == 70
    assert found.mean.dtype == torch.float64
    torch.testing.assert_close(found.mean, mean, rtol=1e-12, atol=1e-12)
    assert found.mean_squared_norm == pytest.approx(float(features.square().sum(dim=1).mean()), rel=1e-6)
    assert found.mean_squared_deviation == pytest.approx(float((features - mean).square().sum(dim=1).mean()), rel=1e-6)


def test_features_that_are_all_the_same_deviate_by_nothing_or_hardly_more_and_nan_by_nan():
    for value in np.linspace(0.1, 9, 40, dtype=np.float32):
        shard = FeatureShard(np.array([0]), np.array([0, 300]), np.arange(300), torch.full((300, 7), float(value)))
        source = SimpleNamespace(info=SimpleNamespace(d_model=7), shards=lambda rows, shard=shard: [shard])
        assert 0 <= moments(source, [0]).mean_squared_deviation < 1e-6 * value**2  # pyright: ignore[reportArgumentType]
    assert np.isnan(Moments(1, 1, torch.zeros(2, dtype=torch.float64), float("nan")).mean_squared_deviation)


def test_without_patches_there_is_nothing_to_train_on(make_store):
    store = make_store([[3]])
    for use in (lambda: PatchStream(store, [], n_patches=1, batch_size=1), lambda: moments(store, np.array([]))):
        with pytest.raises(StoreError, match="has no patches of the images to train on"):
            use()


@pytest.mark.parametrize("rows", [[0, 1, 2], [2]])
def test_a_damaged_shard_is_named_before_and_while_training(tmp_path, rows):
    write_store(tmp_path, [[3, 4], [5]])
    shard = tmp_path / "shard-00001.safetensors"
    content = bytearray(shard.read_bytes())
    content[-3] ^= 64
    shard.write_bytes(content)
    store = FeatureStore.open(tmp_path)
    with pytest.raises(StoreError, match=r"shard-00001\.safetensors has changed.*; delete it and run the extraction"):
        moments(store, rows)
    stream = PatchStream(store, rows, n_patches=100, batch_size=2, buffer_bytes=0)
    with pytest.raises(StoreError, match=r"shard-00001\.safetensors has changed.*; delete it and run the extraction"):
        list(stream)
    assert len(moments(store, [0, 1]).mean) == 4  # the other shard is whole


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    return make_collection(tmp_path_factory.mktemp("images"), 9)


def rows_of(batches) -> Counter[tuple[float, ...]]:
    return Counter(tuple(row.tolist()) for batch in batches for row in batch)


@given(chosen=lists(integers(0, 8), min_size=1, unique=True), batch_size=integers(1, 40), capacity=integers(1, 200))
@settings(max_examples=15, deadline=None)
def test_every_chosen_patch_of_the_images_comes_once_an_epoch(collection, chosen, batch_size, capacity):
    source = ImageSource(collection, TinyBackbone(), image_batch_size=2, workers=0)
    expected = torch.cat([shard.features for shard in source.shards(chosen)])
    stream = PatchStream(source, chosen, n_patches=2 * len(expected), batch_size=batch_size, buffer_bytes=capacity * 16)
    batches = list(stream)
    assert len(batches) == len(stream) == -(-2 * len(expected) // batch_size)
    assert all(batch.shape == (batch_size, 4) and batch.dtype == torch.float32 for batch in batches)
    patches = torch.cat(batches)
    for epoch in patches.split(len(expected))[:2]:
        assert rows_of([epoch]) == rows_of([expected])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_stream_gives_the_same_batches_and_opens_no_earlier_image(tmp_path, workers):
    collection = make_collection(tmp_path, 9)

    def stream(start: int) -> PatchStream:
        source = ImageSource(collection, TinyBackbone(), image_batch_size=2, workers=workers)
        return PatchStream(source, range(1, 9), n_patches=150, batch_size=10, seed=2, start=start, buffer_bytes=24 * 16)

    batches = list(stream(0))
    for start in (0, 3, 7, 14, 15):
        assert all(torch.equal(a, b) for a, b in zip(stream(start), batches[start:], strict=True))
    start = 14
    needed = {row for visit in stream(start).visits() for row in visit.refill.parts}
    others = set(range(9)) - needed
    assert len(others) > 2
    for row in others:
        collection.path(collection.images[row]).unlink()
    assert all(torch.equal(a, b) for a, b in zip(stream(start), batches[start:], strict=True))
    with pytest.raises(CollectionError, match="cannot be read any more"):
        list(stream(0))


def test_images_that_fit_into_the_buffer_are_computed_once(collection):
    backbone = TinyBackbone()
    source = ImageSource(collection, backbone, image_batch_size=4, workers=0, storage_dtype="bfloat16")
    stream = PatchStream(source, range(9), n_patches=2000, batch_size=50)
    batches = list(stream)
    assert backbone.encoded == [4, 4, 1]
    assert rows_of(batches[:2]) != rows_of(batches[2:4])
    assert torch.equal(batches[0], batches[0].bfloat16().float())
    assert all(batch.dtype == torch.float32 for batch in batches)


def test_a_stream_from_images_that_is_dropped_stops_and_leaves_nothing_behind(collection):
    """Its buffer is filled half way only, though a refill on a slow device may take minutes."""

    class SlowBackbone(TinyBackbone):
        def encode(self, batch: torch.Tensor) -> torch.Tensor:
            time.sleep(0.02 if self.encoded else 0)
            return super().encode(batch)

    backbone = SlowBackbone()
    source = ImageSource(collection, backbone, image_batch_size=1, workers=1)
    stream = PatchStream(source, range(9), n_patches=10_000, batch_size=1, buffer_bytes=70 * 16)
    assert len(next(stream.refills()).parts) > 3
    batches = iter(stream)
    next(batches)
    assert multiprocessing.active_children()
    del batches
    gc.collect()
    assert len(backbone.encoded) < 9
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_is_gone_stops_the_stream_with_its_name(tmp_path, workers):
    collection = make_collection(tmp_path, 5)
    (tmp_path / "003.png").unlink()
    source = ImageSource(collection, TinyBackbone(), workers=workers)
    with pytest.raises(CollectionError, match=r"003\.png cannot be read any more"):
        list(PatchStream(source, range(5), n_patches=100, batch_size=10))
    assert not multiprocessing.active_children()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_stream_on_a_gpu_gives_the_same_batches(collection, make_store):
    source = ImageSource(collection, TinyBackbone(), image_batch_size=2, workers=2)
    store = make_store([[5, 9], [20], [6, 6, 6]])

    def batches(device: str, kind: str) -> list[torch.Tensor]:
        if kind == "images":
            return list(PatchStream(source, range(5), n_patches=500, batch_size=7, start=3, device=device))
        return list(PatchStream(store, range(5), n_patches=500, batch_size=7, start=3, buffer_bytes=320, device=device))

    for kind in ("images", "store"):
        on_gpu, on_cpu = batches("cuda", kind), batches("cpu", kind)
        assert on_gpu[0].device.type == "cuda"
        assert all(torch.equal(a.cpu(), b) for a, b in zip(on_gpu, on_cpu, strict=True))


PATCHES = np.array([5, 3, 8, 2, 6, 4])
FIRST = np.concatenate([[0], np.cumsum(PATCHES)])


class Numbers:
    """A source of the numbers 0, 1, 2 …, one per patch; it remembers what was filled."""

    def __init__(self, patches=PATCHES):
        self.patches = patches
        self.filled: list[tuple[int, ...]] = []
        self.memory: set[int] = set()
        self.twice = Event()

    def parts(self, rows):
        return Parts(self.patches, 1, torch.float32, self.filler)

    def filler(self, fillings, abandoned):
        def fill(parts, buffer):
            numbers = [FIRST[part] + i for part in parts for i in range(PATCHES[part])]
            assert len(numbers) == len(buffer)
            buffer[:, 0] = torch.tensor(numbers)
            self.filled.append(parts)
            self.memory.add(buffer.data_ptr())
            if len(self.filled) == 2:
                self.twice.set()

        return fill

    def stream(self, *, capacity: int, n_patches: int = 60, batch_size: int = 4, start: int = 0):
        return PatchStream(
            cast(Any, self), [], n_patches=n_patches, batch_size=batch_size, start=start, buffer_bytes=capacity * 4
        )


def test_two_buffers_are_used_again_and_again():
    source = Numbers()
    stream = source.stream(capacity=10, n_patches=280)
    numbers = torch.cat(list(stream)).flatten().tolist()
    assert len(source.filled) > 20
    assert len(source.memory) == 2
    for epoch in range(10):
        assert sorted(numbers[epoch * 28 : (epoch + 1) * 28]) == list(range(28))


def test_a_collection_that_fits_is_read_once_and_kept_once():
    source = Numbers()
    stream = source.stream(capacity=28, n_patches=280)
    assert len(list(stream)) == 70
    assert source.filled == [(0, 1, 2, 3, 4, 5)]


def test_the_next_buffer_is_filled_while_this_one_is_used():
    source = Numbers()
    stream = source.stream(capacity=14, batch_size=1)
    batches = iter(stream)
    next(batches)
    assert source.twice.wait(10)
    assert len(source.filled) == 2
    batches.close()
    assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())


def test_only_the_parts_that_the_steps_need_are_filled():
    source = Numbers()
    whole = source.stream(capacity=10)
    batches = list(whole)
    refills = [visit.refill.parts for visit in whole.visits() if not visit.is_held]
    assert source.filled == refills
    again = Numbers()
    resumed = again.stream(capacity=10, start=9)
    assert torch.equal(torch.cat(list(resumed)), torch.cat(batches[9:]))
    assert again.filled == refills[-len(again.filled) :]
    assert len(again.filled) < len(refills)


@given(
    patches=lists(integers(0, 9), min_size=1, max_size=12).filter(any),
    capacity=integers(0, 40),
    n_patches=integers(1, 200),
    batch_size=integers(1, 20),
    start=integers(0, 30),
)
def test_visits_cover_exactly_the_steps_that_are_left(patches, capacity, n_patches, batch_size, start):
    source = Numbers(np.array(patches))
    stream = source.stream(capacity=capacity, n_patches=n_patches, batch_size=batch_size, start=start)
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
    source = Numbers()
    stream = source.stream(capacity=100, n_patches=10_000, batch_size=batch_size)
    batches = iter(stream)
    first = next(batches)
    assert first.shape == (batch_size, 1)
    assert len(stream) > BATCHES_AHEAD
    batches.close()
    assert len(source.filled) == 1


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def wait_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("ahead", [1, 3, 50])
def test_the_items_come_in_their_order_and_the_thread_ends(ahead):
    assert list(prefetch((i for i in range(20)), ahead, Event())) == list(range(20))
    assert threads() == []


@pytest.mark.parametrize("ahead", [1, 4])
def test_no_more_items_are_made_than_stated(ahead):
    made = []

    def items():
        for i in range(100):
            made.append(i)
            yield i

    ahead_of_us = prefetch(items(), ahead, Event())
    for i in range(3):
        assert next(ahead_of_us) == i
        wait_until(lambda i=i: len(made) == i + 1 + ahead)
        time.sleep(0.02)
        assert len(made) == i + 1 + ahead


def test_an_error_comes_in_its_turn():
    def items():
        yield 1
        yield 2
        raise OSError("the disk is gone")

    ahead_of_us = prefetch(items(), 5, Event())
    assert [next(ahead_of_us), next(ahead_of_us)] == [1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(ahead_of_us)
    assert threads() == []


@pytest.mark.parametrize("how", ["close", "drop"])
def test_the_thread_ends_when_no_one_wants_the_items(how):
    abandoned, closed = Event(), Event()

    def items():
        try:
            yield 1
            assert abandoned.wait(10)  # an item that takes long, and is given up
            yield 2
        finally:
            closed.set()

    ahead_of_us = prefetch(items(), 2, abandoned)
    assert next(ahead_of_us) == 1
    assert len(threads()) == 1
    if how == "close":
        ahead_of_us.close()
    else:
        del ahead_of_us
        gc.collect()
    assert closed.is_set()
    assert threads() == []
