"""The forward pass of training: pre-activations whose gradients cost no more than they must, then the losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from sae_traits.sae import activations, objectives
from sae_traits.sae.activations import Selection, SparseLatents
from sae_traits.sae.architectures import DenseArchitecture, TrainableArchitecture
from sae_traits.sae.model import SAE
from sae_traits.sae.objectives import ForwardPass
from sae_traits.sae.processes import Processes

AUXILIARY_COEFFICIENT = 1 / 32
"""Weight of the auxiliary loss; Gao et al. 2024, appendix A.2."""


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

    def __init__(self, sae: SAE, processes: Processes | None = None) -> None:
        super().__init__()
        self.sae = sae
        self.processes = processes or Processes()

    def forward(self, x: Tensor, sparsity_coefficient: float, dead: Tensor | None, pre: Tensor) -> StepLosses:
        """Losses of a batch.

        Args:
            x: scaled features `[n, d_model]`.
            sparsity_coefficient: weight of the architecture's sparsity loss, where it has one.
            dead: the latents that are dead `[n_dead]`; None when none is.
            pre: pre-activations `[n, n_latents]` from `Stack.pre_activations`, without gradient.
        """
        step = self.forward_pass(x, pre)
        mse = objectives.mean_squared_error(step)
        loss = objectives.prefix_error(step) if self.sae.config.prefixes else mse
        penalty = cast(TrainableArchitecture, self.sae.architecture).sparsity_loss(step)
        if penalty is not None:
            loss = loss + sparsity_coefficient * penalty
        if dead is not None:
            loss = loss + AUXILIARY_COEFFICIENT * objectives.revival_error(step, dead)
        # On a CPU, counting true values is ten times as fast as counting numbers that are not zero.
        l0 = torch.count_nonzero(activations.values_of(step.latents).detach() > 0) / len(x)
        return StepLosses(loss, mse.detach(), l0, activations.fired(step.latents))

    def forward_pass(self, x: Tensor, pre: Tensor) -> ForwardPass:
        """The SAE's latents and reconstruction of a batch, with gradients; arguments as in `forward`."""
        sae = self.sae
        architecture = cast(TrainableArchitecture, sae.architecture)
        selection = architecture.select(pre, sae, self.processes)
        if selection is None:
            pre = _with_gradient(_DensePreActivations, sae, x, pre)
            latents = cast(DenseArchitecture, architecture).activate(pre, sae).to(sae.W_dec.dtype)
        else:
            values = _with_gradient(_SelectedPreActivations, sae, x, pre, selection)
            latents = SparseLatents(selection, values * selection.active)
        reconstruction = activations.decode(latents, sae.W_dec, sae.b_dec)
        return ForwardPass(sae, x, pre, latents, reconstruction, self.processes)


def _with_gradient(function: type[torch.autograd.Function], sae: SAE, x: Tensor, *computed: Any) -> Tensor:
    result = function.apply(sae.b_dec, sae.W_enc, sae.b_enc, x, *computed)
    return cast(Tensor, result)


class _DensePreActivations(torch.autograd.Function):
    """(x - b_dec) W_enc + b_enc, already computed, with its gradients.

    That of b_dec follows from that of b_enc, without the dense product that automatic differentiation would make.
    """

    @staticmethod
    def forward(ctx: Any, b_dec: Tensor, W_enc: Tensor, b_enc: Tensor, x: Tensor, pre: Tensor) -> Tensor:
        ctx.save_for_backward(b_dec, W_enc, x)
        return pre.view_as(pre)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        b_dec, W_enc, x = ctx.saved_tensors
        centred = (x - b_dec).to(gradient.dtype)
        of_bias = gradient.sum(0, dtype=b_dec.dtype)
        of_weights = (gradient.T @ centred).T  # as W_enc is kept while training: column by column
        return -(W_enc @ of_bias), of_weights.to(W_enc.dtype), of_bias, None, None


class _SelectedPreActivations(torch.autograd.Function):
    """Pre-activations at the selected places only `[n_selected]`, with sparse gradients."""

    @staticmethod
    def forward(
        ctx: Any, b_dec: Tensor, W_enc: Tensor, b_enc: Tensor, x: Tensor, pre: Tensor, selection: Selection
    ) -> Tensor:
        ctx.save_for_backward(b_dec, W_enc, x)
        ctx.selection, ctx.dtype = selection, pre.dtype
        return pre.flatten()[selection.flat].to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        b_dec, W_enc, x = ctx.saved_tensors
        selection: Selection = ctx.selection
        of_bias = torch.zeros(selection.n_latents, dtype=gradient.dtype, device=x.device)
        of_bias.index_add_(0, selection.latents, gradient)
        of_weights = SparseLatents(selection, gradient).transposed_times(x - b_dec, ctx.dtype)
        return -(W_enc @ of_bias), of_weights.T, of_bias, None, None, None
