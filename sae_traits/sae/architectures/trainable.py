"""What training needs of an architecture: latents of a batch with gradients that cost no more than they must."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor

from sae_traits.errors import CheckpointError
from sae_traits.sae.activations import Latents, Selection, SparseLatents
from sae_traits.sae.model import SAE, SAEConfig

if TYPE_CHECKING:
    from sae_traits.config.train import Initialisation, TrainConfig
    from sae_traits.sae.objective import ForwardPass

MAX_SHARE = 2
"""Of more than two processes, one may hold up to this many times its share of the batch's active latents."""


@dataclass(frozen=True)
class Processes:
    """The processes that share a batch; by default there is one."""

    count: int = 1
    gather: Callable[[Tensor], Tensor] = Tensor.contiguous
    """Concatenates a tensor `[n, …]` of every process along its first axis; without gradient."""
    average: Callable[[Tensor], Tensor] = Tensor.contiguous
    """Mean of a tensor over the processes, without gradient."""


@dataclass(frozen=True)
class Penalty:
    """How a sparsity loss is weighed in the course of a training."""

    weight: float = 0.0
    """On scaled features, after the warm-up."""
    warmup_steps: int = 0

    def at(self, step: int) -> float:
        """Weight at a step: it rises linearly over the warm-up, as the learning rate does."""
        return self.weight * min(1.0, (step + 1) / (self.warmup_steps + 1))


class TrainableSAE(SAE):
    """An SAE that is trained, not fitted: a `SparseSAE` or a `DenseSAE`."""

    default_initialisation: ClassVar[Initialisation] = "random"
    """What decoder rows start as where nothing is said."""

    @classmethod
    def default_learning_rate(cls, d_model: int) -> float:
        """Peak learning rate where none is given, for features of width `d_model`."""
        return 1e-3

    @classmethod
    def penalty(cls, options: Any, scale: float) -> Penalty:
        """The weight of `sparsity_loss`, of an architecture's options and what features are divided by."""
        return Penalty()

    @classmethod
    @abstractmethod
    def n_multiplied(cls, config: TrainConfig) -> int:
        """Latents per patch that take part in the products of a step which follow the pre-activations."""

    def start(self, pre: Tensor, processes: Processes) -> None:
        """Set what depends on the data, before the first step; arguments as for `training_latents`."""

    @abstractmethod
    def training_latents(self, x: Tensor, pre: Tensor, processes: Processes) -> tuple[Tensor, Latents]:
        """Pre-activations and latents of a batch, with gradients where they can have any.

        Of scaled features `[n, d_model]` and their pre-activations `[n, n_latents]` without gradient.
        """

    def sparsity_loss(self, step: ForwardPass) -> Tensor | None:
        """What training adds to the loss, weighed by `penalty`; None where the activation itself is sparse."""
        return None


class SparseSAE(TrainableSAE):
    """One of which few latents are active in a training batch, so that products leave the others out."""

    @abstractmethod
    def select(self, pre: Tensor, processes: Processes) -> Selection:
        """Which latents of a batch are active; arguments as for `training_latents`. A threshold may be moved."""

    @classmethod
    def n_multiplied(cls, config: TrainConfig) -> int:
        return cast(Any, config.architecture).k

    def training_latents(self, x: Tensor, pre: Tensor, processes: Processes) -> tuple[Tensor, SparseLatents]:
        """Gradients are those of the selected places."""
        selection = self.select(pre, processes)
        return pre, selected_latents(self.b_dec, self.W_enc, self.b_enc, x, pre, selection)


def selected_latents(
    b_dec: Tensor, W_enc: Tensor, b_enc: Tensor, x: Tensor, pre: Tensor, selection: Selection
) -> SparseLatents:
    """The pre-activations at selected places, with gradients there; `x` and `pre` as for `training_latents`."""
    values = cast(Tensor, _SelectedPreActivations.apply(b_dec, W_enc, b_enc, x, pre, selection))
    return SparseLatents(selection, values * selection.active)


class DenseSAE(TrainableSAE):
    """One of which any latent may be active in a training batch."""

    @classmethod
    def n_multiplied(cls, config: TrainConfig) -> int:
        return config.n_latents

    def training_latents(self, x: Tensor, pre: Tensor, processes: Processes) -> tuple[Tensor, Latents]:
        pre = cast(Tensor, _DensePreActivations.apply(self.b_dec, self.W_enc, self.b_enc, x, pre))
        return pre, self.activate(pre).to(self.W_dec.dtype)


def required_k(config: SAEConfig) -> int:
    """The k of an architecture that cannot do without; a CheckpointError where there is none."""
    if config.k is None:
        raise CheckpointError(f"the architecture {config.architecture!r} needs k, the number of active latents")
    return config.k


def largest_of_batch(pre: Tensor, k: int, processes: Processes) -> tuple[Tensor, Tensor, Tensor]:
    """The k·n largest pre-activations of a batch of n patches per process, of this one's share `[n, n_latents]`.

    Returns its candidates, as places in the flattened share and as values, and the smallest of the whole batch's.
    """
    n, n_latents = pre.shape
    n_active = min(k, n_latents) * n * processes.count
    n_candidates = min(n_active, MAX_SHARE * k * n, n * n_latents)
    values, places = pre.flatten().topk(n_candidates, sorted=False)
    every = values if processes.count == 1 else processes.gather(values).topk(n_active, sorted=False).values
    return places, values, every.min()


class _DensePreActivations(torch.autograd.Function):
    """(x - b_dec) W_enc + b_enc, already computed; the gradient of b_dec follows from that of b_enc."""

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
