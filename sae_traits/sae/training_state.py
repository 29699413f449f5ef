"""Everything that a training in progress depends on: weights, optimiser, and when each latent last fired."""

import pickle
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from sae_traits.config.train import TrainConfig
from sae_traits.errors import StoreError
from sae_traits.io import whole_file
from sae_traits.logging import say
from sae_traits.sae.activations import product_dtype
from sae_traits.sae.architectures.trainable import Penalty, Processes, TrainableSAE
from sae_traits.sae.model import SAE
from sae_traits.sae.objective import StepLosses, TrainingObjective

DEAD_AFTER_PATCHES = 200_000
"""A latent that has not fired for this many patches is dead and is revived by the auxiliary loss."""
STEPS_BETWEEN_DEAD_CHECKS = 50
THRESHOLD_RATE = 10.0
"""Learned thresholds are this many times faster than weights, because they have further to go: to a row's length."""


class TrainingState:
    """One SAE in training. Its weights may lie in a stack that several SAEs of the same width share.

    Biases learn faster than weights by the square root of d_model: as they would if features had a mean squared norm of
    one, instead of one per component. Thresholds learn faster still, since they have further to go.
    """

    def __init__(self, sae: TrainableSAE, config: TrainConfig, accelerator: Accelerator, penalty: Penalty) -> None:
        """A training at its first step, of an SAE of scaled features that lies on the accelerator's device."""
        self.sae, self.config, self.accelerator, self.penalty = sae, config, accelerator, penalty
        sae.W_enc.data = sae.W_enc.data.T.contiguous().T  # column by column, as its gradient is made
        self.objective = TrainingObjective(sae, _processes_of(accelerator))
        self.objective_in_parallel: nn.Module = accelerator.prepare(self.objective)
        groups = [
            {"params": [sae.W_enc, sae.W_dec], "rate": 1.0},
            {"params": [sae.b_enc, sae.b_dec], "rate": sae.config.d_model**0.5},
        ]
        if learned := [threshold for threshold in sae.thresholds if threshold.requires_grad]:
            groups.append({"params": learned, "rate": THRESHOLD_RATE})
        self.optimizer = torch.optim.Adam(groups, fused=True)  # its learning rate is set at every step
        self.patches_since_fired = torch.zeros(sae.config.n_latents, dtype=torch.int64, device=accelerator.device)
        self._dead: Tensor | None = None

    def step(self, step: int, x: Tensor, pre: Tensor, learning_rate: float) -> StepLosses:
        """One step on this process's share of a batch, scaled features `[n, d_model]`; `pre` as in the objective."""
        if step == 0:
            self._start(x, pre)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["rate"]
        losses: StepLosses = self.objective_in_parallel(x, self.penalty.at(step), self._dead_at(step), pre)
        self.accelerator.backward(losses.loss)
        remove_parallel_gradient(self.sae)
        if self.config.max_gradient_norm is not None:
            self.accelerator.clip_grad_norm_(self.sae.parameters(), self.config.max_gradient_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        unit_norm_decoder(self.sae)
        self._count(losses.fired)
        return losses

    @torch.no_grad()
    def _start(self, x: Tensor, pre: Tensor) -> None:
        """Set what depends on the data: thresholds or biases, and one scalar that multiplies them and the encoder."""
        self.sae.start(pre, self.objective.processes)
        # Least squares: left at the decoder's length, overlapping directions together overshoot.
        product = self.objective.forward_pass(x, pre).reconstruction - self.sae.b_dec
        sums = torch.stack([(x * product).sum(), product.square().sum()])
        along, length = self.objective.processes.average(sums)
        scalar = along / length.clamp_min(1e-12)
        for tensor in (self.sae.W_enc, self.sae.b_enc, *self.sae.thresholds, pre):
            tensor.mul_(scalar)

    def dead_share(self) -> float:
        """Share of latents that are dead now."""
        return float((self.patches_since_fired >= DEAD_AFTER_PATCHES).float().mean())

    def _dead_at(self, step: int) -> Tensor | None:
        """Latents that have not fired for long `[n_dead]`; None when there are none."""
        # Looked up anew every few steps only, because asking whether there are any waits for the device.
        if step % STEPS_BETWEEN_DEAD_CHECKS == 0:
            dead = (self.patches_since_fired >= DEAD_AFTER_PATCHES).nonzero().flatten()
            self._dead = dead if len(dead) else None
        return self._dead

    def _count(self, fired: Tensor) -> None:
        """Note which latents fired in a batch, in any process."""
        if self.accelerator.num_processes > 1:
            fired = self.accelerator.reduce(fired.to(torch.int32), "sum").bool()  # pyright: ignore[reportAttributeAccessIssue]
        self.patches_since_fired = torch.where(fired, 0, self.patches_since_fired + self.config.batch_size)

    def state(self) -> dict[str, Any]:
        """What `restore` needs."""
        return {
            "sae": self.sae.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "patches_since_fired": self.patches_since_fired,
            "dead": self._dead,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` gave."""
        self.sae.load_state_dict(state["sae"])
        self.optimizer.load_state_dict(state["optimizer"])
        device = self.accelerator.device
        self.patches_since_fired = state["patches_since_fired"].to(device)
        self._dead = None if state["dead"] is None else state["dead"].to(device)


def _processes_of(accelerator: Accelerator) -> Processes:
    if accelerator.num_processes == 1:
        return Processes()
    average = partial(accelerator.reduce, reduction="mean")
    return Processes(accelerator.num_processes, accelerator.gather, average)  # pyright: ignore[reportArgumentType]


def unit_norm_decoder(sae: SAE) -> None:
    """Scale every decoder row to length one, in place."""
    with torch.no_grad():
        sae.W_dec.div_(sae.W_dec.norm(dim=1, keepdim=True).clamp_min(1e-12))


def remove_parallel_gradient(sae: SAE) -> None:
    """Take out of the decoder's gradient what would only change the rows' lengths, in place."""
    gradient = sae.W_dec.grad
    assert gradient is not None
    with torch.no_grad():
        along = torch.bmm(gradient[:, None], sae.W_dec[:, :, None])[:, 0]  # unlike a sum of products, no large array
        gradient.addcmul_(along, sae.W_dec, value=-1)


class Stack:
    """Trainings whose SAEs have the same shapes."""

    def __init__(self, states: Sequence[TrainingState]) -> None:
        """Move the encoders into one tensor, of which each SAE's `W_enc` stays a view."""
        self.states = list(states)
        self._encoders = torch.stack([state.sae.W_enc.data.T for state in self.states])
        for state, encoder in zip(self.states, self._encoders, strict=True):
            state.sae.W_enc.data = encoder.T
        self._result: Tensor | None = None

    @torch.no_grad()
    def pre_activations(self, x: Tensor) -> Tensor:
        """Of every SAE `[n_saes, n, n_latents]`, of scaled features `[n, d_model]`; in half precision under autocast.

        The result is overwritten by the next call: making such a large array anew would cost a fifth of the product.
        """
        b_enc = torch.stack([state.sae.b_enc for state in self.states])
        b_dec = torch.stack([state.sae.b_dec for state in self.states])
        dtype = product_dtype(self._encoders)
        shape = len(self.states), len(x), self._encoders.shape[1]
        if self._result is None or self._result.shape != shape:
            self._result = torch.empty(shape, dtype=dtype, device=x.device)
        centred, encoders = (x - b_dec[:, None]).to(dtype), self._encoders.transpose(1, 2).to(dtype)
        return torch.baddbmm(b_enc[:, None].to(dtype), centred, encoders, out=self._result)


Curves = list[list[dict[str, float]]]


def save_checkpoint(path: Path, step: int, key: str, states: Sequence[TrainingState], curves: Curves) -> None:
    """Write the state of all trainings after `step` steps, whole or not at all; `key` says which training it is."""
    content = {"step": step, "key": key, "states": [state.state() for state in states], "curves": curves}
    content["n_processes"] = states[0].accelerator.num_processes
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, on_full_disk="free some space, and run the same command again") as file:
        torch.save(content, file)


def load_checkpoint(
    path: Path, key: str, states: Sequence[TrainingState], *, of_same_processes: bool = False
) -> tuple[int, Curves]:
    """Restore what `save_checkpoint` wrote; with `of_same_processes` only as many of them can go on.

    Returns:
        The step to go on with, 0 if there is no checkpoint or it is of another training, and the curves so far.

    Raises:
        StoreError: the file cannot be read, or is of another number of processes.
    """
    if not path.is_file():
        return 0, [[] for _ in states]
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
        raise StoreError(f"the checkpoint {path} cannot be read; delete it to train from the start") from error
    if saved["key"] != key:
        say(
            f"{path.name}: of other settings or data ({_what_differs(saved['key'], key)}), training starts anew and "
            f"writes over its {saved['step']:,} steps; to go on with those, stop now and give the earlier options"
        )
        return 0, [[] for _ in states]
    if of_same_processes and saved["n_processes"] != (n := states[0].accelerator.num_processes):
        raise StoreError(
            f"{path} is of {saved['n_processes']} processes, not {n}, and each computes the features of its own "
            f"images; start {saved['n_processes']} again, or delete the file to train from the start"
        )
    for state, values in zip(states, saved["states"], strict=True):
        state.restore(values)
    say(f"training resumes at step {saved['step']}")
    return saved["step"], saved["curves"]


def _what_differs(one: str, other: str) -> str:
    """The names of settings that have other values in one key of a checkpoint than in another, or `data`."""
    values = [dict(re.findall(r"(\w+)=([^,()\[\]]*)", key)) for key in (one, other)]
    differ = [name for name in values[0] | values[1] if values[0].get(name) != values[1].get(name)]
    return ", ".join(differ) or "data"
