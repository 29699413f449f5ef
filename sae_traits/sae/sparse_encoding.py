"""Which latents fire where, as compressed sparse rows, without a dense `[n, n_latents]` array of all patches.

The dense encoding that the codes agree with is `SAE.encode`, in the precision of the SAE's weights. It is made a block
of whole rows at a time, so that every latent comes from the product that `encode` itself makes. Bits may still differ
across numbers of rows: MKL sums in another order for fewer than some ten, so no block has fewer than MIN_ROWS rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sae_traits.errors import ConfigError
from sae_traits.sae.activations import rows_of
from sae_traits.sae.architectures.topk import TopKSAE

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from sae_traits.sae.model import SAE

MIN_ROWS = 16
"""Rows of a block; fewer only where there are not so many."""


@dataclass(frozen=True)
class SparseCodes:
    """The latents of `n` patches that fired: compressed sparse rows, sorted by latent within a row."""

    offsets: Tensor
    """Where each row starts, and where the last one ends, int64 `[n + 1]`."""
    latents: Tensor
    """int32 `[n_fired]`."""
    values: Tensor
    """float32 `[n_fired]`, all above the threshold."""
    n_latents: int

    def rows(self) -> Tensor:
        """The row of each entry, int64 `[n_fired]`."""
        return rows_of(self.offsets, len(self.latents))

    def to_scipy(self) -> csr_array:
        """The same as a scipy array `[n, n_latents]`."""
        from scipy.sparse import csr_array

        values, latents, offsets = (part.cpu().numpy() for part in (self.values, self.latents, self.offsets))
        return csr_array((values, latents, offsets), shape=(len(offsets) - 1, self.n_latents))


@torch.no_grad()
def encode_sparse(sae: SAE, x: Tensor, threshold: Tensor | float = 0.0, *, max_bytes: int = 64 * 2**20) -> SparseCodes:
    """The latents above a threshold, computed in the precision of the SAE's weights, also under autocast.

    Args:
        x: features `[n, d_model]`, on the SAE's device.
        threshold: zero or more; one for all latents, or one per latent `[n_latents]`.
        max_bytes: bound of the transient memory, as far as MIN_ROWS rows fit in. The codes themselves come on top
            (twice, while they are joined).

    Raises:
        CheckpointError: these are no features of this SAE's width, one row per patch.
        ConfigError: a threshold is negative or NaN, or there is not one per latent; not even the latents of one patch
            fit into `max_bytes`.
    """
    sae.check_width(x)
    if max_bytes < (one_row := 4 * sae.config.n_latents):
        raise ConfigError(
            f"max_bytes is a number of bytes, and {max_bytes} do not hold the {sae.config.n_latents} latents of one "
            f"patch ({one_row}); give some megabytes, such as 64 * 2**20"
        )
    thresholds = _thresholds(sae, threshold)
    with torch.autocast(x.device.type, enabled=False):
        return _join(list(_encoded_blocks(sae, x, thresholds, max_bytes)), sae.config.n_latents, x.device)


def _thresholds(sae: SAE, threshold: Tensor | float) -> Tensor:
    n_latents = sae.config.n_latents
    thresholds = torch.as_tensor(threshold, dtype=torch.float32, device=sae.W_enc.device)
    if thresholds.ndim and thresholds.shape != (n_latents,):
        raise ConfigError(f"give one threshold, or one for each of {n_latents} latents, not {list(thresholds.shape)}")
    if not (thresholds >= 0).all():
        raise ConfigError("a latent fires above zero at least: no threshold may be negative or NaN")
    return thresholds.expand(n_latents)


def _row_blocks(n: int, bytes_a_row: int, max_bytes: int) -> list[slice]:
    """Blocks of nearly equal heights: a low last one would be summed in another order."""
    n_blocks = max(1, min(-(-n * bytes_a_row // max_bytes), n // MIN_ROWS))
    edges = [n * i // n_blocks for i in range(n_blocks + 1)]
    return [slice(start, end) for start, end in pairwise(edges) if end > start]


_Block = tuple[Tensor, Tensor, Tensor]
"""Entries of each row `[n_rows]`, latents and values `[n_fired]`."""


def _encoded_blocks(sae: SAE, x: Tensor, thresholds: Tensor, max_bytes: int) -> Iterator[_Block]:
    """What fires according to `sae.encode`, without making the zeros of architectures that are known."""
    if (gate := sae.gate()) is not None:
        limits = gate.float().maximum(thresholds)
        return (_above(pre, limits) for pre in _pre_activations(sae, x, max_bytes))
    if isinstance(sae, TopKSAE):
        return (_fired(*sae.largest(pre), thresholds) for pre in _pre_activations(sae, x, max_bytes))
    blocks = _row_blocks(len(x), 9 * sae.config.n_latents, max_bytes)  # pre-activations, latents and truth values
    return (_above(sae.encode(x[block]), thresholds) for block in blocks)


def _pre_activations(sae: SAE, x: Tensor, max_bytes: int) -> Iterator[Tensor]:
    """`SAE.pre_activations` of blocks of rows, in the same memory, which glibc would not give back in between."""
    d_model, n_latents = x.shape[1], sae.config.n_latents
    blocks = _row_blocks(len(x), 5 * n_latents + 8 * d_model, max_bytes)  # a float and a truth value per place
    height = max((block.stop - block.start for block in blocks), default=0)
    memory = sae.W_enc.new_empty(height, n_latents)
    for block in blocks:
        features = sae.centred(x[block])
        yield torch.addmm(sae.b_enc, features, sae.W_enc, out=memory[: len(features)])


def _above(latents: Tensor, limits: Tensor) -> _Block:
    """Places of a block `[n_rows, n_latents]` that are above the limits `[n_latents]`."""
    n_rows, n_latents = latents.shape
    places = _places(latents > limits)
    starts = torch.arange(n_rows + 1, device=latents.device) * n_latents
    counts = torch.searchsorted(places, starts).diff()
    return counts, (places % n_latents).to(torch.int32), latents.flatten()[places].float()


def _fired(values: Tensor, latents: Tensor, thresholds: Tensor) -> _Block:
    """Of the largest values of each row of a block `[n_rows, k]`, those above the thresholds `[n_latents]`."""
    latents, order = latents.to(torch.int32).sort(dim=1)
    values = values.gather(1, order)
    fired = values > thresholds[latents]
    places = _places(fired)
    return fired.sum(1), latents.flatten()[places], values.flatten()[places].float()


def _places(fired: Tensor) -> Tensor:
    """Indices of what is true in the flattened tensor, ascending."""
    if fired.is_cuda:
        return fired.flatten().nonzero().squeeze(1)
    return torch.from_numpy(np.flatnonzero(fired.cpu().numpy())).to(fired.device)  # thrice as fast as torch's


def _join(blocks: list[_Block], n_latents: int, device: torch.device) -> SparseCodes:
    """Blocks in the order of their rows."""
    none = torch.empty(0, device=device)
    counts, latents, values = zip((none.long(), none.int(), none), *blocks, strict=True)
    counts = torch.cat(counts)
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return SparseCodes(offsets, torch.cat(latents), torch.cat(values), n_latents)
