"""A baseline: non-negative matrix factorisation of the positive and the negative parts of features."""

from __future__ import annotations

import torch
from torch import Tensor

from sae_traits.sae.model import SAE


def positive_and_negative(x: Tensor) -> Tensor:
    """[x⁺, x⁻] `[n, 2 d_model]` of features `[n, d_model]`."""
    return torch.cat([x.relu(), (-x).relu()], dim=-1)


class NMFDictionary(SAE):
    """latents ≥ 0 that reconstruct [x⁺, x⁻] best with fixed components.

    The components are the columns of `W_enc`, here `[2 d_model, n_latents]`. A row of `W_dec` is the positive half of a
    component less its negative half.
    """

    @staticmethod
    def encoder_of(decoder: Tensor) -> Tensor:
        """The positive and the negative parts of the decoder `[2 d_model, n_latents]`."""
        return positive_and_negative(decoder).T.clone()

    def pre_activations(self, x: Tensor) -> Tensor:
        """What the components reconstruct: both parts of the features `[n, 2 d_model]`."""
        return positive_and_negative(self.centred(x.detach()))

    def activate(self, pre: Tensor) -> Tensor:
        """Latents `[n, n_latents]`, by scikit-learn's coordinate descent."""
        from sklearn.decomposition import non_negative_factorization

        if not len(pre):
            return pre.new_zeros(0, self.config.n_latents)
        latents, _, _ = non_negative_factorization(
            pre.detach().float().cpu().numpy(),
            H=self.W_enc.detach().float().T.contiguous().cpu().numpy(),
            n_components=self.config.n_latents,  # pyright: ignore[reportArgumentType]
            init="custom",
            update_H=False,
        )
        return torch.from_numpy(latents).to(pre)
