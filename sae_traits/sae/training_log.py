"""What a training says while it runs: a line every few seconds, a learning curve, and Accelerate's trackers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor

from sae_traits.logging import SECONDS_BETWEEN_LINES, say
from sae_traits.sae.objective import StepLosses
from sae_traits.sae.training_state import Curves, TrainingState

POINTS_OF_A_CURVE = 100
"""Steps of a training that its curve keeps; only at these does it wait for the device."""


class TrainingLog:
    """Curves and progress of trainings that run side by side."""

    def __init__(
        self,
        states: Sequence[TrainingState],
        curves: Curves,
        first_step: int,
        n_steps: int,
        batch_size: int,
        accelerator: Accelerator,
    ) -> None:
        self.states, self.curves, self.n_steps = states, curves, n_steps
        self._first, self._batch_size, self.accelerator = first_step, batch_size, accelerator
        self._started = self._said = time.monotonic()

    def note(self, step: int, losses: Sequence[StepLosses], x: Tensor) -> None:
        """Say and keep what each training measured in a step on scaled features `[n, d_model]`, if it is time to."""
        now, last = time.monotonic(), step + 1 == self.n_steps
        if last or step % max(1, self.n_steps // POINTS_OF_A_CURVE) == 0:
            # Decided by the step alone, because all processes must take part.
            for curve, loss, state in zip(self.curves, losses, self.states, strict=True):
                curve.append({"step": step + 1, **_measures(loss, state, x, state.objective.processes.average)})
            self._track(step)
        if self.accelerator.is_main_process and (last or now - self._said > SECONDS_BETWEEN_LINES):
            self._said = now
            self._say(step, _measures(losses[0], self.states[0], x), now)

    def _track(self, step: int) -> None:
        """Give the newest points to the trackers, if there are any."""
        if not self.accelerator.trackers:
            return
        several = len(self.states) > 1
        values = {
            f"{number}_{state.sae.config.architecture}/{name}" if several else name: value
            for number, (state, curve) in enumerate(zip(self.states, self.curves, strict=True))
            for name, value in curve[-1].items()
            if name != "step"
        }
        self.accelerator.log(values, step=step + 1)

    def _say(self, step: int, of_first: dict[str, float], now: float) -> None:
        rate = (step + 1 - self._first) / max(now - self._started, 1e-9)
        also = f" (the first of {len(self.states)} SAEs)" if len(self.states) > 1 else ""
        say(
            f"train: step {step + 1} of {self.n_steps}{also}, loss {of_first['loss']:.4f}, "
            f"explained variance {of_first['explained_variance']:.3f}, L0 {of_first['l0']:.1f}, "
            f"dead {100 * of_first['dead_share']:.1f} %, "
            f"{rate * self._batch_size:,.0f} patches/s, {(self.n_steps - step - 1) / rate:.0f} s left"
        )

    def curve_of(self, state: TrainingState) -> dict[str, list[float]]:
        """The learning curve of a training, column by column."""
        points = self.curves[self.states.index(state)]
        return {name: [point[name] for point in points] for name in (points[0] if points else ())}


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
