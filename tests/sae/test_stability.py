from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_traits import SAE, SAEConfig
from sae_traits.errors import CheckpointError
from sae_traits.sae.stability import MATCHED_LATENTS, mean_stability, stability


def sae_of(rows):
    rows = torch.as_tensor(np.asarray(rows), dtype=torch.float32)
    sae = SAE.from_config(SAEConfig(architecture="relu", d_model=rows.shape[1], n_latents=len(rows)))
    with torch.no_grad():
        sae.W_dec.copy_(rows)
    return sae


def random_rows(n, d, seed):
    return np.random.default_rng(seed).normal(size=(n, d))


def cosines(first, second):
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (first, second)]
    return unit[0] @ unit[1].T


@given(seed=st.integers(0, 10_000), n=st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_the_matching_is_the_best_of_all_one_to_one_matchings(seed, n):
    first, second = random_rows(n, 3, seed), random_rows(n, 3, seed + 1)
    alike = cosines(first, second)
    best = max(permutations(range(n)), key=lambda order: sum(alike[i, j] for i, j in enumerate(order)))
    matched = np.array([alike[i, j] for i, j in enumerate(best)])
    found = stability(sae_of(first), sae_of(second))
    assert found.mean_cosine == pytest.approx(matched.mean(), abs=1e-6)
    assert found.share_above_07 == pytest.approx((matched > 0.7).mean())
    assert found.share_above_09 == pytest.approx((matched > 0.9).mean())
    assert found.n_matched == found.n_latents == n


def test_the_order_and_the_length_of_latents_do_not_matter():
    rows = random_rows(50, 8, 0)
    shuffled = rows[np.random.default_rng(1).permutation(50)] * 3
    found = stability(sae_of(rows), sae_of(shuffled))
    assert found.mean_cosine == pytest.approx(1, abs=1e-6)
    assert (found.share_above_07, found.share_above_09) == (1, 1)
    assert stability(sae_of(rows), sae_of(-rows)).mean_cosine < 0.95  # a direction is not its opposite


def test_dead_latents_can_be_left_out():
    common = random_rows(10, 8, 0)
    first = np.concatenate([common, random_rows(5, 8, 1)])
    second = np.concatenate([random_rows(7, 8, 2), common])
    live = np.arange(15) < 10, np.arange(17) >= 7
    assert stability(sae_of(first), sae_of(second)).share_above_09 < 1
    found = stability(sae_of(first), sae_of(second), live=live)
    assert (found.share_above_09, found.n_matched) == (1, 10)
    with pytest.raises(CheckpointError, match="without live latents"):
        stability(sae_of(first), sae_of(second), live=(np.zeros(15, bool), live[1]))


def test_a_sample_of_a_large_dictionary_is_matched_with_all_of_the_other():
    rows = random_rows(MATCHED_LATENTS + 60, 16, 0)
    found = stability(sae_of(rows), sae_of(rows[::-1].copy()), seed=3)
    assert (found.n_matched, found.n_latents) == (MATCHED_LATENTS, MATCHED_LATENTS + 60)
    assert found.mean_cosine == pytest.approx(1, abs=1e-6)


def test_several_seeds_are_compared_in_pairs():
    saes = [sae_of(random_rows(20, 4, seed)) for seed in range(3)]
    pairs = [stability(saes[i], saes[j]) for i, j in [(0, 1), (0, 2), (1, 2)]]
    found = mean_stability(saes)
    assert found.mean_cosine == pytest.approx(np.mean([pair.mean_cosine for pair in pairs]))
    assert found.share_above_07 == pytest.approx(np.mean([pair.share_above_07 for pair in pairs]))
    assert found.n_matched == 60
    live = [np.arange(20) < 10] * 3
    assert mean_stability(saes, live=live).n_matched == 30
    with pytest.raises(ValueError, match="two SAEs or more"):
        mean_stability(saes[:1])


def test_dictionaries_of_other_features_are_refused():
    with pytest.raises(CheckpointError, match="widths 4 and 5"):
        stability(sae_of(random_rows(3, 4, 0)), sae_of(random_rows(3, 5, 0)))
