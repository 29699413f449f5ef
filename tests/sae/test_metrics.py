import json

import numpy as np
import pytest
import torch
from random_saes import N_LATENTS, features, random_sae

from sae_traits import SAE, SAEConfig
from sae_traits.sae.baselines import fit_baseline
from sae_traits.sae.metrics import firing_histogram, measure_sae


@pytest.mark.parametrize("architecture", ["relu", "topk", "batch_topk", "jump_relu"])
def test_measures_equal_the_dense_formulas_whatever_the_batches(architecture):
    sae = random_sae(architecture)
    x = features(101) + 5
    whole = measure_sae(sae, [x])
    parts = measure_sae(sae, [x[:7], x[7:50], x[50:]])
    with torch.no_grad():
        latents = sae.encode(x)
        error = (sae.decode(latents) - x).double()
    variance = (x - x.mean(0)).double().square().sum()
    assert whole.mse == pytest.approx(float(error.square().mean()), rel=1e-6)
    assert whole.explained_variance == pytest.approx(1 - float(error.square().sum() / variance), rel=1e-5)
    assert whole.l0 == pytest.approx(float((latents > 0).sum(1).double().mean()))
    shares = (latents > 0).double().mean(0).numpy()
    assert whole.firing_shares == pytest.approx(shares)
    assert whole.dead_share == pytest.approx((shares == 0).mean())
    assert whole.dense_share == pytest.approx((shares > 0.1).mean())
    for name, value in parts.to_dict().items():
        assert value == pytest.approx(whole.to_dict()[name]), name


@pytest.mark.parametrize("name", ["pca", "nmf", "k_means", "random"])
def test_baselines_are_measured_like_any_other(name):
    x = features(300)
    sae = fit_baseline(name, x, 8, k=3, seed=0)
    measured = measure_sae(sae, [x[:150], x[150:]])
    with torch.no_grad():
        error = (sae(x) - x).double().square().sum()
    variance = (x - x.mean(0)).double().square().sum()
    assert measured.explained_variance == pytest.approx(1 - float(error / variance), abs=1e-3)
    assert sum(measured.firing_histogram.values()) == 8


def test_latents_are_counted_in_decades_of_their_firing_share():
    shares = np.array([0, 0, 1e-7, 1 / 1_000_000, 5e-6, 1 / 1000, 9.99e-3, 0.1, 1.0])
    assert firing_histogram(shares) == {
        "never": 2, "1e-06": 3, "1e-05": 0, "1e-04": 0, "1e-03": 2, "1e-02": 0, "1e-01": 2
    }  # fmt: skip


def test_dead_and_dense_latents_are_told_from_the_others():
    sae = SAE.from_config(SAEConfig(architecture="relu", d_model=2, n_latents=4))
    with torch.no_grad():
        sae.W_enc.copy_(torch.tensor([[1.0, -1, 0, 0], [0, 0, 0, 1]]))
        sae.b_enc.copy_(torch.tensor([0.0, -100, 1, -9.5]))
    x = torch.stack([torch.arange(1.0, 21), torch.tensor([10.0] + 19 * [0.0])], 1)
    measured = measure_sae(sae, [x])
    assert measured.firing_shares.tolist() == [1, 0, 1, 1 / 20]
    assert (measured.dead_share, measured.dense_share, measured.l0) == (0.25, 0.5, 2.05)


def test_the_measures_are_plain_json_and_of_bounded_length():
    measured = measure_sae(random_sae("topk"), [features()])
    plain = measured.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert "firing_shares" not in plain
    assert len(measured.firing_shares) == N_LATENTS


def test_no_patches_is_an_error():
    sae = SAE.from_config(SAEConfig(architecture="relu", d_model=2, n_latents=4))
    with pytest.raises(ValueError, match="no patches"):
        measure_sae(sae, [])
