"""A learned threshold for every latent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from sae_traits.config.train import JumpReLU
from sae_traits.sae.architectures.threshold import ThresholdSAE, mean_active
from sae_traits.sae.architectures.trainable import DenseSAE, Penalty

if TYPE_CHECKING:
    from sae_traits.sae.objective import ForwardPass


class JumpReLUSAE(ThresholdSAE, DenseSAE):
    """latents = pre where pre > threshold, the threshold being learned with the mean number of active latents as aim.

    k is that aim; other libraries' checkpoints have none.

    Source: Rajamanoharan et al. 2024, "Jumping ahead", section 3, with the penalty of its appendix on training to a
    given sparsity.
    """

    @classmethod
    def penalty(cls, options: JumpReLU, scale: float) -> Penalty:
        """The same on features of any scale, since numbers of latents have none."""
        return Penalty(options.l0_coefficient, options.sparsity_warmup_steps)

    def sparsity_loss(self, step: ForwardPass) -> Tensor:
        """(L0 / k - 1)², L0 being the mean number of active latents per patch over all processes.

        Only thresholds get a gradient.
        """
        k = self.config.k
        assert k is not None
        of_process = mean_active(step.pre, self.gate())
        excess = step.processes.average(of_process.detach()) / k - 1
        # The value is that of the whole batch; the gradient is this process's part of it.
        return excess.square() + 2 * excess / k * (of_process - of_process.detach())
