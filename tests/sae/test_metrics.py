import pytest
import torch

from sae_traits import SAE, SAEConfig
from sae_traits.sae.metrics import measure_sae


def test_measures_equal_the_dense_formulas_whatever_the_batches():
    sae = SAE(SAEConfig(architecture="topk", d_model=8, n_latents=40, k=4), seed=0)
    x = torch.randn(101, 8, generator=torch.Generator().manual_seed(0)) + 5
    whole = measure_sae(sae, [x])
    parts = measure_sae(sae, [x[:7], x[7:50], x[50:]])
    with torch.no_grad():
        latents = sae.encode(x)
        error = (sae.decode(latents) - x).double()
    variance = (x - x.mean(0)).double().square().sum()
    assert whole.mse == pytest.approx(float(error.square().mean()), rel=1e-6)
    assert whole.explained_variance == pytest.approx(1 - float(error.square().sum() / variance), rel=1e-5)
    assert whole.l0 == pytest.approx(float((latents > 0).sum(1).double().mean()))
    assert whole.dead_share == pytest.approx(float(((latents > 0).sum(0) == 0).double().mean()))
    assert parts.to_dict() == pytest.approx(whole.to_dict())


def test_no_patches_is_an_error():
    sae = SAE(SAEConfig(architecture="relu", d_model=2, n_latents=4))
    with pytest.raises(ValueError, match="no patches"):
        measure_sae(sae, [])
