"""What architectures with a threshold per latent have in common, and its surrogate gradients.

Source: Rajamanoharan et al. 2024, "Jumping ahead".
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from sae_traits.sae.architectures.trainable import Processes, TrainableSAE, largest_of_batch
from sae_traits.sae.model import SAEConfig

BANDWIDTH = 0.5
"""Width of the window around a threshold in which it gets a gradient, in units of the scaled features."""


class ThresholdSAE(TrainableSAE):
    """latents = pre where pre > threshold, else zero."""

    threshold: nn.Parameter

    def __init__(self, config: SAEConfig, *, seed: int = 0) -> None:
        super().__init__(config, seed=seed)
        self.threshold = nn.Parameter(torch.zeros(config.n_latents))

    @property
    def thresholds(self) -> tuple[nn.Parameter, ...]:
        return (self.threshold,)

    def gate(self) -> Tensor:
        """The thresholds, none below zero `[n_latents]`."""
        return self.threshold.clamp_min(0)

    def activate(self, pre: Tensor) -> Tensor:
        """Latents `[n, n_latents]`, with a surrogate gradient for the thresholds: equation 11."""
        return cast(Tensor, _Jump.apply(pre, self.gate()))

    def start(self, pre: Tensor, processes: Processes) -> None:
        """Set all thresholds so that k latents per patch are active."""
        assert self.config.k is not None
        _, _, smallest = largest_of_batch(pre, self.config.k, processes)
        self.threshold.fill_(smallest.clamp_min(0))


def mean_active(pre: Tensor, threshold: Tensor) -> Tensor:
    """Mean number of latents of a row that are above their thresholds, with a gradient for these: equation 12."""
    return cast(Tensor, _Step.apply(pre, threshold)).sum(-1).mean()


def _near(pre: Tensor, threshold: Tensor) -> Tensor:
    return (pre - threshold).abs() < BANDWIDTH / 2


class _Jump(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        return pre * (pre > threshold)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,) = gradients
        pre, threshold = ctx.saved_tensors
        of_threshold = -(threshold / BANDWIDTH) * (_near(pre, threshold) * gradient).sum(0)
        return gradient * (pre > threshold), of_threshold.to(threshold.dtype)


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        return (pre > threshold).float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        (gradient,) = gradients
        pre, threshold = ctx.saved_tensors
        return None, -(_near(pre, threshold) * gradient).sum(0) / BANDWIDTH
