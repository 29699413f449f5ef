"""Measure SAEs on images that are held out, one or several, and record it in their configurations."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray

from sae_traits.config.train import TrainConfig
from sae_traits.features.source import FeatureSource
from sae_traits.features.store import FeatureShard
from sae_traits.logging import warn
from sae_traits.sae.metrics import measure_sae
from sae_traits.sae.model import SAE
from sae_traits.sae.monosemanticity import measure_monosemanticity
from sae_traits.sae.stability import mean_stability
from sae_traits.sae.sweep import seeds_of_settings
from sae_traits.schema import Collection
from sae_traits.vocabulary import Split

MEASURED_PATCHES = 200_000
"""An SAE is measured on at most this many held-out patches."""
HELD_OUT_FIRST: tuple[Split, ...] = ("validation", "test", "train")


def measure_on_held_out(
    saes: Sequence[SAE], source: FeatureSource, collection: Collection, device: torch.device
) -> list[NDArray[np.bool_]]:
    """Measure SAEs on a sample of the images that are held out, and record that in their configurations.

    They are on the CPU before and after, and measured on `device`. Returns which latents of each fired `[n_latents]`.
    """
    held_out, split = _held_out(source, collection)
    fired = []
    for sae in saes:
        measured = measure_sae(sae.to(device), (shard.features for shard in held_out))
        monosemanticity = measure_monosemanticity(sae, held_out).to_dict()
        _record(sae, {**measured.to_dict(), "monosemanticity": monosemanticity, "measured_on": split})
        fired.append(measured.firing_shares > 0)
        sae.cpu()
    return fired


def measure_together(
    saes: Sequence[SAE],
    configs: Sequence[TrainConfig],
    source: FeatureSource,
    collection: Collection,
    accelerator: Accelerator,
) -> None:
    """Measure the SAEs of a training: every process some of them, and each SAE whole, as a single process would.

    All processes record all measures. Where SAEs, which are on the CPU, differ in their seeds alone, `stability` says
    how alike they became.
    """
    indices = range(accelerator.process_index, len(saes), accelerator.num_processes)
    fired = measure_on_held_out([saes[i] for i in indices], source, collection, accelerator.device) if indices else []
    of_process = [(i, saes[i].config.training["metrics"], live) for i, live in zip(indices, fired, strict=True)]
    live_of: dict[int, NDArray[np.bool_]] = {}
    for i, metrics, live in gather_object(of_process):
        _record(saes[i], metrics)
        live_of[i] = live
    alive = [[i for i in members if live_of[i].any()] for members in seeds_of_settings(configs)]
    groups = [members for members in alive if len(members) > 1]
    compared = []
    for members in groups[accelerator.process_index :: accelerator.num_processes]:
        alike = mean_stability([saes[i] for i in members], live=[live_of[i] for i in members])
        compared.append((members, asdict(alike) | {"seeds": [configs[i].seed for i in members]}))
    for members, alike in gather_object(compared):
        for i in members:
            _record(saes[i], saes[i].config.training["metrics"] | {"stability": alike})


def _record(sae: SAE, metrics: dict[str, Any]) -> None:
    """Put measures into the SAE's configuration, from where the card and the report read them."""
    sae.config = replace(sae.config, training=sae.config.training | {"metrics": metrics})


def _held_out(source: FeatureSource, collection: Collection) -> tuple[list[FeatureShard], str]:
    """A sample of held-out images, and their split: validation, or test or train where there is no other."""
    split, rows = next((s, rows) for s in HELD_OUT_FIRST if len(rows := collection.rows(s)))
    if split == "train":
        warn("no images are held out, so the SAE is measured on those that it was trained on")
    n_sampled = max(1, MEASURED_PATCHES // (source.info.rows * source.info.columns))
    sample = np.sort(np.random.default_rng(0).permutation(rows)[:n_sampled])
    return list(source.shards(sample)), split
