"""Train SAEs with Accelerate: one or several in one pass over the data, on one process or many, resuming after a kill.

The features are centred on their mean and divided by one scalar while training; both are folded into the saved weights,
so that the file works on raw features and its decoder rows stay unit norm (docs/architecture.md).
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from sae_traits.config.train import TrainConfig
from sae_traits.errors import CheckpointError, ConfigError, StoreError
from sae_traits.logging import SECONDS_BETWEEN_LINES, duration, say, tell_progress
from sae_traits.sae.architectures import new_sae, trained_class
from sae_traits.sae.initialisation import initialisation_of, start_from_centroids
from sae_traits.sae.model import SAE
from sae_traits.sae.objective import StepLosses
from sae_traits.sae.training_state import Curves, Stack, TrainingState, load_checkpoint, save_checkpoint
from sae_traits.schema import BackboneInfo

DECAY_SHARE = 0.2
"""The learning rate falls linearly to zero over this last share of the steps."""
POINTS_OF_A_CURVE = 100
"""Steps of a training that its curve keeps; only at these does it wait for the device."""


@dataclass(frozen=True, kw_only=True)
class FeatureScale:
    """How features are scaled while training: (x - mean) / scale."""

    mean: Tensor
    """`[d_model]`."""
    scale: float
    """Root mean square of the centred features, over patches and components."""

    def fold(self, sae: SAE) -> None:
        """Make an SAE of scaled features one of raw features, in place: latents grow by `scale`."""
        with torch.no_grad():
            sae.b_enc.mul_(self.scale)
            sae.b_dec.mul_(self.scale).add_(self.mean.to(sae.b_dec))
            for threshold in sae.thresholds:
                threshold.mul_(self.scale)


def peak_learning_rate(config: TrainConfig, d_model: int) -> float:
    """The learning rate between warm-up and decay, for features of width `d_model`."""
    if config.learning_rate is not None:
        return config.learning_rate
    return trained_class(config).default_learning_rate(d_model)


def learning_rate(step: int, n_steps: int, config: TrainConfig, d_model: int) -> float:
    """Linear warm-up from zero, constant, then linear decay to zero over the last steps."""
    warm = min(1.0, (step + 1) / (config.warmup_steps + 1))
    cool = min(1.0, (n_steps - step) / max(1.0, DECAY_SHARE * n_steps))
    return peak_learning_rate(config, d_model) * min(warm, cool)


def train_saes(
    batches: Callable[[int], Iterator[Tensor]],
    configs: Sequence[TrainConfig],
    scale: FeatureScale,
    *,
    n_steps: int,
    checkpoint: Path,
    data: str,
    accelerator: Accelerator,
    batches_are_shares: bool = False,
    backbone: BackboneInfo | None = None,
    training: dict[str, Any] | None = None,
    seconds_between_checkpoints: float = 60.0,
) -> list[SAE]:
    """Train SAEs side by side on the same batches of raw features.

    Args:
        batches: from a step number to the batches `[batch_size, d_model]` of that step and all later ones; the same
            in every process, each of which takes its share of the rows, unless `batches_are_shares`: then every process
            is given a share of its own, `batch_size` over their number.
        checkpoint: file that a killed training resumes from; the caller removes it once the SAEs are saved.
        data: fingerprint of what `batches` gives; a checkpoint of other data is not continued.
        backbone, training: where the features came from and what they are, for the record.

    Returns:
        The SAEs of raw features, on the CPU, in the order of `configs`, each with its learning curve in
        `config.training["curve"]`.

    Raises:
        StoreError: the checkpoint cannot be read or written.
        CheckpointError: training diverged.
        ConfigError: the processes and the settings do not go together.
    """
    check_together(configs, accelerator)
    stacks = _begin(configs, scale, accelerator, backbone, training or {})
    states = [state for stack in stacks for state in stack.states]
    key = f"{[state.config for state in states]!r} on {data}"
    start, curves = load_checkpoint(checkpoint, key, states, of_same_processes=batches_are_shares)
    log = TrainingLog(states, curves, start, n_steps)
    mean = scale.mean.to(accelerator.device)
    saved = time.monotonic()
    of_process = (
        slice(None) if batches_are_shares else slice(accelerator.process_index, None, accelerator.num_processes)
    )
    shares = (batch[of_process] for batch in batches(start))
    if start == 0:
        shares = start_from_centroids(states, shares, mean, n_steps, accelerator)
    n_done = start
    for step, share in zip(range(start, n_steps), shares, strict=False):
        x = (share.to(accelerator.device, non_blocking=True) - mean) / scale.scale
        losses = []
        for stack in stacks:
            with accelerator.autocast():
                pre_activations = stack.pre_activations(x)
            for state, pre in zip(stack.states, pre_activations, strict=True):
                losses.append(state.step(step, x, pre, learning_rate(step, n_steps, state.config, x.shape[1])))
        log.note(step, losses, x)
        if time.monotonic() - saved > seconds_between_checkpoints and accelerator.is_main_process:
            if all(map(_is_finite, states)):  # else the last good one stays, until all processes know that one diverged
                save_checkpoint(checkpoint, step + 1, key, states, log.curves)
            saved = time.monotonic()
        n_done = step + 1
    if n_done < n_steps:
        raise StoreError(f"the features ended after step {n_done} of {n_steps}; give more, or train on fewer patches")
    by_config = {id(state.config): state for state in states}
    return [_finished(by_config[id(config)], scale, log) for config in configs]


def check_together(configs: Sequence[TrainConfig], accelerator: Accelerator) -> None:
    """Raise a ConfigError where settings, precision and processes do not go together."""
    if accelerator.mixed_precision == "fp16":
        raise ConfigError("fp16 loses small gradients of an SAE; launch with --mixed_precision bf16 or no")
    for name in ("batch_size", "n_patches"):
        values = {getattr(config, name) for config in configs}
        if len(values) > 1:
            raise ConfigError(f"SAEs that share a pass over the data need the same {name}, not {sorted(values)}")
    batch_size = configs[0].batch_size
    if batch_size % accelerator.num_processes:
        raise ConfigError(f"batch_size {batch_size} cannot be shared by {accelerator.num_processes} processes equally")


def _begin(
    configs: Sequence[TrainConfig],
    scale: FeatureScale,
    accelerator: Accelerator,
    backbone: BackboneInfo | None,
    training: dict[str, Any],
) -> list[Stack]:
    """All trainings at their first step, those of the same width together."""
    d_model = len(scale.mean)
    by_width: dict[int, list[TrainingState]] = defaultdict(list)
    for config in configs:
        # On a CPU the order of sums, hence their last bits, depends on the number of threads.
        threads = {"n_threads": torch.get_num_threads()} if accelerator.device.type == "cpu" else {}
        chosen = {"learning_rate": peak_learning_rate(config, d_model), "initialisation": initialisation_of(config)}
        record = training | chosen | threads
        sae = new_sae(config, d_model, backbone=backbone, training=record).to(accelerator.device)
        penalty = sae.penalty(config.architecture, scale.scale)
        by_width[config.n_latents].append(TrainingState(sae, config, accelerator, penalty))
    return [Stack(states) for _, states in sorted(by_width.items())]


def _finished(state: TrainingState, scale: FeatureScale, log: TrainingLog) -> SAE:
    """The SAE of raw features, on the CPU."""
    if not _is_finite(state):
        raise CheckpointError("training diverged: a weight is not finite; choose a lower --learning-rate")
    sae = SAE.from_config(state.sae.config)
    sae.load_state_dict(state.sae.state_dict())
    scale.fold(sae)
    points = log.curves[log.states.index(state)]
    curve = {name: [point[name] for point in points] for name in (points[0] if points else ())}
    sae.config = replace(sae.config, training=sae.config.training | {"curve": curve})
    return sae.eval()


def _is_finite(state: TrainingState) -> bool:
    """Whether every weight is a number."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in state.sae.parameters())


def n_steps_for(config: TrainConfig) -> int:
    """Steps in which at least `n_patches` patches are seen."""
    return math.ceil(config.n_patches / config.batch_size)


class TrainingLog:
    """Curves and progress of trainings that run side by side."""

    def __init__(self, states: Sequence[TrainingState], curves: Curves, first_step: int, n_steps: int) -> None:
        self.states, self.curves, self.n_steps = states, curves, n_steps
        self._first, self._batch_size = first_step, states[0].config.batch_size
        self.accelerator = states[0].accelerator
        self._said = time.monotonic()
        self._first_done = self._said
        """When the first step was, which takes longer: what it needs is made before it."""

    def note(self, step: int, losses: Sequence[StepLosses], x: Tensor) -> None:
        """Say and keep what each training measured in a step on scaled features `[n, d_model]`, if it is time to."""
        now, last = time.monotonic(), step + 1 == self.n_steps
        if step == self._first:
            self._first_done = now
        tell_progress("train", step + 1, self.n_steps, "step")
        if last or step % max(1, self.n_steps // POINTS_OF_A_CURVE) == 0:
            # Decided by the step alone, because all processes must take part.
            for curve, loss, state in zip(self.curves, losses, self.states, strict=True):
                curve.append({"step": step + 1, **_measures(loss, state, x, state.objective.processes.average)})
            if self.accelerator.trackers:
                self._track(step)
            if not all(math.isfinite(curve[-1]["loss"]) for curve in self.curves):
                raise CheckpointError(
                    f"training diverged: the loss of step {step + 1} is not finite; choose a lower --learning-rate"
                )
        if self.accelerator.is_main_process and (last or now - self._said > SECONDS_BETWEEN_LINES):
            self._said = now
            self._say(step, _measures(losses[0], self.states[0], x), now)

    def _track(self, step: int) -> None:
        values: dict[str, float] = {}
        for number, (state, curve) in enumerate(zip(self.states, self.curves, strict=True)):
            prefix = f"{number}_{state.sae.config.architecture}/" if len(self.states) > 1 else ""
            values |= {prefix + name: value for name, value in curve[-1].items() if name != "step"}
        self.accelerator.log(values, step=step + 1)

    def _say(self, step: int, of_first: dict[str, float], now: float) -> None:
        pace = ""
        if n_timed := step - self._first:
            rate = n_timed / max(now - self._first_done, 1e-9)
            pace = f", {rate * self._batch_size:,.0f} patches/s, {duration((self.n_steps - step - 1) / rate)} left"
        also = f" (the first of {len(self.states)} SAEs)" if len(self.states) > 1 else ""
        say(
            f"train: step {step + 1} of {self.n_steps}{also}, loss {of_first['loss']:.4f}, "
            f"explained variance {of_first['explained_variance']:.3f}, L0 {of_first['l0']:.1f}, "
            f"dead {100 * of_first['dead_share']:.1f} %{pace}"
        )


def _measures(
    losses: StepLosses, state: TrainingState, x: Tensor, average: Callable[[Tensor], Tensor] | None = None
) -> dict[str, float]:
    """Of this process's share of the batch, or of the whole with `average` over the processes."""
    variance = x.var(0, correction=0).mean()
    measured = torch.stack([losses.loss.detach(), losses.mse, losses.l0, variance])
    loss, mse, l0, variance = (float(value) for value in (average(measured) if average else measured))
    return {
        "loss": loss,
        "explained_variance": 1 - mse / variance if variance > 0 else float("nan"),
        "l0": l0,
        "dead_share": state.dead_share(),
    }
