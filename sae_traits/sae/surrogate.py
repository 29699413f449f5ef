"""Steps and jumps with surrogate gradients for their thresholds; Rajamanoharan et al. 2024, "Jumping ahead"."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

BANDWIDTH = 0.5
"""Width of the window around a threshold in which it gets a gradient, in units of the scaled features."""


def jump_relu(pre: Tensor, threshold: Tensor) -> Tensor:
    """pre `[n, n_latents]` where it is larger than the threshold `[n_latents]`, else zero."""
    return pre * (pre > threshold)


def learned_jump_relu(pre: Tensor, threshold: Tensor) -> Tensor:
    """jump_relu with a surrogate gradient for the thresholds: equation 11."""
    return cast(Tensor, _Jump.apply(pre, threshold))


def mean_active(pre: Tensor, threshold: Tensor) -> Tensor:
    """Mean number of latents of a row that are above their thresholds, with a gradient for these: equation 12."""
    return cast(Tensor, _Step.apply(pre, threshold)).sum(-1).mean()


def _near(pre: Tensor, threshold: Tensor) -> Tensor:
    return (pre - threshold).abs() < BANDWIDTH / 2


class _Jump(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        return jump_relu(pre, threshold)

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
