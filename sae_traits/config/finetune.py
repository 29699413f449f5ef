"""Options of `sae-traits finetune`: on which texts a CLIP is trained further, towards what, and how."""

from __future__ import annotations

from dataclasses import dataclass

from sae_traits.config.options import check, check_at_least, check_positive, option


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """AdamW, its schedule, and what is trained at all."""

    learning_rate: float = option(
        1e-5, "Peak learning rate of AdamW; recipes for tens of thousands of pairs per step say 1e-4."
    )
    warmup_steps: int | None = option(None, "Steps of linear learning-rate warm-up; by default a tenth of all steps.")
    weight_decay: float = option(0.2, "Of matrices and embeddings; vectors, norms, biases and scales do not decay.")
    beta1: float = option(0.9, "AdamW's decay of the mean gradient.")
    beta2: float = option(0.98, "AdamW's decay of the mean squared gradient.")
    epsilon: float = option(1e-6, "AdamW's epsilon.")
    max_gradient_norm: float | None = option(None, "Clip the gradient of each step to this norm.")
    max_logit_scale: float | None = option(
        100.0, "Ceiling of the factor of the cosines after each step, as all recipes have it; `none` for no ceiling."
    )
    layer_decay: float = option(
        1.0,
        "A layer of a tower learns this many times as fast as the one above it; 1: all alike, as in the recipes.",
    )
    average_decay: float | None = option(
        None, "Keep, evaluate and save a moving average of the weights with this decay, such as 0.999."
    )

    def __post_init__(self) -> None:
        check_positive(self, "learning_rate", "epsilon", "max_gradient_norm")
        check_at_least(0, self, "warmup_steps", "weight_decay")
        check_at_least(1, self, "max_logit_scale")
        for name in ("beta1", "beta2", "average_decay"):
            value = getattr(self, name)
            check(value is None or 0 <= value < 1, f"{name} must lie in [0, 1), not {value}")
        check(0 < self.layer_decay <= 1, f"layer_decay must lie in (0, 1], not {self.layer_decay}")

    def warmup_steps_of(self, n_steps: int) -> int:
        """Warm-up steps of a training of `n_steps`."""
        return n_steps // 10 if self.warmup_steps is None else self.warmup_steps
