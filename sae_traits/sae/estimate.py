"""What a training is going to compute, before it is begun."""

from collections.abc import Sequence
from dataclasses import dataclass

from sae_traits.config.train import TrainConfig
from sae_traits.sae.architectures import trained_class
from sae_traits.sae.trainer import n_steps_for


@dataclass(frozen=True, kw_only=True)
class TrainingEstimate:
    """How long a training of one SAE or several is."""

    n_saes: int
    n_steps: int
    """Of all SAEs together: they share every batch."""
    batch_size: int
    n_different_patches: int
    """That the training images have; a longer training sees them again."""
    flops: int
    """Of all SAEs, in all steps."""

    @property
    def n_patches(self) -> int:
        """Patches that are seen, counted with repetition."""
        return self.n_steps * self.batch_size

    def lines(self) -> list[str]:
        passes = self.n_patches / max(1, self.n_different_patches)
        saes = f" of {self.n_saes} SAEs side by side" if self.n_saes > 1 else ""
        return [
            f"training    {self.n_steps:,} steps of {self.batch_size:,} patches{saes}: {passes:,.2f} times through the "
            f"{self.n_different_patches:,} of the training images"
        ]


def estimate_training(configs: Sequence[TrainConfig], *, d_model: int, n_different_patches: int) -> TrainingEstimate:
    """How long a training is, of one SAE or of several on the same batches, on features of width `d_model`."""
    n_steps, batch_size = n_steps_for(configs[0]), configs[0].batch_size
    return TrainingEstimate(
        n_saes=len(configs),
        n_steps=n_steps,
        batch_size=batch_size,
        n_different_patches=n_different_patches,
        flops=n_steps * batch_size * sum(flops_per_patch(config, d_model) for config in configs),
    )


def flops_per_patch(config: TrainConfig, d_model: int) -> int:
    """Floating-point operations of a training step for one patch: the matrix products, two operations per weight.

    One dense product makes the pre-activations. Four more follow, the reconstruction and the gradients of latents,
    decoder and encoder: of all latents where any may be active, of the k active ones elsewhere. Left out is what is
    small or comes late: biases, the optimiser, Matryoshka prefixes, the revival of dead latents; and that a CPU leaves
    out the inactive latents of ReLU, once these are most.
    """
    return 2 * d_model * (config.n_latents + 4 * trained_class(config).n_multiplied(config))


def encoding_flops_per_patch(n_latents: int, d_model: int) -> int:
    """Floating-point operations of the codes of one patch."""
    return 2 * d_model * n_latents
