"""What decoders are before the first step: random directions, or centroids of the first patches of the training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor
from torch.nn import functional

from sae_traits.config.train import Initialisation, TrainConfig
from sae_traits.errors import ConfigError
from sae_traits.logging import say
from sae_traits.sae.architectures import trained_class
from sae_traits.sae.k_means import centroids_of
from sae_traits.sae.model import SAE
from sae_traits.sae.training_state import TrainingState

PATCHES_PER_CENTROID = 64
MAX_PATCHES = 100_000
"""Centroids are those of the first patches of the training: so many for each of them, at most so many in all."""


def initialisation_of(config: TrainConfig) -> Initialisation:
    """What the decoder rows of a training start as."""
    return config.initialisation or trained_class(config).default_initialisation


def start_from_centroids(
    states: Sequence[TrainingState], shares: Iterator[Tensor], mean: Tensor, n_steps: int, accelerator: Accelerator
) -> Iterator[Tensor]:
    """Give the decoders that start from k-means their centroids, in place; returns the same shares, all of them.

    The main process finds the centroids, and SAEs of the same size and seed have the same. With several processes the
    sample is that of one process.

    Args:
        shares: this process's rows of the batches of the training `[n, d_model]`.
        mean: of the features `[d_model]`, on the accelerator's device.

    Raises:
        ConfigError: there are fewer patches than centroids, or some are not finite.
    """
    wanted = [state for state in states if initialisation_of(state.config) == "k_means"]
    if not wanted:
        return shares
    n_needed = max(_n_sampled(state.config.n_latents) for state in wanted)
    first: list[Tensor] = []
    for share in islice(shares, n_steps):
        first.append(share)
        if sum(map(len, first)) * accelerator.num_processes >= n_needed:
            break
    if not first:
        return shares
    sample = _in_order(torch.cat(first).to(mean), accelerator) - mean
    found: dict[tuple[int, int], Tensor] = {}
    for state in wanted:
        key = state.config.n_latents, state.config.seed
        if key not in found:
            rows = _centroids(sample, *key) if accelerator.is_main_process else torch.empty(key[0], len(mean))
            found[key] = broadcast(rows.to(mean))  # pyright: ignore[reportArgumentType]
        _set_decoder(state.sae, found[key])
    return chain(first, shares)


def _n_sampled(n_centroids: int) -> int:
    """How many patches so many centroids are found in."""
    return min(MAX_PATCHES, PATCHES_PER_CENTROID * n_centroids)


def _in_order(share: Tensor, accelerator: Accelerator) -> Tensor:
    """The rows of all processes, of which each has its share `[n, d_model]`, in the order of one process alone."""
    if accelerator.num_processes == 1:
        return share
    every: Tensor = accelerator.gather(share)  # pyright: ignore[reportAssignmentType]
    return every.unflatten(0, (accelerator.num_processes, -1)).transpose(0, 1).flatten(0, 1)


def _centroids(x: Tensor, n_centroids: int, seed: int) -> Tensor:
    x = x[: _n_sampled(n_centroids)]
    if len(x) < n_centroids:
        raise ConfigError(
            f"{n_centroids} latents cannot start from centroids of {len(x)} patches; train on more patches, with fewer "
            "latents, or with --initialisation random"
        )
    if n_broken := int((~x.isfinite().all(1)).sum()):
        raise ConfigError(
            f"{n_broken} of the first {len(x)} patches have NaN or infinities among their features; leave them out, or "
            "mend what made them"
        )
    say(f"train: {n_centroids} centroids of {len(x):,} patches, from which the decoder starts")
    return centroids_of(x, n_centroids, seed=seed)


@torch.no_grad()
def _set_decoder(sae: SAE, rows: Tensor) -> None:
    """Decoder rows of unit length in these directions, and the encoder that goes with them; random where one is zero.

    Both are written into, because several SAEs may share their memory.
    """
    lengths = rows.norm(dim=1, keepdim=True)
    sae.W_dec.copy_(torch.where(lengths > 0, functional.normalize(rows, dim=1), sae.W_dec))
    sae.W_enc.copy_(sae.encoder_of(sae.W_dec))
