"""A baseline: the nearest centroid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sae_traits.sae.model import SAE


@dataclass(frozen=True)
class KMeans:
    """One latent is active: that of the nearest centroid, with the centroid's length (from b_dec) as its value.

    The centroids, less b_dec, are the columns of `W_enc`; `W_dec` has them at unit length and `b_enc` is -|c|²/2, so
    that the largest pre-activation is the nearest centroid and decoding gives that centroid.
    """

    has_threshold: ClassVar = False

    def encode(self, sae: SAE, x: Tensor) -> Tensor:
        """Latents `[n, n_latents]`."""
        pre = sae.pre_activations(x)
        nearest = pre.argmax(-1, keepdim=True)
        return torch.zeros_like(pre).scatter_(-1, nearest, sae.W_enc.norm(dim=0)[nearest])

    def gate(self, sae: SAE) -> None:
        """None: only the nearest is active."""
        return
