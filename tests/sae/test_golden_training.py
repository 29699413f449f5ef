"""The paper's training, step by step: our training state, with the paper's rates, against the library that it used."""

import json

import numpy as np
import pytest
from accelerate import Accelerator
from safetensors.torch import load_file
from torch.nn.functional import normalize

from sae_traits import SAE, SAEConfig
from sae_traits.config.train import ReLU, TrainConfig
from sae_traits.sae.architectures.trainable import Penalty
from sae_traits.sae.training_state import Stack, TrainingState, unit_norm_decoder


@pytest.fixture(scope="module")
def recipe(golden):
    return json.loads((golden / "saev_v1" / "training.json").read_text())


@pytest.fixture(scope="module")
def tensors(golden):
    return load_file(golden / "saev_v1" / "training.safetensors")


def weights(tensors, moment):
    return {name.removeprefix(f"{moment}."): tensor for name, tensor in tensors.items() if name.startswith(moment)}


def train(tensors, recipe):
    """The SAE after all steps, and what each of them measured `[n_steps, 4]` in the recipe's order of columns."""
    d_model, n_latents = tensors["init.W_enc"].shape
    sae = SAE.from_config(SAEConfig(architecture="relu", d_model=d_model, n_latents=n_latents))
    sae.load_state_dict(weights(tensors, "init"))
    unit_norm_decoder(sae)  # the paper's library does it before each step, ours after
    config = TrainConfig(architecture=ReLU(), n_latents=n_latents, batch_size=recipe["batch_size"])
    state = TrainingState(sae, config, Accelerator(cpu=True), Penalty(recipe["sparsity_coeff"]))
    for group in state.optimizer.param_groups:
        group["rate"] = 1.0  # the paper has one rate for weights and biases
    stack = Stack([state])
    rate = recipe["lr_first_step"]
    trajectory = []
    # From 1: before step 0 the state scales the new encoder to the data, which the paper does not do.
    for step, x in enumerate(tensors["data"].split(recipe["batch_size"]), start=1):
        losses = state.step(step, x, stack.pre_activations(x)[0], rate)
        l1 = (losses.loss - losses.mse) / recipe["sparsity_coeff"]
        trajectory.append([value.item() for value in (losses.mse, losses.l0, l1, losses.loss)])
        rate = recipe["lr"] * min(1, step / recipe["lr_warmup_steps"])
    return sae, np.array(trajectory)


def test_two_hundred_steps_follow_the_golden_trajectory(tensors, recipe):
    sae, trajectory = train(tensors, recipe)
    expected = np.array(recipe["trajectory"])
    assert trajectory.shape == expected.shape == (200, 4)
    assert expected[-1, 0] < expected[0, 0] / 20  # it did learn
    relative = np.abs(trajectory / expected - 1)
    assert relative.max() < 1e-3, dict(zip(recipe["columns"], relative.max(axis=0), strict=True))
    last = weights(tensors, "final")
    last["W_dec"] = normalize(last["W_dec"], dim=1)
    for name, final in last.items():
        start, ours = tensors[f"init.{name}"], sae.state_dict()[name]
        assert (ours - final).norm() < 1e-3 * (final - start).norm(), name
