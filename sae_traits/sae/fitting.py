"""An SAE of features of any origin, in one call."""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain, count, cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import patch_environment
from numpy.typing import NDArray
from torch import Tensor

from sae_traits.config.train import TrainConfig
from sae_traits.errors import ConfigError
from sae_traits.features.backbone import choose_device
from sae_traits.sae.model import SAE
from sae_traits.sae.trainer import FeatureScale, n_steps_for, train_saes
from sae_traits.schema import BackboneInfo

ROWS_AT_ONCE = 2**16
"""Bounds the float64 copies while mean and scale are computed; of an iterator as many patches are looked at."""

Rows = Tensor | NDArray[Any]
_NOT_FEATURES = "an SAE is trained on a tensor, a numpy array or batches of these, not {}"


def fit_sae(
    data: Rows | Iterable[Rows],
    config: TrainConfig,
    *,
    device: str = "auto",
    backbone: BackboneInfo | None = None,
    checkpoint: Path | None = None,
) -> SAE:
    """Train an SAE on features of any origin until `config.n_patches` are seen.

    Args:
        data: features `[n, d_model]` in any precision, a tensor or a numpy array that may be memory-mapped: epoch after
            epoch in a new order each. Or batches of such rows, of any sizes, which should be shuffled: a list or a
            `DataLoader` is read again from its start when it ends, an iterator once.
        config: architecture, sizes and schedule; `sweep` and `tracker` are not read.
        device: auto, cpu, cuda, cuda:1 or mps.
        backbone: where the features come from, for the record.
        checkpoint: file that a killed training on an array resumes from, and which is left to the caller; by default
            there is none.

    Raises:
        ConfigError: there are no features, they are not one row per patch or not finite, or this process computes
            elsewhere.
        StoreError: an iterator has fewer patches than `config.n_patches`.
        CheckpointError: training diverged.
    """
    accelerator = _accelerator_on(device)
    facts: dict[str, Any] = {"n_patches": n_steps_for(config) * config.batch_size}
    if isinstance(data, Tensor | np.ndarray):
        _check_rows(data)
        scale, squares = _scale_of(data[start : start + ROWS_AT_ONCE] for start in range(0, len(data), ROWS_AT_ONCE))
        fingerprint = f"{list(data.shape)} {scale.mean.tolist()} {squares}"
        facts["n_distinct_patches"] = len(data)

        def batches(start: int) -> Iterator[Tensor]:
            return shuffled_batches(data, config.batch_size, seed=config.seed, start=start)
    else:
        if checkpoint is not None:
            raise ConfigError("a training on batches cannot resume, since they may differ; leave out the checkpoint")
        first, rest = _first_rows(data)
        scale, _ = _scale_of(first)
        fingerprint = "batches"

        def batches(start: int) -> Iterator[Tensor]:
            again = () if isinstance(data, Iterator) else cycle([data])  # an iterator can be had once
            return rebatched(chain(first, rest, chain.from_iterable(again)), config.batch_size)

    with tempfile.TemporaryDirectory() as folder:
        (sae,) = train_saes(
            batches,
            [config],
            scale,
            n_steps=n_steps_for(config),
            checkpoint=checkpoint or Path(folder, "training.checkpoint"),
            data=hashlib.sha256(fingerprint.encode()).hexdigest(),
            accelerator=accelerator,
            backbone=backbone,
            training=facts,
        )
    return sae


def shuffled_batches(data: Rows, batch_size: int, *, seed: int, start: int) -> Iterator[Tensor]:
    """Endless float32 batches `[batch_size, d_model]` from step `start` on: epochs, each in an order of its own."""
    first_epoch, skipped = divmod(start * batch_size, len(data))
    waiting = np.empty(0, dtype=np.int64)
    for epoch in count(first_epoch):
        order = np.random.default_rng([seed, epoch]).permutation(len(data))
        waiting = np.concatenate([waiting, order[skipped:]])
        skipped = 0
        while len(waiting) >= batch_size:
            rows, waiting = waiting[:batch_size], waiting[batch_size:]
            yield _as_floats(data[torch.from_numpy(rows).to(data.device)] if isinstance(data, Tensor) else data[rows])


def rebatched(parts: Iterable[Rows], batch_size: int) -> Iterator[Tensor]:
    """Float32 batches `[batch_size, d_model]` of the same rows; an incomplete last one is left out."""
    waiting: list[Tensor] = []
    n_waiting = 0
    for part in parts:
        _check_rows(part)
        waiting.append(_finite(part))
        n_waiting += len(part)
        if n_waiting >= batch_size:
            *whole, last = torch.cat(waiting).split(batch_size)
            whole, waiting = ([*whole, last], []) if len(last) == batch_size else (whole, [last])
            n_waiting = sum(map(len, waiting))
            yield from whole


def _accelerator_on(device: str) -> Accelerator:
    """The accelerator of this process, which has one device for all of its trainings."""
    if device == "auto":
        return Accelerator()
    wanted = choose_device(device)
    with patch_environment(accelerate_torch_device=device):
        accelerator = Accelerator()
    same_index = wanted.index is None or accelerator.device.index in (None, wanted.index)
    if accelerator.device.type != wanted.type or not same_index:
        raise ConfigError(
            f"this process already computes on {accelerator.device}, and Accelerate has one device per process; "
            f"leave out device={device!r}, or begin another process"
        )
    return accelerator


def _first_rows(data: Iterable[Rows]) -> tuple[list[Rows], Iterator[Rows]]:
    """The first batches, ROWS_AT_ONCE rows or more where there are so many, and what comes after them."""
    if not isinstance(data, Iterable):
        raise ConfigError(_NOT_FEATURES.format(type(data).__name__))
    rest = iter(data)
    first: list[Rows] = []
    while sum(map(len, first)) < ROWS_AT_ONCE and (part := next(rest, None)) is not None:
        _check_rows(part)
        first.append(part)
    if not first:
        raise ConfigError("an SAE is trained on features [n, d_model], one row per patch, and there is no batch of any")
    return first, rest


def _scale_of(parts: Iterable[Rows]) -> tuple[FeatureScale, float]:
    """Mean and scale of features, and the sum of their squared distances to the mean."""
    parts = list(parts)
    n = sum(map(len, parts))
    mean = torch.stack([_finite(part).sum(0, dtype=torch.float64) for part in parts]).sum(0) / n
    squares = sum(float((_as_floats(part).double() - mean).square().sum()) for part in parts)
    scale = max((squares / (n * len(mean))) ** 0.5, 1e-12)
    return FeatureScale(mean=mean.float().cpu(), scale=scale), squares


def _as_floats(rows: Rows) -> Tensor:
    return rows.float() if isinstance(rows, Tensor) else torch.from_numpy(np.array(rows, dtype=np.float32))


def _finite(rows: Rows) -> Tensor:
    floats = _as_floats(rows)
    if not bool((finite := floats.isfinite().all(1)).all()):
        raise ConfigError(
            f"{int((~finite).sum())} of {len(floats)} patches have NaN or infinities among their features; "
            "leave them out, or mend what made them"
        )
    return floats


def _check_rows(rows: Any) -> None:
    if not isinstance(rows, Tensor | np.ndarray):
        raise ConfigError(_NOT_FEATURES.format(type(rows).__name__))
    if rows.ndim != 2 or not len(rows):
        raise ConfigError(f"an SAE is trained on features [n, d_model], one row per patch, not {list(rows.shape)}")
