"""How well an SAE reconstructs, and how sparsely: streamed in float64."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from sae_traits.sae.model import SAE


@dataclass(frozen=True, kw_only=True)
class SAEMetrics:
    """Measured on features that the SAE was not trained on, where there are any."""

    mse: float
    """Mean over all elements of the squared error."""
    normalised_mse: float
    """Squared error over the squared distance to the mean, summed over everything; 1 - explained variance."""
    explained_variance: float
    l0: float
    """Mean number of positive latents a patch."""
    dead_share: float
    """Share of latents that never fired."""
    n_patches: int

    def to_dict(self) -> dict[str, float | int]:
        """Plain values for JSON and the cards."""
        return asdict(self)


@torch.no_grad()
def measure_sae(sae: SAE, batches: Iterable[Tensor]) -> SAEMetrics:
    """Run the SAE over batches of features `[n, d_model]` and sum up.

    Raises:
        ValueError: there is not a single patch.
    """
    d_model, n_latents = sae.config.d_model, sae.config.n_latents
    device = sae.b_dec.device
    total = torch.zeros(d_model, dtype=torch.float64, device=device)
    squares = torch.zeros((), dtype=torch.float64, device=device)
    errors = torch.zeros_like(squares)
    fired = torch.zeros(n_latents, dtype=torch.int64, device=device)
    n_patches = 0
    for batch in batches:
        x_all = batch.to(device)
        n_patches += len(x_all)
        total += x_all.sum(0, dtype=torch.float64)
        squares += x_all.to(torch.float64).square().sum()
        for start, latents in sae.encode_tiles(x_all):
            x = x_all[start : start + len(latents)]
            fired += (latents > 0).sum(0)
            errors += (sae.decode(latents) - x).to(torch.float64).square().sum()
    if n_patches == 0:
        raise ValueError("there are no patches to measure the SAE on")
    variance = squares - total.square().sum() / n_patches
    normalised = float(errors / variance) if float(variance) > 0 else float("nan")
    return SAEMetrics(
        mse=float(errors) / (n_patches * d_model),
        normalised_mse=normalised,
        explained_variance=1 - normalised,
        l0=float(fired.sum()) / n_patches,
        dead_share=float((fired == 0).double().mean()),
        n_patches=n_patches,
    )
