"""The k largest latents of every patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from sae_traits.sae.activations import Selection
from sae_traits.sae.processes import Processes

if TYPE_CHECKING:
    from sae_traits.sae.model import SAE
    from sae_traits.sae.objectives import ForwardPass


@dataclass(frozen=True)
class TopK:
    """latents = the k largest pre-activations of a row, where positive.

    Source: Gao et al. 2024, "Scaling and evaluating sparse autoencoders", section 2.3.
    """

    k: int
    has_threshold: ClassVar = False

    def encode(self, sae: SAE, x: Tensor) -> Tensor:
        """Latents `[n, n_latents]`."""
        pre = sae.pre_activations(x)
        values, latents = pre.topk(self.k, dim=-1, sorted=False)
        return torch.zeros_like(pre).scatter_(-1, latents, values.relu())

    def gate(self, sae: SAE) -> None:
        """None: which latents are active depends on the others."""
        return

    def start(self, pre: Tensor, sae: SAE, processes: Processes) -> None:
        """Nothing depends on the data."""

    def select(self, pre: Tensor, sae: SAE, processes: Processes) -> Selection:
        """The k largest of each row, in no order."""
        values, latents = pre.topk(self.k, dim=-1, sorted=False)
        offsets = torch.arange(0, self.k * len(pre) + 1, self.k, device=pre.device)
        return Selection(offsets, latents.flatten(), values.flatten() > 0, pre.shape[1])

    def sparsity_loss(self, step: ForwardPass) -> None:
        """None: the activation is sparse."""
        return
