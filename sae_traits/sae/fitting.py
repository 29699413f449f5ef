"""An SAE of features that are in memory, in one call."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from sae_traits.config import TrainConfig
from sae_traits.errors import ConfigError
from sae_traits.sae.model import SAE
from sae_traits.sae.trainer import FeatureScale, n_steps_for, train_sae
from sae_traits.schema import BackboneInfo


def fit_sae(
    features: Tensor,
    config: TrainConfig,
    *,
    backbone: BackboneInfo | None = None,
    checkpoint: Path | None = None,
    accelerator: Accelerator | None = None,
) -> SAE:
    """Train an SAE on features of any origin, epoch after epoch in a new order each, until `config.n_patches` are seen.

    Features that do not fit into memory come from a store or from images: `sae-traits train`, or `trainer.train_saes`.

    Args:
        features: `[n, d_model]`, in any precision.
        config: architecture, sizes and schedule; `sae`, `sweep` and `tracker` are not read.
        backbone: where the features come from, for the record.
        checkpoint: file that a killed training resumes from, and which is left to the caller; by default there is none.
        accelerator: device and processes; by default what Accelerate finds.

    Raises:
        ConfigError: there are no features, or they are not one row a patch.
        CheckpointError: training diverged.
    """
    if features.ndim != 2 or not len(features):
        raise ConfigError(f"an SAE is trained on features [n, d_model], one row a patch, not {list(features.shape)}")
    mean = features.mean(0, dtype=torch.float64)
    squares = torch.stack([(part.double() - mean).square().sum() for part in features.split(2**16)]).sum()
    scale = FeatureScale(mean=mean.float().cpu(), scale=max(float(squares / features.numel()) ** 0.5, 1e-12))

    with tempfile.TemporaryDirectory() as folder:
        return train_sae(
            lambda start: shuffled_batches(features, config.batch_size, seed=config.seed, start=start),
            config,
            scale,
            n_steps=n_steps_for(config),
            checkpoint=checkpoint or Path(folder, "training.checkpoint"),
            data=hashlib.sha256(f"{list(features.shape)} {mean.tolist()} {float(squares)}".encode()).hexdigest(),
            accelerator=accelerator or Accelerator(),
            backbone=backbone,
            training={"n_patches": n_steps_for(config) * config.batch_size, "n_distinct_patches": len(features)},
        )


def shuffled_batches(features: Tensor, batch_size: int, *, seed: int, start: int) -> Iterator[Tensor]:
    """Endless float32 batches `[batch_size, d_model]` from step `start` on: epochs in an order of their own each."""
    first_epoch, skipped = divmod(start * batch_size, len(features))
    waiting = torch.empty(0, dtype=torch.int64)
    for epoch in count(first_epoch):
        order = np.random.default_rng([seed, epoch]).permutation(len(features))
        waiting = torch.cat([waiting, torch.from_numpy(order[skipped:])])
        skipped = 0
        while len(waiting) >= batch_size:
            rows, waiting = waiting[:batch_size], waiting[batch_size:]
            yield features[rows.to(features.device)].float()
