"""Training losses: plain functions of features, latents and reconstruction."""

from __future__ import annotations

from torch import Tensor


def mean_squared_error(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Mean over all elements of (x̂ - x)²; both `[n, d_model]`. Pahuja et al. 2026, section 3.1."""
    return (reconstruction - x).square().mean()


def l1_norm(latents: Tensor) -> Tensor:
    """Sum over latents, mean over the batch, of latents `[n, n_latents]`. Pahuja et al. 2026, section 3.1."""
    return latents.abs().sum(dim=-1).mean()
