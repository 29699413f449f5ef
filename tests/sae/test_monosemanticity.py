import json
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_saes import D_MODEL, features, random_sae
from scipy.sparse import coo_array, csr_array

from sae_traits import SAE, SAEConfig
from sae_traits.features.store import FeatureShard
from sae_traits.sae.monosemanticity import (
    LATENTS_AT_ONCE,
    mean_similarity,
    measure_monosemanticity,
    monosemanticity,
    pool,
    strongest_activations,
)


def score_by_pairs(embeddings, activations):
    """The definition: every pair of images, one latent at a time."""
    scores = []
    for a in activations.T:
        span = a.max() - a.min()
        a = (a - a.min()) / span if span > 0 else 0 * a
        total = weight = 0.0
        for i, j in combinations(range(len(a)), 2):
            lengths = np.linalg.norm(embeddings[i]) * np.linalg.norm(embeddings[j])
            total += a[i] * a[j] * (embeddings[i] @ embeddings[j] / lengths if lengths else 0.0)
            weight += a[i] * a[j]
        scores.append(total / weight if weight else np.nan)
    return np.array(scores)


def shards_of(counts_of_shards, seed=0):
    generator = torch.Generator().manual_seed(seed)
    first = 0
    for counts in counts_of_shards:
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        x = torch.randn(int(offsets[-1]), D_MODEL, generator=generator)
        patches = np.concatenate([np.arange(n, dtype=np.int32) for n in counts])
        yield FeatureShard(np.arange(first, first + len(counts)), offsets, patches, x)
        first += len(counts)


@given(n=st.integers(2, 12), n_latents=st.integers(1, 6), active=st.floats(0.1, 1), seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_the_closed_form_is_the_mean_over_pairs(n, n_latents, active, seed):
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(n, 3)) * rng.integers(0, 4, size=(n, 1))
    activations = rng.uniform(0.01, 5, size=(n, n_latents)) * (rng.random((n, n_latents)) < active)
    expected = score_by_pairs(embeddings, activations)
    dense = monosemanticity(embeddings, activations)
    np.testing.assert_allclose(dense, expected, atol=1e-9)
    for layout in (csr_array, coo_array):
        np.testing.assert_array_equal(monosemanticity(embeddings, layout(activations)), dense)


def test_a_latent_of_alike_images_scores_one_and_of_unlike_ones_less():
    embeddings = np.array([[1.0, 0], [2, 0], [3, 0], [0, 1], [0, 5], [-1, 0]])
    activations = np.array([[1.0, 1, 1, 0, 0, 7], [9, 0, 0, 0, 0, 7], [4, 0, 0, 0, 3, 7],
                            [0, 1, 0, 0, 0, 7], [0, 0, 0, 0, 0, 7], [0, 0, 1, 0, 0, 7]])  # fmt: skip
    scores = monosemanticity(embeddings, activations)
    assert scores[:3].tolist() == pytest.approx([1, 0, -1])
    assert np.isnan(scores[3:]).all()  # never active, active once, active everywhere alike


def test_scores_do_not_depend_on_the_scale_of_a_latent_or_on_the_blocks():
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(20, 4))
    activations = rng.random((20, 3)) * (rng.random((20, 3)) < 0.6)
    many = csr_array(np.tile(activations, LATENTS_AT_ONCE) * rng.uniform(0.01, 100, 3 * LATENTS_AT_ONCE))
    np.testing.assert_allclose(
        monosemanticity(embeddings, many), np.tile(monosemanticity(embeddings, activations), LATENTS_AT_ONCE)
    )


def test_negative_activations_and_missing_rows_are_refused():
    with pytest.raises(ValueError, match="zero or positive"):
        monosemanticity(np.eye(2), np.array([[1.0], [-1.0]]))
    with pytest.raises(ValueError, match="2 embeddings, but activations of 3"):
        monosemanticity(np.eye(2), np.ones((3, 1)))


def test_the_mean_similarity_is_that_of_all_pairs():
    embeddings = np.random.default_rng(1).normal(size=(9, 3)) + 1
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    pairs = [unit[i] @ unit[j] for i, j in combinations(range(9), 2)]
    assert mean_similarity(embeddings) == pytest.approx(np.mean(pairs))
    assert np.isnan(mean_similarity(embeddings[:1]))


@pytest.mark.parametrize("architecture", ["topk", "relu", "jump_relu"])
def test_an_sae_is_scored_by_its_strongest_patch_in_each_image(architecture):
    sae = random_sae(architecture)
    counts = [[4, 0, 7], [1, 3], [0]]
    shards = list(shards_of(counts))
    pooled, strongest = [], []
    for shard in shards:
        for i in range(len(shard.images)):
            x, _ = shard.of(i)
            with torch.no_grad():
                strongest.append(sae.encode(x).amax(0).numpy() if len(x) else np.zeros(sae.config.n_latents))
            pooled.append(x.double().mean(0).numpy() if len(x) else np.zeros(D_MODEL))
    measured = measure_monosemanticity(sae, iter(shards))
    np.testing.assert_allclose(measured.scores, score_by_pairs(np.array(pooled), np.array(strongest)), atol=1e-6)
    assert measured.embedding == "features, mean over patches"
    finite = measured.scores[np.isfinite(measured.scores)]
    assert measured.to_dict()["n_scored"] == len(finite) > 10
    assert measured.to_dict()["mean"] == pytest.approx(finite.mean())
    assert measured.mean_with_zeros == pytest.approx(finite.sum() / sae.config.n_latents)
    assert json.loads(json.dumps(measured.to_dict()))["n_scored"] == len(finite)


def test_an_image_that_lies_in_two_tiles_counts_once():
    n_latents = 2**20  # so wide that a tile holds sixteen patches
    sae = SAE.from_config(SAEConfig(architecture="topk", d_model=2, n_latents=n_latents, k=3), seed=0)
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    x = torch.cat([x, 2 * x])  # the same latents again in later tiles, twice as strong
    tiles = [latents for _, latents in sae.encode_tiles(x)]
    assert len(tiles) == 3
    offsets = np.array([0, 10, 38, 40])  # the second image lies in all three
    found = strongest_activations(sae, FeatureShard(np.arange(3), offsets, np.arange(40, dtype=np.int32), x))
    for record, latents in enumerate(torch.cat(tiles).split(np.diff(offsets).tolist())):
        np.testing.assert_array_equal(found[[record]].toarray()[0], latents.amax(0).numpy())


@given(counts=st.lists(st.integers(0, 4), min_size=1, max_size=8))
def test_pooling_is_the_mean_over_an_images_patches(counts):
    x = features(max(1, sum(counts))).numpy()[: sum(counts)]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    means = pool(x, offsets)
    for i, n in enumerate(counts):
        own = x[offsets[i] : offsets[i + 1]].astype(np.float64)
        np.testing.assert_allclose(means[i], own.mean(0) if n else np.zeros(D_MODEL))


def test_no_images_is_an_error():
    with pytest.raises(ValueError, match="no images"):
        measure_monosemanticity(random_sae("topk"), [])
