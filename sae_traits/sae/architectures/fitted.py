"""The baselines that no trained architecture can stand for: their latents are found in another way."""

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


class KMeansDictionary(SAE):
    """One latent is active: that of the nearest centroid, with the centroid's length (from b_dec) as its value.

    The centroids, less b_dec, are the columns of `W_enc`; `W_dec` has them at unit length and `b_enc` is -|c|²/2, so
    that the largest pre-activation is the nearest centroid and decoding gives that centroid.
    """

    def activate(self, pre: Tensor) -> Tensor:
        nearest = pre.argmax(-1, keepdim=True)
        return torch.zeros_like(pre).scatter_(-1, nearest, self.W_enc.norm(dim=0)[nearest])
