"""The k·n largest latents of a batch of n patches: easy patches get fewer, difficult ones more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from sae_traits.sae.activations import Selection
from sae_traits.sae.processes import Processes, largest_of_batch
from sae_traits.sae.surrogate import jump_relu

if TYPE_CHECKING:
    from sae_traits.sae.model import SAE
    from sae_traits.sae.objectives import ForwardPass

MOMENTUM = 0.9
"""Of the running mean of the smallest active latent; it varies little, being one quantile of millions of values."""


@dataclass(frozen=True)
class BatchTopK:
    """Trained on the k·n largest pre-activations of a batch; for inference a latent fires above one fixed threshold.

    The threshold is a running mean of each batch's smallest active latent.

    Source: Bussmann, Leask and Nanda 2024, "BatchTopK sparse autoencoders", section 3.
    """

    k: int
    has_threshold: ClassVar = True

    def encode(self, sae: SAE, x: Tensor) -> Tensor:
        """Latents `[n, n_latents]`."""
        return jump_relu(sae.pre_activations(x), self.gate(sae))

    def gate(self, sae: SAE) -> Tensor:
        """The threshold, the same for all latents, not below zero `[n_latents]`."""
        return sae.threshold.clamp_min(0)

    def start(self, pre: Tensor, sae: SAE, processes: Processes) -> None:
        """Set the threshold from the first batch."""
        _, _, smallest = largest_of_batch(pre, self.k, processes)
        sae.threshold.fill_(smallest.clamp_min(0))

    def select(self, pre: Tensor, sae: SAE, processes: Processes) -> Selection:
        """The largest places of the whole batch, those of all processes; the threshold moves towards the smallest."""
        places, values, smallest = largest_of_batch(pre, self.k, processes)
        order = places.argsort()
        places, values = places[order], values[order]
        active = (values >= smallest) & (values > 0)
        sae.threshold.lerp_(smallest.clamp_min(0).to(sae.threshold.dtype).expand_as(sae.threshold), 1 - MOMENTUM)
        rows = places.div(sae.config.n_latents, rounding_mode="floor")
        offsets = torch.searchsorted(rows, torch.arange(len(pre) + 1, device=rows.device))
        return Selection(offsets, places % sae.config.n_latents, active, sae.config.n_latents)

    def sparsity_loss(self, step: ForwardPass) -> None:
        """None: the activation is sparse."""
        return
