"""Train an SAE with Accelerate: one process or several, on CPU or GPU, resuming after a kill.

The features are centred on their mean and divided by one scalar while training; both are folded into the saved weights,
so that the file works on raw features and its decoder rows stay unit norm (docs/architecture.md).
"""

from __future__ import annotations

import io
import math
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from sae_traits.config import TrainConfig
from sae_traits.errors import CheckpointError, ConfigError, StoreError
from sae_traits.features.store import write_whole
from sae_traits.progress import SECONDS_BETWEEN_LINES, say
from sae_traits.sae import activations, objectives
from sae_traits.sae.model import SAE, SAEConfig
from sae_traits.schema import BackboneInfo

DECAY_SHARE = 0.2
"""The learning rate falls linearly to zero over this last share of the steps."""
DEAD_AFTER_PATCHES = 200_000
"""A latent that has not fired for this many patches is dead and is revived by the auxiliary loss."""
STEPS_BETWEEN_DEAD_CHECKS = 50
AUXILIARY_COEFFICIENT = 1 / 32
"""Weight of the auxiliary loss; Gao et al. 2024, appendix A.2."""


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


@dataclass(frozen=True)
class StepLosses:
    """What one step measured; tensors, so that no step waits for the device."""

    loss: Tensor
    mse: Tensor
    l0: Tensor
    fired: Tensor
    """Which latents fired in the batch `[n_latents]`."""


class TrainingObjective(nn.Module):
    """Features in, losses out: the module that Accelerate wraps, so that gradients are averaged over processes."""

    def __init__(self, sae: SAE, l1_coefficient: float) -> None:
        super().__init__()
        self.sae = sae
        self.l1_coefficient = l1_coefficient

    def forward(self, x: Tensor, dead: Tensor | None) -> StepLosses:
        """Losses of a batch.

        Args:
            x: scaled features `[n, d_model]`.
            dead: the latents that are dead `[n_dead]`; None when none is.
        """
        sae = self.sae
        pre = sae.pre_activations(x)
        if sae.config.k is None:
            latents = activations.relu(pre)
            mse = objectives.mean_squared_error(x, sae.decode(latents))
            loss = mse + self.l1_coefficient * objectives.l1_norm(latents)
            positive = latents > 0
            return StepLosses(loss, mse.detach(), positive.sum(1).float().mean(), positive.any(0))
        values, indices = activations.top_k(pre, sae.config.k)
        values = values.to(sae.W_dec.dtype)  # under autocast the product before is in half precision
        # Only the k active rows of the decoder are read: a sparse product instead of a dense one.
        reconstruction = functional.embedding_bag(indices, sae.W_dec, per_sample_weights=values, mode="sum") + sae.b_dec
        mse = objectives.mean_squared_error(x, reconstruction)
        loss = mse
        if dead is not None:
            loss = mse + AUXILIARY_COEFFICIENT * _revival_loss(sae, pre, dead, (x - reconstruction).detach())
        fired = (
            torch.zeros(sae.config.n_latents, device=x.device).index_add_(0, indices.flatten(), values.flatten()) > 0
        )
        return StepLosses(loss, mse.detach(), (values > 0).sum(1).float().mean(), fired)


def _revival_loss(sae: SAE, pre: Tensor, dead: Tensor, residual: Tensor) -> Tensor:
    """How badly dead latents alone explain what the live ones left over; Gao et al. 2024, appendix A.2.

    Args:
        pre: pre-activations `[n, n_latents]`.
        dead: the dead latents `[n_dead]`.
        residual: x - x̂ `[n, d_model]`.
    """
    k = min(sae.config.d_model // 2, len(dead))
    values, indices = activations.top_k(pre[:, dead], k)
    values = values.to(sae.W_dec.dtype)
    revived = functional.embedding_bag(indices, sae.W_dec[dead], per_sample_weights=values, mode="sum")
    return (revived - residual).square().mean() / residual.square().mean().clamp_min(1e-12)


def learning_rate(step: int, n_steps: int, config: TrainConfig) -> float:
    """Linear warm-up from zero, constant, then linear decay to zero over the last steps."""
    warm = min(1.0, (step + 1) / (config.warmup_steps + 1))
    cool = min(1.0, (n_steps - step) / max(1.0, DECAY_SHARE * n_steps))
    return config.learning_rate * min(warm, cool)


def unit_norm_decoder(sae: SAE) -> None:
    """Scale every decoder row to length one, in place."""
    with torch.no_grad():
        sae.W_dec.div_(sae.W_dec.norm(dim=1, keepdim=True).clamp_min(1e-12))


def remove_parallel_gradient(sae: SAE) -> None:
    """Take out of the decoder's gradient what would only change the rows' lengths, in place."""
    gradient = sae.W_dec.grad
    assert gradient is not None
    with torch.no_grad():
        gradient.sub_((gradient * sae.W_dec).sum(1, keepdim=True) * sae.W_dec)


def train_sae(
    batches: Callable[[int], Iterator[Tensor]],
    config: TrainConfig,
    scale: FeatureScale,
    *,
    n_steps: int,
    checkpoint: Path,
    data: str,
    accelerator: Accelerator,
    backbone: BackboneInfo | None = None,
    training: dict[str, Any] | None = None,
    seconds_between_checkpoints: float = 60.0,
) -> SAE:
    """Train an SAE on batches of raw features.

    Args:
        batches: from a step number to the batches `[batch_size, d_model]` of that step and all later ones; the same
            in every process, each of which takes its share of the rows.
        config: architecture and schedule.
        scale: mean and scale of the features.
        n_steps: number of steps.
        checkpoint: file that a killed training resumes from; the caller removes it once the SAE is saved.
        data: fingerprint of what `batches` gives; a checkpoint of other data is not continued.
        accelerator: device and processes.
        backbone: where the features came from, for the record.
        training: about the training data, for the record.
        seconds_between_checkpoints: how much work a kill may lose.

    Returns:
        The SAE of raw features, on the CPU.

    Raises:
        StoreError: the checkpoint cannot be read or written.
        CheckpointError: training diverged.
        ConfigError: the processes and the settings do not go together.
    """
    if accelerator.mixed_precision == "fp16":
        raise ConfigError("fp16 loses small gradients of an SAE; launch with --mixed_precision bf16 or no")
    if config.batch_size < accelerator.num_processes:
        raise ConfigError(f"batch_size {config.batch_size} is smaller than {accelerator.num_processes} processes")
    sae_config = SAEConfig(
        architecture=config.architecture,
        d_model=len(scale.mean),
        n_latents=config.n_latents,
        k=config.k if config.architecture == "topk" else None,
        backbone=backbone,
        training=training or {},
    )
    # On scaled features the same trade-off needs a coefficient divided by the scale: mse shrinks by its square.
    objective = TrainingObjective(SAE(sae_config, seed=config.seed), config.l1_coefficient / scale.scale)
    state = _TrainingState(objective.sae, config, accelerator)
    key = f"{config!r} on {data}"
    start = state.load(checkpoint, key) if checkpoint.is_file() else 0
    objective_in_parallel = accelerator.prepare(objective)
    mean = scale.mean.to(accelerator.device)
    log = _Log(config, n_steps, start, accelerator)
    saved = time.monotonic()
    for step, batch in zip(range(start, n_steps), batches(start), strict=False):
        share = batch[accelerator.process_index :: accelerator.num_processes]
        x = (share.to(accelerator.device, non_blocking=True) - mean) / scale.scale
        state.set_learning_rate(learning_rate(step, n_steps, config))
        losses = objective_in_parallel(x, state.dead(step))
        accelerator.backward(losses.loss)
        remove_parallel_gradient(objective.sae)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        unit_norm_decoder(objective.sae)
        state.count(losses.fired, config.batch_size)
        log.line(step, losses, state, x)
        if time.monotonic() - saved > seconds_between_checkpoints and accelerator.is_main_process:
            state.save(checkpoint, step + 1, key)
            saved = time.monotonic()
    if not all(bool(torch.isfinite(parameter).all()) for parameter in objective.sae.parameters()):
        raise CheckpointError("training diverged: a weight is not finite; choose a lower --learning-rate")
    sae = objective.sae.cpu().eval()
    scale.fold(sae)
    return sae


class _TrainingState:
    """Weights, optimiser and when each latent last fired."""

    def __init__(self, sae: SAE, config: TrainConfig, accelerator: Accelerator) -> None:
        self.sae = sae.to(accelerator.device)
        self.accelerator = accelerator
        self.optimizer = torch.optim.Adam(self.sae.parameters(), lr=config.learning_rate, fused=True)
        self.patches_since_fired = torch.zeros(sae.config.n_latents, dtype=torch.int64, device=accelerator.device)
        self._dead: Tensor | None = None

    def dead(self, step: int) -> Tensor | None:
        """Latents that have not fired for DEAD_AFTER_PATCHES patches `[n_dead]`; None when there are none.

        Looked up anew every few steps only, because asking whether there are any waits for the device.
        """
        if step % STEPS_BETWEEN_DEAD_CHECKS == 0:
            dead = (self.patches_since_fired >= DEAD_AFTER_PATCHES).nonzero().flatten()
            self._dead = dead if len(dead) else None
        return self._dead

    def dead_share(self) -> float:
        """Share of latents that are dead now."""
        return float((self.patches_since_fired >= DEAD_AFTER_PATCHES).float().mean())

    def set_learning_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def count(self, fired: Tensor, n_patches: int) -> None:
        """Note which latents fired in a batch of `n_patches`, in any process."""
        if self.accelerator.num_processes > 1:
            fired = self.accelerator.reduce(fired.to(torch.int32), "sum").bool()  # pyright: ignore[reportAttributeAccessIssue]
        self.patches_since_fired = torch.where(fired, 0, self.patches_since_fired + n_patches)

    def save(self, path: Path, step: int, key: str) -> None:
        """Write everything that training depends on; `key` says which training it is."""
        state = {
            "step": step,
            "key": key,
            "sae": self.sae.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "patches_since_fired": self.patches_since_fired,
            "dead": self._dead,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        torch.save(state, content)
        write_whole(path, content.getvalue())

    def load(self, path: Path, key: str) -> int:
        """Restore what `save` wrote; the step to go on with, 0 if it is of another training."""
        try:
            state = torch.load(path, map_location=self.accelerator.device, weights_only=True)
        except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
            raise StoreError(f"the checkpoint {path} cannot be read; delete it to train from the start") from error
        if state["key"] != key:
            say(f"{path.name}: of other settings or data, training starts anew")
            return 0
        self.sae.load_state_dict(state["sae"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.patches_since_fired, self._dead = state["patches_since_fired"], state["dead"]
        say(f"training resumes at step {state['step']}")
        return state["step"]


class _Log:
    """A line every few seconds: loss, explained variance, L0, dead latents, rate and time left."""

    def __init__(self, config: TrainConfig, n_steps: int, start: int, accelerator: Accelerator) -> None:
        self.config, self.n_steps, self.start = config, n_steps, start
        self.quiet = not accelerator.is_main_process
        self.started = self.said = time.monotonic()

    def line(self, step: int, losses: StepLosses, state: _TrainingState, x: Tensor) -> None:
        now = time.monotonic()
        done = step + 1 - self.start
        if self.quiet or (now - self.said < SECONDS_BETWEEN_LINES and step + 1 < self.n_steps):
            return
        self.said = now
        rate = done / (now - self.started)
        explained = 1 - float(losses.mse / x.var(0, correction=0).mean())
        say(
            f"train: step {step + 1} of {self.n_steps}, loss {float(losses.loss.detach()):.4f}, "
            f"explained variance {explained:.3f}, L0 {float(losses.l0):.1f}, "
            f"dead {100 * state.dead_share():.1f} %, "
            f"{rate * self.config.batch_size:,.0f} patches/s, {(self.n_steps - step - 1) / rate:.0f} s left"
        )


def n_steps_for(config: TrainConfig) -> int:
    """Steps in which at least `n_patches` patches are seen."""
    return math.ceil(config.n_patches / config.batch_size)


def record_metrics(sae: SAE, metrics: dict[str, Any]) -> None:
    """Put measures into the SAE's configuration, from where the card and the report read them."""
    sae.config = replace(sae.config, training=sae.config.training | {"metrics": metrics})
