"""Shuffled batches: every patch once an epoch, the same order again, from any step, in bounded memory."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import data, integers, lists
from tiny_stores import write_store

from sae_traits.errors import StoreError
from sae_traits.features.stream import PatchStream, moments


@pytest.fixture(scope="module")
def make_store(tmp_path_factory):
    return lambda shards, **options: write_store(tmp_path_factory.mktemp("store"), shards, **options)


def identities(batches) -> list[tuple[int, int]]:
    """(specimen, patch) of every row."""
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
        assert refill.n_patches <= capacity or len(refill.shards) == 1

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


def test_batches_mix_specimens_and_epochs_differ(make_store):
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


def test_moments_are_those_of_the_chosen_specimens(make_store):
    store = make_store([[30, 20], [10], [40, 5]], d_model=6)
    features = torch.cat([shard.of(i)[0] for shard, i in zip(store.shards(), (1, 0, 0), strict=True)]).double()
    found = moments(store, [1, 2, 3])
    mean = features.mean(dim=0)
    assert found.n_patches == 70
    assert found.mean.dtype == torch.float64
    torch.testing.assert_close(found.mean, mean, rtol=1e-12, atol=1e-12)
    assert found.mean_squared_norm == pytest.approx(float(features.square().sum(dim=1).mean()), rel=1e-6)
    assert found.mean_squared_deviation == pytest.approx(float((features - mean).square().sum(dim=1).mean()), rel=1e-6)


def test_without_patches_there_is_nothing_to_train_on(make_store):
    store = make_store([[3]])
    for use in (lambda: PatchStream(store, [], n_patches=1, batch_size=1), lambda: moments(store, np.array([]))):
        with pytest.raises(StoreError, match="has no patches of the specimens to train on"):
            use()
