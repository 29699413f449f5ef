"""The paper's training, step by step: our losses and gradients in the order of the library that it used."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sae_traits import SAE, SAEConfig
from sae_traits.sae.forward import TrainingObjective
from sae_traits.sae.training_state import remove_parallel_gradient, unit_norm_decoder


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
    sae = SAE(SAEConfig(architecture="relu", d_model=d_model, n_latents=n_latents))
    sae.load_state_dict(weights(tensors, "init"))
    objective = TrainingObjective(sae)
    optimizer = torch.optim.Adam(sae.parameters(), lr=recipe["lr_first_step"], fused=True)
    trajectory = []
    for step, x in enumerate(tensors["data"].split(recipe["batch_size"])):
        unit_norm_decoder(sae)  # before the forward pass: ours keep unit norm after the step
        losses = objective(x, recipe["sparsity_coeff"], None, sae.pre_activations(x).detach())
        l1 = (losses.loss - losses.mse) / recipe["sparsity_coeff"]
        trajectory.append([value.item() for value in (losses.mse, losses.l0, l1, losses.loss)])
        losses.loss.backward()
        remove_parallel_gradient(sae)
        optimizer.step()
        optimizer.zero_grad()
        optimizer.param_groups[0]["lr"] = recipe["lr"] * min(1, (step + 1) / recipe["lr_warmup_steps"])
    return sae, np.array(trajectory)


def test_two_hundred_steps_follow_the_golden_trajectory(tensors, recipe):
    sae, trajectory = train(tensors, recipe)
    expected = np.array(recipe["trajectory"])
    assert trajectory.shape == expected.shape == (200, 4)
    assert expected[-1, 0] < expected[0, 0] / 20  # it did learn
    relative = np.abs(trajectory / expected - 1)
    assert relative.max() < 1e-3, dict(zip(recipe["columns"], relative.max(axis=0), strict=True))
    for name, final in weights(tensors, "final").items():
        start, ours = tensors[f"init.{name}"], sae.state_dict()[name]
        assert (ours - final).norm() < 1e-3 * (final - start).norm(), name
