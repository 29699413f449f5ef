"""The contract that our trainer and the other libraries' answer to in the benchmarks."""

# pyright: reportMissingImports=false

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # benchmarks are scripts, not a package

from contestants import ENVIRONMENTS, NAMES, OURS, VERSIONS_FILE, run_task  # noqa: E402
from peers.contract import PATCHES, Task, TimedBatches, canonical  # noqa: E402

from sae_traits.sae.metrics import measure_sae  # noqa: E402
from sae_traits.sae.model import SAE  # noqa: E402

D_MODEL, N_LATENTS, BATCH_SIZE, N_STEPS = 16, 64, 128, 120


@pytest.fixture(scope="module")
def patches_file(tmp_path_factory):
    """Features made of few of 32 directions, far off centre."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(32, D_MODEL, generator=generator), dim=1)
    strength = torch.rand(N_STEPS * BATCH_SIZE, 32, generator=generator)
    active = torch.rand(N_STEPS * BATCH_SIZE, 32, generator=generator) < 0.1
    file = tmp_path_factory.mktemp("patches") / "patches.safetensors"
    save_file({PATCHES: 4 * (strength * active) @ directions + 1}, file)
    return file


def make_task(patches_file, **options):
    sizes = {"n_latents": N_LATENTS, "n_steps": N_STEPS, "batch_size": BATCH_SIZE, "k": 4, "threads": 1}
    defaults = {"action": "train", "patches": str(patches_file), "architecture": "topk", "learning_rate": 3e-3}
    return Task(**(defaults | sizes | options))


def test_batches_come_in_order_start_again_and_are_copies():
    patches = torch.arange(10.0)[:, None]
    batches = TimedBatches(patches, batch_size=4, n_batches=3)
    first, second, third = batches
    assert first.flatten().tolist() == third.flatten().tolist() == [0, 1, 2, 3]
    assert second.flatten().tolist() == [4, 5, 6, 7]
    first += 100
    assert patches[0] == 0
    assert batches.asked == sorted(batches.asked)
    assert len(batches.asked) == 3


def test_each_iteration_starts_the_clock_again():
    batches = TimedBatches(torch.zeros(8, 1), batch_size=4, n_batches=2)
    list(batches)
    earlier = batches.asked
    list(batches)
    assert len(batches.asked) == 2
    assert batches.asked[0] > earlier[-1]


@pytest.mark.parametrize("architecture", ["topk", "relu"])
def test_weights_in_another_layout_are_refused(architecture):
    generator = torch.Generator().manual_seed(0)
    task = make_task("none", architecture=architecture)
    W = torch.randn(N_LATENTS, D_MODEL, generator=generator)
    weights = {
        "W_enc": W.T,
        "b_enc": torch.randn(N_LATENTS, generator=generator),
        "W_dec": W,
        "b_dec": torch.randn(D_MODEL, generator=generator),
    }
    x = torch.randn(5, D_MODEL, generator=generator)
    latents = torch.relu((x - weights["b_dec"]) @ weights["W_enc"] + weights["b_enc"])
    if architecture == "topk":
        smallest = latents.topk(task.k, dim=-1).values[:, -1:]
        latents = torch.where(latents >= smallest, latents, 0)
    reconstruction = latents @ W + weights["b_dec"]
    trained = canonical(task, **weights, x=x, reconstruction=reconstruction)
    assert trained.config["n_latents"] == N_LATENTS
    with pytest.raises(RuntimeError, match="reconstruct otherwise"):
        canonical(task, **weights | {"b_dec": weights["b_dec"] + 0.1}, x=x, reconstruction=reconstruction)


def test_patches_with_two_latents_of_nearly_the_same_value_are_not_compared():
    generator = torch.Generator().manual_seed(0)
    task = make_task("none", k=1)
    W = torch.randn(N_LATENTS, D_MODEL, generator=generator)
    x = torch.randn(9, D_MODEL, generator=generator)
    values, order = (x[:1] @ W.T).topk(2, dim=-1)
    first, second = order[0].tolist()
    bias = torch.zeros(N_LATENTS)
    bias[second] = values[0, 0] - values[0, 1] - 1e-6  # of the first patch
    latents = torch.relu(x @ W.T + bias)
    best = latents.argmax(-1)
    assert best[0] == first
    best[0] = second  # as another library may choose
    reconstruction = latents.gather(1, best[:, None]) * W[best]
    weights = {"W_enc": W.T, "b_enc": bias, "W_dec": W, "b_dec": torch.zeros(D_MODEL)}
    canonical(task, **weights, x=x, reconstruction=reconstruction)
    reconstruction[1] = 0
    with pytest.raises(RuntimeError, match="reconstruct otherwise"):
        canonical(task, **weights, x=x, reconstruction=reconstruction)


def test_nothing_is_compared_where_most_patches_have_a_near_tie():
    task = make_task("none", k=1)
    W = torch.ones(N_LATENTS, D_MODEL)
    weights = {"W_enc": W.T, "b_enc": torch.zeros(N_LATENTS), "W_dec": W, "b_dec": torch.zeros(D_MODEL)}
    x = torch.ones(4, D_MODEL)
    with pytest.raises(RuntimeError, match="reconstruct otherwise"):
        canonical(task, **weights, x=x, reconstruction=D_MODEL * x)


def libraries():
    for name in NAMES:
        there = name == OURS or (ENVIRONMENTS / name / VERSIONS_FILE).is_file()
        missing = pytest.mark.skipif(not there, reason="no environment; run make benchmark-environments")
        yield pytest.param(name, marks=[missing] if name == OURS else [missing, pytest.mark.slow])


@pytest.mark.slow
@pytest.mark.parametrize("name", libraries())
def test_what_a_library_trains_is_read_as_an_sae_of_raw_features(name, patches_file, tmp_path):
    answer = run_task(name, make_task(patches_file, out=str(tmp_path), centre=name != OURS))
    sae = SAE.from_pretrained(tmp_path)
    metrics = measure_sae(sae, load_file(patches_file)[PATCHES].split(BATCH_SIZE))
    assert metrics.explained_variance > 0.5
    assert metrics.l0 <= 4
    assert answer["seconds"] > 0


@pytest.mark.slow
def test_speed_is_answered_as_a_rate(patches_file):
    answer = run_task(OURS, make_task(patches_file, action="steps", n_steps=3))
    assert answer["patches_per_second"] > 0
    assert set(answer["versions"]) == {"torch", "sae-traits"}


@pytest.mark.slow
def test_what_a_library_says_when_it_fails_is_in_the_message(tmp_path):
    with pytest.raises(RuntimeError, match=r"(?s)ours failed on.*missing.safetensors"):
        run_task(OURS, make_task(tmp_path / "missing.safetensors"))
