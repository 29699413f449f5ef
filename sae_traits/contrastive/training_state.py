"""Everything that a contrastive training in progress depends on, and one step of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sae_traits.config.finetune import OptimiserConfig
from sae_traits.contrastive.gather import gather_pairs
from sae_traits.contrastive.gradient_cache import Encoded, backward_in_chunks
from sae_traits.contrastive.model import ContrastiveModel, Head
from sae_traits.contrastive.objectives import Objective, siglip_loss, summed_loss
from sae_traits.contrastive.optimisation import clamp_logit_scales, learning_rate, new_optimizer, set_learning_rate


@dataclass(frozen=True, kw_only=True)
class Batch:
    """This process's share of a batch; what is replayed comes last."""

    pixels: Tensor
    """float32 `[n, 3, height, width]`"""
    token_ids: Tensor
    """int64 `[n, context_length]`"""
    groups: Tensor | None = None
    """Species of each pair, as a number that means the same in every process `[n]`."""
    head: Head = "taxonomy"
    n_replayed: int = 0

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        groups = None if self.groups is None else self.groups.to(device)
        pixels = self.pixels.to(device, non_blocking=True)
        return replace(self, pixels=pixels, token_ids=self.token_ids.to(device), groups=groups)

    def chunks(self, size: int) -> list[Batch]:
        """The rows in order, at most `size` at once; a chunk is of replayed pairs or of others."""
        n_own = len(self.pixels) - self.n_replayed
        begins = [*range(0, n_own, size), *range(n_own, len(self.pixels), size)]
        ends = [*begins[1:], len(self.pixels)]
        return [
            replace(
                self,
                pixels=self.pixels[begin:end],
                token_ids=self.token_ids[begin:end],
                groups=None,
                n_replayed=end - begin if begin >= n_own else 0,
            )
            for begin, end in zip(begins, ends, strict=True)
        ]


class TrainingState:
    """A CLIP in training: weights in float32 whatever the products are computed in, optimiser, moving average."""

    def __init__(
        self,
        model: ContrastiveModel,
        config: OptimiserConfig,
        objective: Objective,
        accelerator: Accelerator,
        *,
        n_steps: int,
        seed: int = 0,
        chunk_size: int | None = None,
    ) -> None:
        """A training at its first step.

        Args:
            model: on any device and in any precision; float64 stays, half precision becomes float32.
            config: of the optimiser.
            objective: what is lowered.
            accelerator: with `find_unused_parameters` where several processes train a model of several heads.
            n_steps: of the whole training, for the schedule.
            seed: of what is random in the model itself, such as dropout.
            chunk_size: pairs that are computed at once in each process (gradient caching); None: all of them.
        """
        self.config, self.objective, self.accelerator = config, objective, accelerator
        self.n_steps, self.seed, self.chunk_size = n_steps, seed, chunk_size
        self.max_logit_scale = config.max_logit_scale
        if self.max_logit_scale is not None and objective is siglip_loss:
            # A published SigLIP has 117 with an offset that was learnt beside it.
            self.max_logit_scale = max(self.max_logit_scale, model.largest_scale())
        self.warmup_steps = config.warmup_steps_of(n_steps)
        is_half = {p.dtype for p in model.parameters()} & {torch.float16, torch.bfloat16}
        self.model = (model.float() if is_half else model).to(accelerator.device).train()
        parameters = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        betas = (config.beta1, config.beta2)
        decays = {"weight_decay": config.weight_decay, "layer_decay": config.layer_decay}
        self.optimizer = new_optimizer(parameters, **decays, betas=betas, eps=config.epsilon)
        self.average = None
        if (decay := config.average_decay) is not None:
            self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self._parallel: Any = accelerator.prepare(self.model)

    @property
    def best(self) -> ContrastiveModel:
        """What is evaluated and saved: the moving average of the weights, where there is one, else the weights."""
        return self.model if self.average is None else cast(ContrastiveModel, self.average.module)

    def step(self, step: int, batch: Batch) -> Tensor:
        """One step on this process's share of a batch; its loss, whose mean over processes is the batch's."""
        set_learning_rate(self.optimizer, self.learning_rate(step))
        batch = batch.to(self.accelerator.device)
        loss = self.backward(step, batch)
        if self.config.max_gradient_norm is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.max_gradient_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)  # what took no part in the next step is not decayed there
        if self.max_logit_scale is not None:
            clamp_logit_scales(self.model.named_parameters(), self.max_logit_scale)
        if self.average is not None:
            self.average.update_parameters(self.model)
        return loss

    def learning_rate(self, step: int) -> float:
        """Of the topmost layers, at a step."""
        return learning_rate(step, self.n_steps, peak=self.config.learning_rate, warmup_steps=self.warmup_steps)

    def backward(self, step: int, batch: Batch) -> Tensor:
        """Add the gradients of a batch to the parameters, and return the loss of this process's share."""
        chunks = [batch] if self.chunk_size is None else batch.chunks(self.chunk_size)
        if len(chunks) == 1:
            loss = self._loss(self._encode(step, 0, batch), batch)
            self.accelerator.backward(loss)
            return loss.detach()
        return backward_in_chunks(
            list(enumerate(chunks)),
            lambda numbered: self._encode(step, *numbered),
            lambda encoded: self._loss(encoded, batch),
            self.accelerator.backward,
            lambda: self.accelerator.no_sync(self._parallel),
        )

    def _encode(self, step: int, number: int, chunk: Batch) -> Encoded:
        # The same seed for the same chunk: gradient caching computes it twice, and a resumed training again.
        torch.manual_seed(random_seed(self.seed, step, number, self.accelerator.process_index))
        with self.accelerator.autocast():
            return self._parallel(chunk.pixels, chunk.token_ids, chunk.head, chunk.n_replayed)

    def _loss(self, encoded: Encoded, batch: Batch) -> Tensor:
        n_own = len(batch.pixels) - batch.n_replayed
        groups = batch.groups
        parts = [gather_pairs(encoded.image[:n_own], encoded.text[:n_own], None if groups is None else groups[:n_own])]
        if batch.n_replayed:
            # Nobody knows which general pictures show the same, so each is a group of its own.
            alone = None if groups is None else -1 - self._own_rows(batch.n_replayed)
            parts.append(gather_pairs(encoded.image[n_own:], encoded.text[n_own:], alone))
        return summed_loss(self.objective, parts, encoded.scale, encoded.offset)

    def _own_rows(self, n: int) -> Tensor:
        return torch.arange(n, device=self.accelerator.device) + n * self.accelerator.process_index

    def check_finite(self) -> bool:
        """Whether every weight is a number."""
        return all(bool(torch.isfinite(parameter).all()) for parameter in self.model.parameters())

    def state(self) -> dict[str, Any]:
        """What `restore` needs."""
        average = None if self.average is None else self.average.state_dict()
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "average": average}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state` gave."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])


def random_seed(*numbers: int) -> int:
    """A seed that depends on all of some numbers, and on nothing else."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def mean_loss(loss: Tensor, accelerator: Accelerator) -> float:
    """Mean of a step's loss over all processes; waits for the device."""
    value = float(accelerator.reduce(loss, "mean"))  # pyright: ignore[reportArgumentType]
    return value if math.isfinite(value) else float("nan")
