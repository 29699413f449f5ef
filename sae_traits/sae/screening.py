"""Pre-activations in half precision, with bounds: what surely does not fire, and what has to be looked at.

Three steps, each for what the one before leaves open:
1. a product in half precision of all latents, with a bound of its error: the candidates are all places that could fire;
2. the candidates' pre-activations in float32, each by itself: these are the values;
3. a row in which one of them lies within rounding of its limit stays open, and is encoded in float32 as a whole.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sae_traits.sae.architectures.topk import TopK

if TYPE_CHECKING:
    from sae_traits.sae.model import SAE

EPSILON = torch.finfo(torch.float32).eps
ROUNDINGS = 4
"""Two float32 sums of d terms differ by less than this times √d roundings of |x||w| + |b|.

They add up as in a random walk. Measured for d 6 to 1536: 1.5 at most for random data of any kind, 2.5 where all terms
of a sum are equal. The worst case, d instead of √d, would leave every second row open."""
SLACK = 1.02
"""On bounds: for their own rounding, and for the three roundings in half precision that `candidates` needs."""


def centred(sae: SAE, x: Tensor) -> Tensor:
    """What the encoder's weights are multiplied with `[n, d_model]`."""
    return x - sae.b_dec if sae.config.subtract_decoder_bias else x


class Screen:
    """An encoder in half precision, and how far its products may be from the exact ones.

    With x = x̃ + δx and w = w̃ + δw, x̃ and w̃ being in half precision, |xw - x̃w̃| <= |δx||w| + |x̃||δw| by Cauchy and
    Schwarz. The four norms are measured, so that the bound is less than half of what the precision alone would say.
    """

    def __init__(self, sae: SAE, dtype: torch.dtype) -> None:
        """The screen of an SAE in float32."""
        self._sae = sae
        d_model, n_latents = sae.W_enc.shape
        self._half = sae.W_enc.to(dtype)
        self._columns = sae.W_enc.T.contiguous()
        self._unit = torch.finfo(dtype).eps / 2
        norm, error = _norms(self._columns, dtype)
        # Sums in float32 of the product itself and of the one it is compared with, at their worst.
        error = error + 2 * (d_model + 8) * EPSILON * (norm + error)
        of_bias = self._unit * sae.b_enc.abs() + torch.finfo(dtype).smallest_normal
        self._errors = SLACK * torch.stack([norm, error, of_bias])
        self._norm = norm
        self._k = sae.architecture.k if isinstance(sae.architecture, TopK) else None
        self.bytes_a_row = 20 * n_latents + 16 * d_model

    @staticmethod
    def suits(sae: SAE) -> bool:
        """Whether the architecture's latents follow from bounds of pre-activations."""
        return isinstance(sae.architecture, TopK) or sae.architecture.gate(sae) is not None

    def fired(self, x: Tensor, thresholds: Tensor, max_bytes: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What fires in a block of rows, wherever float32 sums of any order agree on it.

        Args:
            x: features `[n, d_model]`.
            thresholds: `[n_latents]`.
            max_bytes: bound of the memory for scoring candidates.

        Returns:
            Rows int64, latents int32 and values float32 of what fires `[n_fired]`, and which rows are open `[n]`.
        """
        x = centred(self._sae, x.float())
        gate = self._sae.architecture.gate(self._sae)
        limits = thresholds if gate is None else torch.maximum(gate, thresholds)
        rows, latents = self.candidates(x, limits).nonzero(as_tuple=True)
        values = self._scores(x, rows, latents, max_bytes)
        doubt = torch.linalg.vector_norm(x, dim=1)[rows] * self._norm[latents] + self._sae.b_enc[latents].abs()
        doubt *= ROUNDINGS * math.sqrt(x.shape[1]) * EPSILON / 2
        limit = limits[latents]
        fires, certain = values > limit, (values - limit).abs() > doubt
        if self._k is not None:
            border = self._borders(rows, values, len(x))[rows]
            fires &= values > border
            certain &= (values - border).abs() > doubt
        is_open = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        is_open[rows[~certain]] = True
        return rows[fires], latents[fires].to(torch.int32), values[fires], is_open

    def candidates(self, x: Tensor, limits: Tensor) -> Tensor:
        """Where a latent could fire `[n, n_latents]`; comparisons are such that NaN is a candidate.

        A product p rounded to half precision is off by u|p| besides its bound b. If it could be positive, p (1 + u) +
        b (1 + 3 u) is an upper bound: for negative p because b is then at least |p| (1 - u).
        """
        norm, error = _norms(x, self._half.dtype)
        bounds = torch.stack([error, norm + error, torch.ones_like(norm)], dim=1)
        products = (x.to(self._half.dtype) @ self._half).float().add_(self._sae.b_enc)
        upper = torch.addmm(products, bounds, self._errors, beta=1 + self._unit)
        if self._k is None:
            return ~(upper <= limits)
        lower = torch.addmm(products, bounds, self._errors, beta=1 - self._unit, alpha=-1)
        smallest = lower.topk(self._k, sorted=False).values.amin(1, keepdim=True)
        return ~(upper < smallest.clamp_min(0))

    def _scores(self, x: Tensor, rows: Tensor, latents: Tensor, max_bytes: int) -> Tensor:
        """Pre-activations of some places in float32 `[n_places]`."""
        step = max(1, max_bytes // (8 * x.shape[1]))
        parts = [
            x[row].mul_(self._columns[latent]).sum(1)
            for row, latent in zip(rows.split(step), latents.split(step), strict=True)
        ]
        return torch.cat([*parts, x.new_empty(0)]) + self._sae.b_enc[latents]

    def _borders(self, rows: Tensor, values: Tensor, n: int) -> Tensor:
        """Half-way between the k-th and the next candidate of each row `[n]`; minus infinity where there is no next."""
        assert self._k is not None
        counts = torch.bincount(rows, minlength=n)
        if len(rows) == 0 or (width := int(counts.max())) <= self._k:
            return values.new_full((n,), -torch.inf)
        place = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
        padded = values.new_full((n, width), -torch.inf).index_put_((rows, place), values)
        return padded.topk(self._k + 1).values[:, -2:].mean(1)


def _norms(vectors: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Length of each row `[n]`, and of what it loses in half precision `[n]`."""
    lost = vectors.to(dtype).float().sub_(vectors)
    return torch.linalg.vector_norm(vectors, dim=1), torch.linalg.vector_norm(lost, dim=1)
