"""SAEs with arbitrary weights: biases, thresholds, and decoder rows that are not of unit norm."""

from __future__ import annotations

import torch
from torch import Tensor

from sae_traits import SAE, SAEConfig

D_MODEL, N_LATENTS = 12, 40


def random_sae(architecture: str, *, seed: int = 0, **more: object) -> SAE:
    k = {"k": 5} if architecture in ("topk", "batch_topk") else {}
    sae = SAE.from_config(
        SAEConfig(architecture=architecture, d_model=D_MODEL, n_latents=N_LATENTS, **k, **more), seed=seed
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        if architecture == "batch_topk":
            sae.threshold.fill_(0.4)
    return sae.eval()


def features(n: int = 60, *, seed: int = 1) -> Tensor:
    return torch.randn(n, D_MODEL, generator=torch.Generator().manual_seed(seed))


def assert_same(sae: SAE, other: SAE, x: Tensor) -> None:
    """The same latents and reconstructions, and some latents do fire and some do not."""
    with torch.no_grad():
        latents = sae.encode(x)
        assert 0 < (latents > 0).float().mean() < 1
        torch.testing.assert_close(other.encode(x), latents, atol=1e-5, rtol=0)
        torch.testing.assert_close(other(x), sae(x), atol=1e-5, rtol=0)
