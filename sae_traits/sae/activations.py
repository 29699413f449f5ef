"""From pre-activations to latents. One function an architecture, chosen by name in `latents`."""

from __future__ import annotations

import torch
from torch import Tensor


def relu(pre: Tensor) -> Tensor:
    """Latents of the ReLU + L1 SAE `[n, n_latents]`; Pahuja et al. 2026, section 3.1."""
    return torch.relu(pre)


def top_k(pre: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest pre-activations of each row, rectified, and their latents, both `[n, k]`.

    Source: Gao et al. 2024, "Scaling and evaluating sparse autoencoders", section 2.3.
    """
    values, latents = pre.topk(k, dim=-1, sorted=False)
    return torch.relu(values), latents


def scatter(values: Tensor, latents: Tensor, n_latents: int) -> Tensor:
    """Dense latents `[n, n_latents]` from the k values and indices of each row."""
    return values.new_zeros(*values.shape[:-1], n_latents).scatter_(-1, latents, values)
