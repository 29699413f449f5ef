"""The optimiser: what decays, how fast layers learn, the schedule, and weights that half precision would lose."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from sae_traits.config.finetune import OptimiserConfig
from sae_traits.contrastive.gradient_cache import Encoded
from sae_traits.contrastive.optimisation import clamp_logit_scales, learning_rate, parameter_groups
from sae_traits.contrastive.training_state import Batch, TrainingState
from sae_traits.errors import ConfigError


class OneWeight(nn.Module):
    """A model whose loss has the gradient 1 with respect to its only weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0, dtype=torch.bfloat16))

    def forward(self, pixels, token_ids, head, n_replayed):
        return Encoded(pixels, pixels, self.weight, None)


def total(pairs, scale, offset):
    return scale


def test_half_precision_does_not_lose_small_steps():
    config = OptimiserConfig(learning_rate=1e-4, warmup_steps=0, max_logit_scale=None)
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    state = TrainingState(OneWeight(), config, total, accelerator, n_steps=10**9)
    batch = Batch(pixels=torch.ones(1, 1), token_ids=torch.ones(1, 1, dtype=torch.int64))
    for step in range(1000):
        state.step(step, batch)
    assert state.model.weight.dtype == torch.float32
    assert 1.0 - state.model.weight.item() == pytest.approx(0.1, rel=0.01)
    AcceleratorState._reset_state(reset_partial_state=True)  # a process has one, for the tests that follow as well


def named():
    names = [
        "clip.vision_model.embeddings.position_embedding.weight",
        "clip.vision_model.encoder.layers.0.mlp.fc1.weight",
        "clip.vision_model.encoder.layers.1.mlp.fc1.weight",
        "clip.text_model.encoder.layers.0.mlp.fc1.weight",
        "clip.visual_projection.weight",
        "clip.logit_scale",
    ]
    return [(name, nn.Parameter(torch.zeros(() if "logit" in name else (2, 2)))) for name in names]


def test_lower_layers_of_each_tower_learn_more_slowly():
    parameters = named()
    rates = {}
    for group in parameter_groups(parameters, weight_decay=0.2, layer_decay=0.5):
        rates |= {name: group["rate"] for name, p in parameters if any(p is member for member in group["params"])}
    assert [rates[name] for name, _ in parameters] == [0.125, 0.25, 0.5, 0.5, 1.0, 1.0]


def test_frozen_parameters_are_not_the_optimisers():
    parameters = named()
    parameters[0][1].requires_grad_(False)
    groups = parameter_groups(parameters, weight_decay=0.2)
    assert sum(len(group["params"]) for group in groups) == len(parameters) - 1
    assert [group["weight_decay"] for group in groups] == [0.0, 0.2]


def test_the_schedule_rises_and_falls_to_zero():
    rates = [learning_rate(step, 12, peak=1.0, warmup_steps=2) for step in range(13)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[7] == pytest.approx(0.5)
    assert rates[12] == pytest.approx(0.0)


def test_the_scale_has_a_ceiling_and_a_floor():
    high, low = nn.Parameter(torch.tensor(9.0)), nn.Parameter(torch.tensor(-1.0))
    other = nn.Parameter(torch.tensor(9.0))
    clamp_logit_scales([("logit_scale", high), ("logit_scale_caption", low), ("weight", other)], 50.0)
    assert (high.exp().item(), low.item(), other.item()) == (pytest.approx(50.0), 0.0, 9.0)


@pytest.mark.parametrize("options", [{"layer_decay": 0.0}, {"average_decay": 1.0}, {"learning_rate": -1.0}])
def test_settings_that_cannot_be_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        OptimiserConfig(**options)


def test_a_moving_average_follows_the_weights_at_its_own_pace():
    config = OptimiserConfig(learning_rate=0.1, warmup_steps=0, max_logit_scale=None, average_decay=0.9)
    state = TrainingState(OneWeight(), config, total, Accelerator(cpu=True), n_steps=10**9)
    batch = Batch(pixels=torch.ones(1, 1), token_ids=torch.ones(1, 1, dtype=torch.int64))
    state.step(0, batch)
    first = state.model.weight.item()
    state.step(1, batch)
    second = state.model.weight.item()
    assert state.best.weight.item() == pytest.approx(0.9 * first + 0.1 * second)
