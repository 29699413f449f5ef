"""Latents of a batch in which few are active, and the products that training makes with them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def rows_of(offsets: Tensor, n: int) -> Tensor:
    """The row of each of `n` entries, of where each row starts and the last one ends `[n_rows + 1]`."""
    rows = torch.arange(len(offsets) - 1, device=offsets.device)
    return torch.repeat_interleave(rows, offsets.diff(), output_size=n)


@dataclass(frozen=True)
class Selection:
    """Places in a batch of latents `[n, n_latents]`, row by row."""

    offsets: Tensor
    """Where each row starts, and where the last one ends `[n + 1]`."""
    latents: Tensor
    """`[n_selected]`."""
    active: Tensor
    """Which of the places count `[n_selected]`, so that shapes need not depend on values."""
    n_latents: int

    @classmethod
    def of_rows(cls, latents: Tensor, active: Tensor, n_latents: int) -> Selection:
        """The same number of places in every row, latents and whether they count `[n, n_per_row]`."""
        n, n_per_row = latents.shape
        offsets = torch.arange(0, n_per_row * n + 1, n_per_row, device=latents.device)
        return cls(offsets, latents.flatten(), active.flatten(), n_latents)

    @classmethod
    def of_mask(cls, mask: Tensor) -> Selection:
        """The true places of a mask `[n, n_latents]`."""
        flat = mask.flatten().nonzero().flatten()
        n, n_latents = mask.shape
        offsets = torch.searchsorted(flat, torch.arange(0, (n + 1) * n_latents, n_latents, device=mask.device))
        return cls(offsets, flat % n_latents, torch.ones_like(flat, dtype=torch.bool), n_latents)

    @cached_property
    def rows(self) -> Tensor:
        """The row of each place `[n_selected]`."""
        return rows_of(self.offsets, len(self.latents))

    @cached_property
    def flat(self) -> Tensor:
        """Index of each place in the flattened batch `[n_selected]`."""
        return self.rows * self.n_latents + self.latents

    @cached_property
    def by_latent(self) -> tuple[Tensor, Tensor]:
        """The places sorted by latent `[n_selected]`, and where each latent starts `[n_latents + 1]`; on the CPU."""
        order = torch.from_numpy(np.argsort(self.latents.numpy(), kind="stable"))  # much faster than torch's
        counts = torch.bincount(self.latents, minlength=self.n_latents)
        return order, torch.cat([counts.new_zeros(1), counts.cumsum(0)])


@dataclass(frozen=True)
class SparseLatents:
    """Latents that are zero outside of a selection."""

    selection: Selection
    values: Tensor
    """`[n_selected]`."""

    def times(self, W_dec: Tensor) -> Tensor:
        """latents @ W_dec `[n, d_model]`, reading only the active rows of `W_dec [n_latents, d_model]`."""
        product = _weighted_sum(self.selection.latents, self.selection.offsets, self.values, W_dec.detach())
        return _WithDecoderGradient.apply(W_dec, product, self)  # pyright: ignore[reportReturnType]

    def transposed_times(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """latentsᵀ @ x `[n_latents, d_model]`, x being `[n, d_model]`; no gradients.

        On an accelerator the dense product, in `dtype`, is faster than the sparse one.
        """
        selection = self.selection
        if x.device.type == "cpu":
            order, offsets = selection.by_latent
            return _weighted_sum(selection.rows[order], offsets, self.values.detach()[order], x)
        dense = torch.zeros(len(x) * selection.n_latents, dtype=dtype, device=x.device)
        dense[selection.flat] = self.values.detach().to(dtype)
        return (dense.view(len(x), selection.n_latents).T @ x.to(dtype)).to(x.dtype)


def product_dtype(weights: Tensor) -> torch.dtype:
    """The precision of products with some weights: that of autocast, where it is on."""
    device = weights.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weights.dtype


def _weighted_sum(indices: Tensor, offsets: Tensor, weights: Tensor, rows: Tensor) -> Tensor:
    """For every bag of indices the weighted sum of those rows `[n_bags, d]`, without an array of all of them."""
    weights = weights.to(rows.dtype)  # half precision under autocast
    return functional.embedding_bag(
        indices, rows, offsets, per_sample_weights=weights, mode="sum", include_last_offset=True
    )


class _WithDecoderGradient(torch.autograd.Function):
    """A product latents @ W_dec, already computed, with the gradient of W_dec."""

    @staticmethod
    def forward(ctx: Any, W_dec: Tensor, product: Tensor, latents: SparseLatents) -> Tensor:
        ctx.latents, ctx.dtype = latents, product_dtype(W_dec)
        return product.view_as(product)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        return ctx.latents.transposed_times(gradient, ctx.dtype), gradient, None


Latents = Tensor | SparseLatents
"""Dense `[n, n_latents]`, or sparse."""


def decode(latents: Latents, W_dec: Tensor, b_dec: Tensor) -> Tensor:
    """Features `[n, d_model]`."""
    if isinstance(latents, SparseLatents):
        return latents.times(W_dec) + b_dec
    return torch.addmm(b_dec, latents, W_dec)


def values_of(latents: Latents) -> Tensor:
    """All values, also zeros: `[n, n_latents]` of dense latents, `[n_selected]` of sparse ones."""
    return latents.values if isinstance(latents, SparseLatents) else latents


def fired(latents: Latents) -> Tensor:
    """Which latents, all of them zero or positive, are positive in any row `[n_latents]`."""
    if isinstance(latents, Tensor):
        return latents.detach().amax(0) > 0
    selection = latents.selection
    counts = torch.zeros(selection.n_latents, dtype=torch.int32, device=latents.values.device)
    return counts.index_add_(0, selection.latents, (latents.values > 0).to(torch.int32)) > 0
