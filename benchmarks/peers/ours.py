"""sae-traits: train_saes as its pipeline calls it."""

from __future__ import annotations

import tempfile
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import torch
from accelerate import Accelerator

from sae_traits.config.train import Architecture, ReLU, TrainConfig
from sae_traits.sae import training_state
from sae_traits.sae.trainer import FeatureScale, train_saes

from .contract import Task, TimedBatches, Trained, answer


def train(batches: TimedBatches, task: Task) -> Trained:
    """Train on features that are centred and scaled; both are folded into the weights at the end."""
    if task.dead_after is not None:  # fixed in the product, and looked at too rarely for a few steps
        training_state.DEAD_AFTER_PATCHES, training_state.STEPS_BETWEEN_DEAD_CHECKS = task.dead_after, 1
    rate: dict[str, Any] = {} if task.learning_rate is None else {"learning_rate": task.learning_rate}
    config = TrainConfig(
        architecture=_architecture(task),
        n_latents=task.n_latents,
        n_patches=len(batches) * task.batch_size,
        batch_size=task.batch_size,
        warmup_steps=task.warmup_steps,
        seed=task.seed,
        initialisation="random",  # as the others
        **rate,
    )
    with tempfile.TemporaryDirectory() as folder:
        (sae,) = train_saes(
            lambda start: islice(iter(batches), start, None),
            [config],
            _scale(torch.cat(batches.first())),
            n_steps=len(batches),
            checkpoint=Path(folder, "checkpoint.pt"),
            data="benchmark",
            accelerator=Accelerator(cpu=True),
        )
    return Trained(sae.state_dict(), sae.config.to_dict())


def _architecture(task: Task) -> Architecture:
    kind = next(kind for kind in get_args(Architecture) if kind.kind == task.architecture)
    return kind(l1_coefficient=task.l1_coefficient) if kind is ReLU else kind(k=task.k)


def _scale(x: torch.Tensor) -> FeatureScale:
    mean = x.mean(0)
    return FeatureScale(mean=mean, scale=float((x - mean).square().mean().sqrt()))


if __name__ == "__main__":
    answer(train, "sae-traits")
