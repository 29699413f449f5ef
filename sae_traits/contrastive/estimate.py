"""What a contrastive training takes, before it begins: steps, images, operations, memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from sae_traits.config.finetune import FinetuneConfig
from sae_traits.contrastive.batches import Order
from sae_traits.contrastive.samples import read_samples
from sae_traits.models.clip.model import CLIPParts, read_clip

_BYTES_PER_PARAMETER = 16
"""Weight, gradient and AdamW's two moments, in float32."""
_BYTES_OF_A_LAYER = 68
"""Kept for the backward pass, per token and unit of width; float32, no attention scores (Korthikanti et al. 2022)."""
_BYTES_OF_A_CHECKPOINT = 4
"""Of which gradient checkpointing keeps a layer's input."""


@dataclass(frozen=True)
class TrainingEstimate:
    """Bounds of what a training takes."""

    n_images: int
    """With the wanted texts."""
    n_steps: int
    n_pairs_seen: int
    """Of all steps, replayed ones included."""
    flop: int
    """Of all steps: forward and backward passes."""
    n_parameters: int
    memory_bytes: int
    """Of one process, in float32, with all pairs that it computes at once."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"{self.n_images:,} images with texts; {self.n_steps:,} steps see {self.n_pairs_seen:,} pairs",
            f"{self.flop / 1e15:,.2f} PFLOP: {self.flop / 1e14 / 3600:,.2f} hours at 100 TFLOP/s",
            f"{self.n_parameters / 1e6:,.1f} million parameters; about {self.memory_bytes / 2**30:,.1f} GiB of memory",
            "(in one process, float32; bf16 takes less, and --chunk-size and --gradient-checkpointing lower it)",
        ]


def estimate_training(config: FinetuneConfig) -> TrainingEstimate:
    """Read the data and the model, and count; errors as of `finetune`."""
    pairs, schedule = config.pairs, config.schedule
    samples = read_samples(pairs)
    order = Order(len(samples), schedule.batch_size, schedule.seed)
    n_steps = max(1, round(schedule.epochs * order.steps_per_epoch))
    per_step = schedule.batch_size + pairs.replay_batch_size
    parts = read_clip(config.base.model, revision=config.base.model_revision)
    side = parts.preprocessing.framing.size[0]
    passes = 3 + (schedule.chunk_size is not None) + config.base.gradient_checkpointing
    at_once = min(schedule.chunk_size or per_step, per_step)
    n_parameters = sum(parameter.numel() for parameter in parts.model.parameters())
    return TrainingEstimate(
        n_images=len(samples),
        n_steps=n_steps,
        n_pairs_seen=n_steps * per_step,
        flop=passes * flop_of_a_pair(parts.model, side, parts.tokenizer.context_length) * n_steps * per_step,
        n_parameters=n_parameters,
        memory_bytes=n_parameters * (_BYTES_PER_PARAMETER + 4 * (config.optimiser.average_decay is not None))
        + at_once * _activation_bytes(parts, checkpointing=config.base.gradient_checkpointing),
    )


def flop_of_a_pair(clip: Any, side: int, context_length: int) -> int:
    """Operations of one image and one text of full length, forward; counted in a pass without numbers.

    Args:
        clip: a CLIPModel or SiglipModel of transformers.
        side: of its images, in pixels.
        context_length: tokens of its texts.
    """
    with torch.device("meta"):
        model = type(clip)(clip.config)
        pixels, ids = torch.zeros(1, 3, side, side), torch.zeros(1, context_length, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.get_image_features(pixel_values=pixels)
        model.get_text_features(input_ids=ids)
    return counter.get_total_flops()


def _activation_bytes(parts: CLIPParts, *, checkpointing: bool) -> int:
    vision, text = parts.model.config.vision_config, parts.model.config.text_config
    n_patches = (vision.image_size // vision.patch_size) ** 2 + 1
    towers = ((n_patches, vision), (parts.tokenizer.context_length, text))
    per_layer = _BYTES_OF_A_CHECKPOINT if checkpointing else _BYTES_OF_A_LAYER
    return sum(n_tokens * tower.hidden_size * tower.num_hidden_layers * per_layer for n_tokens, tower in towers)
