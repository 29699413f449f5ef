"""AdamW as CLIPs are trained: what decays, how fast each layer learns, the schedule, and the ceiling of the scale."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_NEVER_DECAYED = ("bn", "ln", "bias", "logit_scale")
"""In a name; nor are vectors, hence norms and class embeddings. Source: BioCLIP 2, src/training/main.py:338-353."""
_LAYER = re.compile(r"(vision_model|text_model)\.encoder\.layers\.(\d+)\.")
_BELOW_THE_LAYERS = re.compile(r"(vision_model|text_model)\.(embeddings|pre_layrnorm)\.")

NamedParameters = Iterable[tuple[str, nn.Parameter]]


def is_decayed(name: str, parameter: Tensor) -> bool:
    """Whether weight decay pulls a parameter to zero: matrices, so positional and token embeddings too."""
    return parameter.ndim >= 2 and not any(part in name for part in _NEVER_DECAYED)


def depth_below_top(name: str, n_layers: dict[str, int]) -> int:
    """Layers above a parameter in its tower: 0 for what follows the last one, and for what is in no tower."""
    if (match := _LAYER.search(name)) is not None:
        return n_layers[match[1]] - int(match[2])
    if (match := _BELOW_THE_LAYERS.search(name)) is not None:
        return n_layers[match[1]] + 1
    return 0


def parameter_groups(
    parameters: NamedParameters, *, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Groups for the optimiser, of the parameters that are trained.

    A group has `rate`, by which the schedule's learning rate is multiplied: `layer_decay` to the power of the layers
    above a parameter.
    """
    trained = [(name, parameter) for name, parameter in parameters if parameter.requires_grad]
    n_layers: dict[str, int] = defaultdict(int)
    for name, _ in trained:
        if (match := _LAYER.search(name)) is not None:
            n_layers[match[1]] = max(n_layers[match[1]], int(match[2]) + 1)
    groups: dict[tuple[bool, int], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in trained:
        depth = depth_below_top(name, n_layers) if layer_decay != 1.0 else 0
        groups[is_decayed(name, parameter), depth].append(parameter)
    return [
        {"params": members, "weight_decay": weight_decay if decayed else 0.0, "rate": layer_decay**depth}
        for (decayed, depth), members in sorted(groups.items(), key=lambda item: item[0])
    ]


def new_optimizer(
    parameters: NamedParameters,
    *,
    weight_decay: float,
    layer_decay: float = 1.0,
    betas: tuple[float, float] = (0.9, 0.98),
    eps: float = 1e-6,
) -> torch.optim.AdamW:
    """AdamW, whose learning rate `set_learning_rate` sets before every step.

    Raises:
        AssertionError: a parameter is not float32 or wider; half precision would lose small steps (autocast keeps the
            products in it instead).
    """
    groups = parameter_groups(parameters, weight_decay=weight_decay, layer_decay=layer_decay)
    assert all(p.dtype in (torch.float32, torch.float64) for group in groups for p in group["params"])
    return torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=eps)


def learning_rate(step: int, n_steps: int, *, peak: float, warmup_steps: int) -> float:
    """Linear warm-up, then a cosine to zero over the rest of the steps (open_clip_train/scheduler.py)."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return 0.5 * peak * (1 + math.cos(math.pi * (step - warmup_steps) / (n_steps - warmup_steps)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate"]


@torch.no_grad()
def clamp_logit_scales(parameters: NamedParameters, max_scale: float) -> None:
    """Keep every factor of the cosines between 1 and `max_scale`, in place; a value above it at the start is used once.

    Source: Radford et al. 2021, section 2.5, "to prevent scaling the logits by more than 100".
    """
    for name, parameter in parameters:
        if "logit_scale" in name and parameter.requires_grad:
            parameter.clamp_(0, math.log(max_scale))
