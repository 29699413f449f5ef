"""The k largest latents of every patch."""

import torch
from torch import Tensor

from sae_traits.sae.activations import Selection
from sae_traits.sae.architectures.trainable import Processes, SparseSAE, required_k
from sae_traits.sae.model import SAEConfig


class TopKSAE(SparseSAE):
    """latents = the k largest pre-activations of a row, where positive.

    Source: Gao et al. 2024, "Scaling and evaluating sparse autoencoders", section 2.3.
    """

    default_initialisation = "k_means"

    def __init__(self, config: SAEConfig, *, seed: int = 0) -> None:
        super().__init__(config, seed=seed)
        self.k = required_k(config)

    def largest(self, pre: Tensor) -> tuple[Tensor, Tensor]:
        """Values and latents of each row that are active where they are positive, in no order `[n, k]` each."""
        return pre.topk(self.k, dim=-1, sorted=False)

    def activate(self, pre: Tensor) -> Tensor:
        values, latents = self.largest(pre)
        return torch.zeros_like(pre).scatter_(-1, latents, values.relu())

    def select(self, pre: Tensor, processes: Processes) -> Selection:
        values, latents = self.largest(pre)
        return Selection.of_rows(latents, values > 0, self.config.n_latents)
