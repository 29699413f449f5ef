"""The training objective: the forward pass of a batch, and its losses as plain functions of it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sae_traits.sae import activations
from sae_traits.sae.activations import Latents, Selection, SparseLatents
from sae_traits.sae.architectures.trainable import Processes, TrainableSAE, selected_latents

AUXILIARY_COEFFICIENT = 1 / 32
"""Weight of the auxiliary loss; Gao et al. 2024, appendix A.2."""
SPARSE_BELOW = 0.1
"""Share of the dead latents below which a CPU revives faster with these alone; benchmarks/bench_sae.py."""


@dataclass(frozen=True)
class ForwardPass:
    """What an SAE made of a batch, with gradients."""

    sae: TrainableSAE
    x: Tensor
    """Features `[n, d_model]`."""
    pre: Tensor
    """Pre-activations `[n, n_latents]`; they carry gradients only where `latents` is dense."""
    latents: Latents
    reconstruction: Tensor
    """`[n, d_model]`."""
    processes: Processes


@dataclass(frozen=True)
class StepLosses:
    """What one step measured; tensors, so that no step waits for the device."""

    loss: Tensor
    mse: Tensor
    l0: Tensor
    fired: Tensor
    """Which latents fired in the batch `[n_latents]`."""


class TrainingObjective(nn.Module):
    """Features in, losses out: the module that Accelerate wraps, so that gradients are averaged over processes."""

    def __init__(self, sae: TrainableSAE, processes: Processes | None = None) -> None:
        super().__init__()
        self.sae, self.processes = sae, processes or Processes()

    def forward(self, x: Tensor, sparsity_coefficient: float, dead: Tensor | None, pre: Tensor) -> StepLosses:
        """Losses of a batch of scaled features `[n, d_model]`.

        `pre [n, n_latents]` is from `Stack.pre_activations`, without gradient; `dead [n_dead]` are the latents that are
        dead, None when none is.
        """
        step = self.forward_pass(x, pre)
        mse = mean_squared_error(step)
        loss = prefix_error(step) if self.sae.config.prefixes else mse
        penalty = self.sae.sparsity_loss(step)
        if penalty is not None:
            loss = loss + sparsity_coefficient * penalty
        if dead is not None:
            loss = loss + AUXILIARY_COEFFICIENT * revival_error(step, dead)
        # On a CPU, counting true values is ten times as fast as counting numbers that are not zero.
        l0 = torch.count_nonzero(activations.values_of(step.latents).detach() > 0) / len(x)
        return StepLosses(loss, mse.detach(), l0, activations.fired(step.latents))

    def forward_pass(self, x: Tensor, pre: Tensor) -> ForwardPass:
        """The SAE's latents and reconstruction of a batch, with gradients; arguments as in `forward`."""
        sae = self.sae
        pre, latents = sae.training_latents(x, pre, self.processes)
        reconstruction = activations.decode(latents, sae.W_dec, sae.b_dec)
        return ForwardPass(sae, x, pre, latents, reconstruction, self.processes)


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


def revival_error(step: ForwardPass, dead: Tensor) -> Tensor:
    """How badly dead latents `[n_dead]` alone explain what the live ones left over. Gao et al. 2024, appendix A.2."""
    sae, residual = step.sae, (step.x - step.reconstruction).detach()
    # index_select, as the gradient of indexing is several times slower; rows, as W_enc is kept column by column.
    W_enc, b_enc, W_dec = sae.W_enc.T.index_select(0, dead).T, sae.b_enc[dead], sae.W_dec.index_select(0, dead)
    b_dec, k = sae.b_dec.detach(), min(sae.config.d_model // 2, len(dead))
    if step.x.device.type == "cpu" and k < SPARSE_BELOW * len(dead):
        pre = step.pre.detach().index_select(1, dead)
        values, latents = pre.topk(k, dim=-1, sorted=False)
        selection = Selection.of_rows(latents, values > 0, len(dead))
        revived = selected_latents(b_dec, W_enc, b_enc, step.x, pre, selection).times(W_dec)
    else:
        pre = torch.addmm(b_enc, step.x - b_dec, W_enc)
        values, latents = pre.topk(k, dim=-1, sorted=False)
        revived = torch.zeros_like(pre).scatter(-1, latents, values.relu()) @ W_dec
    return (revived - residual).square().mean() / residual.square().mean().clamp_min(1e-12)
