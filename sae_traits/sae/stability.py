"""Whether two trainings find the same latents: one-to-one matching of decoder rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from sae_traits.errors import CheckpointError
from sae_traits.sae.model import SAE

MATCHED_LATENTS = 2048
"""At most so many latents of the first SAE are matched, a random sample where it has more. At 2,048 against 24,576 of
width 768 the matching takes some 6 s and 0.7 GB; matching all would take hours."""


@dataclass(frozen=True, kw_only=True)
class Stability:
    """How alike the latents of two SAEs are: mean and shares of the cosines of matched decoder rows."""

    mean_cosine: float
    share_above_07: float
    share_above_09: float
    n_matched: int
    n_latents: int
    """Latents of the first SAE that could have been matched; more than `n_matched` where a sample was."""


def stability(
    first: SAE, second: SAE, *, live: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None, seed: int = 0
) -> Stability:
    """Match each latent of one SAE with another latent of the second so that the cosines' sum is largest.

    Above MATCHED_LATENTS, a sample of the first SAE's latents is matched with all of the second's. Those not sampled do
    not compete for partners, so the result is slightly too high, the less so the fewer latents want the same partner.

    Args:
        first, second: two SAEs of the same width `d_model`, for example of different seeds.
        live: which latents of each take part `[n_latents]`, for example `SAEMetrics.firing_shares > 0`; a latent that
            never fires keeps its random direction and says nothing about training. By default all.
        seed: of the sample.

    Raises:
        CheckpointError: the SAEs read features of different widths, or one has no live latents.

    Source: Paulo and Belrose 2025, "Sparse autoencoders trained on the same data learn different features" (Hungarian
    matching of decoder rows, threshold 0.7).
    """
    if first.config.d_model != second.config.d_model:
        raise CheckpointError(
            f"the SAEs read features of widths {first.config.d_model} and {second.config.d_model}; only SAEs of the "
            "same features can be compared"
        )
    from scipy.optimize import linear_sum_assignment

    rows = [_directions(sae, None if live is None else live[i]) for i, sae in enumerate((first, second))]
    n_latents = len(rows[0])
    if n_latents > MATCHED_LATENTS:
        sample = np.random.default_rng(seed).choice(n_latents, MATCHED_LATENTS, replace=False)
        rows[0] = rows[0][torch.from_numpy(sample)]
    cosines = (rows[0] @ rows[1].T).numpy()
    cosines = cosines[linear_sum_assignment(cosines, maximize=True)]
    return Stability(
        mean_cosine=float(cosines.mean(dtype=np.float64)),
        share_above_07=float((cosines > 0.7).mean()),
        share_above_09=float((cosines > 0.9).mean()),
        n_matched=len(cosines),
        n_latents=n_latents,
    )


def mean_stability(saes: Sequence[SAE], *, live: Sequence[NDArray[np.bool_]] | None = None) -> Stability:
    """Means of `stability` over all pairs of two or more SAEs; counts are of all pairs. A ValueError for fewer."""
    if len(saes) < 2:
        raise ValueError(f"stability needs two SAEs or more, not {len(saes)}")
    pairs = [
        stability(saes[i], saes[j], live=None if live is None else (live[i], live[j]))
        for i, j in combinations(range(len(saes)), 2)
    ]
    return Stability(
        mean_cosine=float(np.mean([pair.mean_cosine for pair in pairs])),
        share_above_07=float(np.mean([pair.share_above_07 for pair in pairs])),
        share_above_09=float(np.mean([pair.share_above_09 for pair in pairs])),
        n_matched=sum(pair.n_matched for pair in pairs),
        n_latents=sum(pair.n_latents for pair in pairs),
    )


def _directions(sae: SAE, live: NDArray[np.bool_] | None) -> torch.Tensor:
    """Decoder rows of the live latents at unit length `[n, d_model]`."""
    rows = functional.normalize(sae.W_dec.detach().float().cpu(), dim=1)
    if live is not None:
        rows = rows[torch.from_numpy(live)]
    if not len(rows):
        raise CheckpointError("an SAE without live latents cannot be compared; look at its dead_share")
    return rows
