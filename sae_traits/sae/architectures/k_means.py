"""A baseline: the nearest centroid."""

from __future__ import annotations

import torch
from torch import Tensor

from sae_traits.sae.model import SAE


class KMeansDictionary(SAE):
    """One latent is active: that of the nearest centroid, with the centroid's length (from b_dec) as its value.

    The centroids, less b_dec, are the columns of `W_enc`; `W_dec` has them at unit length and `b_enc` is -|c|²/2, so
    that the largest pre-activation is the nearest centroid and decoding gives that centroid.
    """

    def activate(self, pre: Tensor) -> Tensor:
        """Latents `[n, n_latents]`."""
        nearest = pre.argmax(-1, keepdim=True)
        return torch.zeros_like(pre).scatter_(-1, nearest, self.W_enc.norm(dim=0)[nearest])
