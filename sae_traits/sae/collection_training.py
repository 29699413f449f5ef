"""Train on the features of a collection: stored ones, or straight from the images."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from sae_traits.config.train import TrainConfig
from sae_traits.errors import StoreError
from sae_traits.features.accelerator import tracking
from sae_traits.features.source import FeatureSource
from sae_traits.features.stream import PatchStream, moments
from sae_traits.sae.model import SAE
from sae_traits.sae.sweep import settings_of
from sae_traits.sae.trainer import FeatureScale, n_steps_for, train_saes

SAMPLE_FOR_MOMENTS = 1000
"""Mean and scale come from so many images where features have to be computed."""


def train_on_source(
    source: FeatureSource,
    rows: NDArray[np.int64],
    config: TrainConfig,
    configs: Sequence[TrainConfig],
    *,
    collection: str,
    checkpoint: Path,
    accelerator: Accelerator,
) -> list[SAE]:
    """Train SAEs side by side on the patches of the images `rows [n]`; what is not said here is as in `train_saes`.

    `config` is that of the training as a whole, with the seed of the order of patches and the tracker of the curves.
    """
    of_features = moments(source, rows, max_images=SAMPLE_FOR_MOMENTS if source.is_computed else None)
    scale = (of_features.mean_squared_deviation / source.info.d_model) ** 0.5
    if not math.isfinite(scale):
        raise StoreError("the features have NaN or infinities; extract them again, for example with more precision")
    n_steps, batch_size = n_steps_for(config), config.batch_size
    rows_here = rows
    if source.is_computed:  # every process has batches of its own images
        rows_here = rows[accelerator.process_index :: accelerator.num_processes]
        batch_size //= accelerator.num_processes

    def batches(start: int) -> Iterator[Tensor]:
        patches = PatchStream(
            source,
            rows_here,
            n_patches=n_steps * batch_size,
            batch_size=batch_size,
            seed=config.seed,
            start=start,
            device=accelerator.device,
        )
        with closing(iter(patches)) as stream:  # also when the training fails, so that no thread reads on
            yield from stream

    precision = accelerator.mixed_precision
    training = {
        "collection": collection,
        "n_images": len(rows),
        "n_patches": n_steps * config.batch_size,
        "seed_of_order": config.seed,
        "precision": precision,
        "settings": settings_of(config),
    }
    rows_hash = hashlib.sha256(rows.tobytes()).hexdigest()
    with tracking(accelerator, config.tracker, training["settings"]):
        return train_saes(
            batches,
            [replace(of_sae, sweep=None, tracker=None) for of_sae in configs],
            FeatureScale(mean=of_features.mean.float(), scale=max(scale, 1e-12)),
            n_steps=n_steps,
            checkpoint=checkpoint,
            data=f"{source.fingerprint} {rows_hash} {n_steps} steps, order {config.seed}, {precision}",
            accelerator=accelerator,
            batches_are_shares=source.is_computed,
            backbone=source.info,
            training=training,
        )
