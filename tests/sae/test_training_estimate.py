"""How long a training is, is known before it begins."""

import pytest
import torch
from accelerate import Accelerator
from torch.utils.flop_counter import FlopCounterMode

from sae_traits.config.train import ReLU, TopK, TrainConfig
from sae_traits.sae.estimate import estimate_training, flops_per_patch
from sae_traits.sae.trainer import FeatureScale, train_saes

D_MODEL, N_LATENTS, BATCH = 32, 256, 64


def count_training(config, n_steps, folder):
    """Operations of matrix products in a real training."""
    batches = torch.randn(n_steps, BATCH, D_MODEL)
    with FlopCounterMode(display=False) as counter:
        train_saes(
            lambda start: iter(batches[start:]),
            [config],
            FeatureScale(mean=torch.zeros(D_MODEL), scale=1.0),
            n_steps=n_steps,
            checkpoint=folder / f"{n_steps}.checkpoint",
            data="random",
            accelerator=Accelerator(cpu=True),
        )
    return counter.get_total_flops()


def test_a_dense_step_makes_the_products_that_are_estimated(tmp_path):
    config = TrainConfig(architecture=ReLU(), n_latents=N_LATENTS, batch_size=BATCH)
    a_step = (count_training(config, 12, tmp_path) - count_training(config, 2, tmp_path)) / 10
    biases = 2 * D_MODEL * N_LATENTS  # the gradient of b_dec: once a step, not a patch
    assert a_step == pytest.approx(flops_per_patch(config, D_MODEL) * BATCH + biases, rel=0.02)


def test_the_papers_training_is_known_by_its_numbers():
    config = TrainConfig(architecture=ReLU(), n_latents=24_576, n_patches=100_000_000, batch_size=16_384)
    estimate = estimate_training([config], d_model=768, n_different_patches=74_035_968)
    assert (estimate.n_steps, estimate.n_patches) == (6_104, 100_007_936)
    assert estimate.flops == pytest.approx(18.9e15, rel=0.01)
    (line,) = estimate.lines()
    assert "6,104 steps of 16,384 patches: 1.35 times through the 74,035,968" in line


def test_few_active_latents_are_cheap_and_a_sweep_adds_up():
    topk, relu = (TrainConfig(architecture=kind, n_latents=24_576) for kind in (TopK(k=32), ReLU()))
    assert flops_per_patch(topk, 768) < flops_per_patch(relu, 768) / 4.9
    one, two = (estimate_training(configs, d_model=768, n_different_patches=1) for configs in ([topk], [topk, topk]))
    assert (two.n_patches, two.flops) == (one.n_patches, 2 * one.flops)
    assert "2 SAEs side by side" in two.lines()[0]
