"""ReLU with an L1 penalty: the paper's SAE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from sae_traits.sae.objectives import ForwardPass, l1_norm
from sae_traits.sae.processes import Processes, largest_of_batch

if TYPE_CHECKING:
    from sae_traits.sae.model import SAE


@dataclass(frozen=True)
class ReLU:
    """latents = max(0, pre); Pahuja et al. 2026, section 3.1, equations 1 and 2."""

    has_threshold: ClassVar = False

    def encode(self, sae: SAE, x: Tensor) -> Tensor:
        """Latents `[n, n_latents]`."""
        return sae.pre_activations(x).relu()

    def gate(self, sae: SAE) -> Tensor:
        """Zero for all latents `[n_latents]`."""
        return torch.zeros_like(sae.b_enc)

    def start(self, pre: Tensor, sae: SAE, processes: Processes) -> None:
        """Lower all biases so that `d_model` latents a patch are active, as many as are needed to span any patch.

        With biases of zero half of the dictionary is active, and short trainings end before they have unlearnt it.
        """
        _, _, smallest = largest_of_batch(pre, sae.config.d_model, processes)
        for tensor in (sae.b_enc, pre):
            tensor.sub_(smallest.clamp_min(0))

    def select(self, pre: Tensor, sae: SAE, processes: Processes) -> None:
        """None: dense."""
        return

    def activate(self, pre: Tensor, sae: SAE) -> Tensor:
        """Latents `[n, n_latents]` with gradients."""
        return pre.relu()

    def sparsity_loss(self, step: ForwardPass) -> Tensor:
        """The L1 norm."""
        return l1_norm(step)
