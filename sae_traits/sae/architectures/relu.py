"""ReLU with an L1 penalty: the paper's SAE."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sae_traits.config.train import ReLU
from sae_traits.sae.activations import Latents, Selection, values_of
from sae_traits.sae.architectures.trainable import DenseSAE, Penalty, Processes, largest_of_batch, selected_latents

if TYPE_CHECKING:
    from sae_traits.sae.objective import ForwardPass

TURN = 0.1
"""Peak learning rate where none is given, times the square root of `d_model`.

Adam moves every component by about the learning rate, and so turns a row of unit norm by that times the root of their
number, in radians. A ReLU encoder has farther to go than the others, whose sparsity is given: its columns grow and its
biases sink until few latents are active. docs/experiments.md has the figures.
"""

SPARSE_BELOW = 0.04
"""Share of active latents below which a CPU multiplies faster with these alone; benchmarks/bench_sae.py."""


class ReLUSAE(DenseSAE):
    """latents = max(0, pre); Pahuja et al. 2026, section 3.1, equations 1 and 2."""

    @classmethod
    def default_learning_rate(cls, d_model: int) -> float:
        return TURN / math.sqrt(d_model)

    @classmethod
    def penalty(cls, options: ReLU, scale: float) -> Penalty:
        """The same trade-off on scaled features: mse shrinks by the scale's square, the L1 norm by the scale."""
        return Penalty(options.l1_coefficient / scale, options.sparsity_warmup_steps)

    def activate(self, pre: Tensor) -> Tensor:
        return pre.relu()

    def gate(self) -> Tensor:
        return torch.zeros_like(self.b_enc)

    def start(self, pre: Tensor, processes: Processes) -> None:
        """Lower all biases so that `d_model` latents per patch are active, as many as are needed to span any patch.

        With biases of zero half of the dictionary is active, and short trainings end before they have unlearnt it.
        """
        _, _, smallest = largest_of_batch(pre, self.config.d_model, processes)
        for tensor in (self.b_enc, pre):
            tensor.sub_(smallest.clamp_min(0))

    def training_latents(self, x: Tensor, pre: Tensor, processes: Processes) -> tuple[Tensor, Latents]:
        """Sparse latents once few are active, which in most trainings is soon and for long."""
        if pre.device.type == "cpu":
            active = pre > 0
            if int(active.sum()) < SPARSE_BELOW * active.numel():
                selection = Selection.of_mask(active)
                return pre, selected_latents(self.b_dec, self.W_enc, self.b_enc, x, pre, selection)
        return super().training_latents(x, pre, processes)

    def sparsity_loss(self, step: ForwardPass) -> Tensor:
        """The L1 norm: sum over latents, which are zero or positive, mean over the batch; section 3.1."""
        return values_of(step.latents).sum() / len(step.x)
