"""Training with products in half precision: bfloat16 learns as float32 does, float16 is refused."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from train_configs import train_config

from sae_traits.errors import ConfigError
from sae_traits.sae.metrics import measure_sae
from sae_traits.sae.trainer import FeatureScale, train_saes

D_MODEL, N_STEPS = 16, 200
ARCHITECTURES = ("topk", "batch_topk", "jump_relu", "relu")
CONFIGS = [
    train_config(name, n_latents=48, k=3, batch_size=256, warmup_steps=10, learning_rate=3e-3, l1_coefficient=0.02)
    for name in ARCHITECTURES
]


def patches(step, n=256):
    """Sums of three of 24 directions."""
    generator = torch.Generator().manual_seed(step)
    directions = torch.randn(24, D_MODEL, generator=torch.Generator().manual_seed(99)) / D_MODEL**0.5
    active = torch.rand(n, 24, generator=generator).topk(3, dim=1).indices
    return torch.zeros(n, 24).scatter_(1, active, 1 + torch.rand(n, 3, generator=generator)) @ directions


@pytest.fixture
def fit(tmp_path):
    """Train in a precision; a process has one state of Accelerate, which is forgotten before and after."""

    def fit_in(precision):
        AcceleratorState._reset_state(reset_partial_state=True)
        return train_saes(
            lambda start: (patches(step) for step in range(start, N_STEPS)),
            CONFIGS,
            FeatureScale(mean=torch.zeros(D_MODEL), scale=1.0),
            n_steps=N_STEPS,
            checkpoint=tmp_path / "checkpoint",
            data="drawn",
            accelerator=Accelerator(cpu=True, mixed_precision=precision),
        )

    yield fit_in
    AcceleratorState._reset_state(reset_partial_state=True)


def test_bfloat16_learns_as_float32_does_and_keeps_weights_in_float32(fit):
    held_out = patches(10_000, 2000)
    for half, full in zip(fit("bf16"), fit("no"), strict=True):
        assert {tensor.dtype for tensor in half.state_dict().values()} == {torch.float32}
        assert not torch.equal(half.W_enc, full.W_enc), "the products were made in another precision"
        found, expected = measure_sae(half, [held_out]), measure_sae(full, [held_out])
        assert found.explained_variance == pytest.approx(expected.explained_variance, abs=0.03)
        assert found.l0 == pytest.approx(expected.l0, rel=0.1)
        assert expected.explained_variance > 0.6
        assert torch.allclose(half.W_dec.norm(dim=1), torch.ones(48), atol=1e-5)


def test_float16_is_refused(fit):
    with pytest.raises(ConfigError, match="fp16 loses small gradients of an SAE; launch with --mixed_precision bf16"):
        fit("fp16")
