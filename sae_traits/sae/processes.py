"""The processes that share a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

LARGEST_SHARE = 2
"""Of more than two processes, one may hold up to this many times its share of the batch's active latents."""


def _same(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Processes:
    """The processes that share a batch; by default there is one."""

    count: int = 1
    gather: Callable[[Tensor], Tensor] = _same
    """Concatenates a tensor `[n, …]` of every process along its first axis; without gradient."""
    average: Callable[[Tensor], Tensor] = _same
    """Mean of a tensor over the processes, without gradient."""


def largest_of_batch(pre: Tensor, k: int, processes: Processes) -> tuple[Tensor, Tensor, Tensor]:
    """The k·n largest pre-activations of a batch of n patches, shared by the processes.

    Args:
        pre: pre-activations of this process's share `[n, n_latents]`.
        k: how many a patch, on average.
        processes: those that share the batch.

    Returns:
        This process's candidates, as places in its flattened share and as values, and the smallest of the largest ones
        of the whole batch.
    """
    n, n_latents = pre.shape
    n_active = min(k, n_latents) * n * processes.count
    n_candidates = min(n_active, LARGEST_SHARE * k * n, n * n_latents)
    values, places = pre.flatten().topk(n_candidates, sorted=False)
    every = values if processes.count == 1 else processes.gather(values).topk(n_active, sorted=False).values
    return places, values, every.min()
