"""Biases and thresholds learn faster than weights: the first step of Adam moves everything by its learning rate."""

import pytest
import torch
from accelerate import Accelerator
from test_trainer import D_MODEL, batches
from train_configs import train_config

from sae_traits.sae.trainer import FeatureScale, train_saes

UNSCALED = FeatureScale(mean=torch.zeros(D_MODEL), scale=1.0)
RATE = 1e-6


def after_one_step(architecture, learning_rate, folder):
    config = train_config(
        architecture, n_latents=48, k=3, batch_size=256, warmup_steps=0, learning_rate=learning_rate,
        sparsity_warmup_steps=0,
    )  # fmt: skip
    (sae,) = train_saes(
        batches, [config], UNSCALED, n_steps=1, checkpoint=folder / f"{learning_rate}.checkpoint", data="drawn",
        accelerator=Accelerator(cpu=True),
    )  # fmt: skip
    return {name: value.double() for name, value in sae.state_dict().items()}


@pytest.mark.parametrize(
    ("architecture", "name", "times"),
    [("topk", "b_enc", D_MODEL**0.5), ("topk", "b_dec", D_MODEL**0.5), ("jump_relu", "threshold", 10)],
)
def test_biases_and_thresholds_learn_faster_than_weights(tmp_path, architecture, name, times):
    slow, fast = (after_one_step(architecture, rate, tmp_path) for rate in (RATE, 1e3 * RATE))
    moved = {key: (fast[key] - slow[key]).abs().max().item() for key in ("W_enc", name)}
    assert moved[name] / moved["W_enc"] == pytest.approx(times, rel=0.02)
