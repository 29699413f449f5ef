"""A learned threshold for every latent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from sae_traits.sae.objectives import ForwardPass, l0_to_target
from sae_traits.sae.processes import Processes, largest_of_batch
from sae_traits.sae.surrogate import jump_relu, learned_jump_relu

if TYPE_CHECKING:
    from sae_traits.sae.model import SAE


@dataclass(frozen=True)
class JumpReLU:
    """latents = pre where pre > threshold, the threshold being learned with the mean number of active latents as aim.

    Source: Rajamanoharan et al. 2024, "Jumping ahead", section 3, with the penalty of its appendix on training to a
    given sparsity.
    """

    k: int | None
    """Aim of training; None in other libraries' checkpoints."""
    has_threshold: ClassVar = True

    def encode(self, sae: SAE, x: Tensor) -> Tensor:
        """Latents `[n, n_latents]`."""
        return jump_relu(sae.pre_activations(x), self.gate(sae))

    def gate(self, sae: SAE) -> Tensor:
        """The thresholds, none below zero `[n_latents]`."""
        return sae.threshold.clamp_min(0)

    def start(self, pre: Tensor, sae: SAE, processes: Processes) -> None:
        """Set all thresholds so that k latents a patch are active."""
        assert self.k is not None
        _, _, smallest = largest_of_batch(pre, self.k, processes)
        sae.threshold.fill_(smallest.clamp_min(0))

    def select(self, pre: Tensor, sae: SAE, processes: Processes) -> None:
        """None: dense."""
        return

    def activate(self, pre: Tensor, sae: SAE) -> Tensor:
        """Latents `[n, n_latents]` with gradients."""
        return learned_jump_relu(pre, self.gate(sae))

    def sparsity_loss(self, step: ForwardPass) -> Tensor:
        """How far the number of active latents is from k."""
        return l0_to_target(step)
