"""How far one step moves each kind of weight."""

import pytest
import torch
from accelerate import Accelerator
from train_configs import train_config

from sae_traits.sae.architectures import new_sae
from sae_traits.sae.training_state import Stack, TrainingState

D_MODEL, N_LATENTS, N = 16, 24, 64


@pytest.mark.parametrize("architecture", ["jump_relu", "relu", "batch_topk"])
def test_biases_learn_faster_by_the_root_of_the_width_and_learned_thresholds_ten_times_as_fast(architecture):
    """Adam's first step moves a weight by its learning rate, whatever the size of the gradient."""
    config = train_config(architecture, n_latents=N_LATENTS, k=4, batch_size=N)
    sae = new_sae(config, D_MODEL)
    state = TrainingState(sae, config, Accelerator(cpu=True), sae.penalty(config.architecture, 1.0))
    stack = Stack([state])
    x = 2 * torch.randn(N, D_MODEL, generator=torch.Generator().manual_seed(0))
    state.step(0, x, stack.pre_activations(x)[0], learning_rate=0.0)  # sets biases and thresholds to the data
    state.optimizer.state.clear()
    before = {name: tensor.detach().clone() for name, tensor in sae.named_parameters()}
    state.step(1, x, stack.pre_activations(x)[0], learning_rate=1e-4)
    moved = {name: (tensor.detach() - before[name]).abs().max().item() for name, tensor in sae.named_parameters()}
    assert moved["W_enc"] == pytest.approx(1e-4, rel=0.01)
    assert [moved["b_enc"], moved["b_dec"]] == pytest.approx([4e-4, 4e-4], rel=0.01)
    if architecture == "jump_relu":
        assert moved["threshold"] == pytest.approx(1e-3, rel=0.01)
