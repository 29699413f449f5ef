"""SAEs of the same width in one stack of weights, so that one product gives the pre-activations of all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from sae_traits.config.train import TrainConfig
from sae_traits.sae.activations import product_dtype
from sae_traits.sae.architectures.trainable import TrainableSAE
from sae_traits.sae.training_state import TrainingState


class Stack:
    """Trainings whose SAEs have the same shapes."""

    def __init__(self, states: Sequence[TrainingState]) -> None:
        """Move the encoders into one tensor, of which each SAE's `W_enc` stays a view."""
        self.states = list(states)
        self._encoders = torch.stack([state.sae.W_enc.data.T for state in self.states])
        for state, encoder in zip(self.states, self._encoders, strict=True):
            state.sae.W_enc.data = encoder.T
        self._result: Tensor | None = None

    @torch.no_grad()
    def pre_activations(self, x: Tensor) -> Tensor:
        """Of every SAE `[n_saes, n, n_latents]`, without gradient, in half precision under autocast.

        The result is overwritten by the next call: making such a large array anew would cost a fifth of the product.

        Args:
            x: scaled features `[n, d_model]`.
        """
        b_enc = torch.stack([state.sae.b_enc for state in self.states])
        b_dec = torch.stack([state.sae.b_dec for state in self.states])
        dtype = product_dtype(self._encoders)
        shape = len(self.states), len(x), self._encoders.shape[1]
        if self._result is None or self._result.shape != shape:
            self._result = torch.empty(shape, dtype=dtype, device=x.device)
        centred, encoders = (x - b_dec[:, None]).to(dtype), self._encoders.transpose(1, 2).to(dtype)
        return torch.baddbmm(b_enc[:, None].to(dtype), centred, encoders, out=self._result)


def stack_by_width(
    saes: Sequence[TrainableSAE], configs: Sequence[TrainConfig]
) -> list[list[tuple[TrainableSAE, TrainConfig]]]:
    """SAEs with their configurations, those of the same width together."""
    pairs = sorted(zip(saes, configs, strict=True), key=lambda pair: pair[0].config.n_latents)
    return [list(group) for _, group in groupby(pairs, key=lambda pair: pair[0].config.n_latents)]
