"""How well an SAE reconstructs, and how sparsely: streamed in float64."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sae_traits.sae.model import SAE

DENSE = 0.1
"""A latent that fires at more than this share of the patches is dense: it tells little about any one of them."""
HISTOGRAM_EDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Where the bins of the firing histogram begin: decades of the share of patches at which a latent fires."""
NEVER = "never"


@dataclass(frozen=True, kw_only=True)
class SAEMetrics:
    """Measured on features that the SAE was not trained on, where there are any."""

    mse: float
    """Mean over all elements of the squared error."""
    normalised_mse: float
    """Squared error over the squared distance to the mean, summed over everything; 1 - explained variance."""
    explained_variance: float
    l0: float
    """Mean number of positive latents per patch."""
    dead_share: float
    """Share of latents that never fired."""
    dense_share: float
    """Share of latents that fired at more than DENSE of the patches."""
    firing_histogram: dict[str, int]
    n_patches: int
    firing_shares: NDArray[np.float64] = field(repr=False, metadata={"plain": False})
    """Share of patches at which each latent fires `[n_latents]`; too long for a card, so not in `to_dict`."""

    def to_dict(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.metadata.get("plain", True)}


@torch.no_grad()
def measure_sae(sae: SAE, batches: Iterable[Tensor]) -> SAEMetrics:
    """Run the SAE over batches of features `[n, d_model]` and sum up; a ValueError where there is no patch."""
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
    shares = fired.cpu().numpy() / n_patches
    return SAEMetrics(
        mse=float(errors) / (n_patches * d_model),
        normalised_mse=normalised,
        explained_variance=1 - normalised,
        l0=float(fired.sum()) / n_patches,
        dead_share=float((shares == 0).mean()),
        dense_share=float((shares > DENSE).mean()),
        firing_histogram=firing_histogram(shares),
        n_patches=n_patches,
        firing_shares=shares,
    )


def firing_histogram(shares: NDArray[np.float64]) -> dict[str, int]:
    """How many latents fire how often, of their shares of patches `[n_latents]`: bin -> number, `never` first.

    A bin is named by where it begins and ends where the next one does, the last at 1; the first holds everything rarer.
    """
    counts, _ = np.histogram(shares[shares > 0], bins=[0, *HISTOGRAM_EDGES[1:], np.inf])
    histogram = {f"{edge:.0e}": int(count) for edge, count in zip(HISTOGRAM_EDGES, counts, strict=True)}
    return {NEVER: int((shares == 0).sum())} | histogram
