"""A baseline: non-negative matrix factorisation of the positive and the negative parts of features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sae_traits.sae.model import SAE


def positive_and_negative(x: Tensor) -> Tensor:
    """[x⁺, x⁻] `[n, 2 d_model]` of features `[n, d_model]`."""
    return torch.cat([x.relu(), (-x).relu()], dim=-1)


@dataclass(frozen=True)
class NMF:
    """latents ≥ 0 that reconstruct [x⁺, x⁻] best with fixed components.

    The components are the columns of `W_enc`, here `[2 d_model, n_latents]`. A row of `W_dec` is the positive half of a
    component less its negative half.
    """

    has_threshold: ClassVar = False

    def encode(self, sae: SAE, x: Tensor) -> Tensor:
        """Latents `[n, n_latents]`, by scikit-learn's coordinate descent."""
        from sklearn.decomposition import non_negative_factorization

        if not len(x):
            return x.new_zeros(0, sae.config.n_latents)
        centred = x - sae.b_dec.detach() if sae.config.subtract_decoder_bias else x
        latents, _, _ = non_negative_factorization(
            positive_and_negative(centred).cpu().numpy(),
            H=sae.W_enc.detach().T.contiguous().cpu().numpy(),
            n_components=sae.config.n_latents,  # pyright: ignore[reportArgumentType]
            init="custom",
            update_H=False,
        )
        return torch.from_numpy(latents).to(x)

    def gate(self, sae: SAE) -> None:
        """None: the latents are found together."""
        return
