"""Training losses: plain functions of one forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sae_traits.sae.activations import Latents, Selection, SparseLatents, values_of
from sae_traits.sae.surrogate import mean_active

if TYPE_CHECKING:
    from sae_traits.sae.model import SAE
    from sae_traits.sae.processes import Processes


@dataclass(frozen=True)
class ForwardPass:
    """What an SAE made of a batch, with gradients."""

    sae: SAE
    x: Tensor
    """Features `[n, d_model]`."""
    pre: Tensor
    """Pre-activations `[n, n_latents]`; they carry gradients only where `latents` is dense."""
    latents: Latents
    reconstruction: Tensor
    """`[n, d_model]`."""
    processes: Processes


def mean_squared_error(step: ForwardPass) -> Tensor:
    """Mean over all elements of (x̂ - x)². Pahuja et al. 2026, section 3.1."""
    return (step.reconstruction - step.x).square().mean()


def prefix_error(step: ForwardPass) -> Tensor:
    """Mean over the prefixes of the dictionary of the squared error of the reconstruction from that prefix alone.

    The whole dictionary is the last prefix. Source: Bussmann et al. 2025, "Matryoshka sparse autoencoders", equation 6.
    """
    sae = step.sae
    reconstruction = sae.b_dec.expand_as(step.x)
    errors = []
    first = 0
    for end in (*sae.config.prefixes, sae.config.n_latents):
        reconstruction = reconstruction + _part(step.latents, first, end, sae.W_dec)
        errors.append((reconstruction - step.x).square().mean())
        first = end
    return torch.stack(errors).mean()


def _part(latents: Latents, first: int, end: int, W_dec: Tensor) -> Tensor:
    """What the latents first .. end - 1 add to the reconstruction `[n, d_model]`."""
    if isinstance(latents, Tensor):
        return latents[:, first:end] @ W_dec[first:end]
    inside = (latents.selection.latents >= first) & (latents.selection.latents < end)
    return SparseLatents(latents.selection, latents.values * inside).times(W_dec)


def l1_norm(step: ForwardPass) -> Tensor:
    """Sum over latents, which are zero or positive, mean over the batch. Pahuja et al. 2026, section 3.1."""
    return values_of(step.latents).sum() / len(step.x)


def l0_to_target(step: ForwardPass) -> Tensor:
    """(L0 / k - 1)², L0 being the mean number of active latents a patch over all processes.

    Only thresholds get a gradient. Source: Rajamanoharan et al. 2024, "Jumping ahead", appendix on a fixed sparsity.
    """
    k = step.sae.config.k
    assert k is not None
    own = mean_active(step.pre, step.sae.threshold.clamp_min(0))
    excess = step.processes.average(own.detach()) / k - 1
    # The value is that of the whole batch; the gradient is this process's part of it.
    return excess.square() + 2 * excess / k * (own - own.detach())


def revival_error(step: ForwardPass, dead: Tensor) -> Tensor:
    """How badly dead latents alone explain what the live ones left over. Gao et al. 2024, appendix A.2.

    Args:
        step: the forward pass.
        dead: the latents that are dead `[n_dead]`.
    """
    sae, residual = step.sae, (step.x - step.reconstruction).detach()
    k = min(sae.config.d_model // 2, len(dead))
    pre = torch.addmm(sae.b_enc[dead], step.x - sae.b_dec.detach(), sae.W_enc[:, dead])
    values, places = pre.topk(k, dim=-1, sorted=False)
    offsets = torch.arange(0, k * len(pre) + 1, k, device=pre.device)
    values = values.relu().flatten()
    revived = SparseLatents(Selection(offsets, places.flatten(), values > 0, len(dead)), values)
    return (revived.times(sae.W_dec[dead]) - residual).square().mean() / residual.square().mean().clamp_min(1e-12)
