"""The k·n largest latents of a batch of n patches: easy patches get fewer, difficult ones more."""

import torch
from torch import Tensor

from sae_traits.sae.activations import Selection
from sae_traits.sae.architectures.threshold import ThresholdSAE
from sae_traits.sae.architectures.trainable import Processes, SparseSAE, largest_of_batch, required_k
from sae_traits.sae.model import SAEConfig

MOMENTUM = 0.9
"""Of the running mean of the smallest active latent; it varies little, being one quantile of millions of values."""


class BatchTopKSAE(ThresholdSAE, SparseSAE):
    """Trained on the k·n largest pre-activations of a batch; for inference a latent fires above one fixed threshold.

    The threshold is a running mean of each batch's smallest active latent, the same for all latents.

    Source: Bussmann, Leask and Nanda 2024, "BatchTopK sparse autoencoders", section 3.
    """

    def __init__(self, config: SAEConfig, *, seed: int = 0) -> None:
        super().__init__(config, seed=seed)
        self.k = required_k(config)
        self.threshold.requires_grad_(False)

    def select(self, pre: Tensor, processes: Processes) -> Selection:
        """The largest places of the whole batch, those of all processes; the threshold moves towards the smallest."""
        n_latents = self.config.n_latents
        places, values, smallest = largest_of_batch(pre, self.k, processes)
        order = places.argsort()
        places, values = places[order], values[order]
        active = (values >= smallest) & (values > 0)
        self.threshold.lerp_(smallest.clamp_min(0).to(self.threshold.dtype).expand_as(self.threshold), 1 - MOMENTUM)
        rows = places.div(n_latents, rounding_mode="floor")
        offsets = torch.searchsorted(rows, torch.arange(len(pre) + 1, device=rows.device))
        return Selection(offsets, places % n_latents, active, n_latents)
