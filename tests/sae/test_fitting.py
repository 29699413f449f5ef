"""SAEs of features in memory."""

import dataclasses
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_traits.config.train import BatchTopK, JumpReLU, ReLU, TopK, TrainConfig
from sae_traits.errors import BackboneError, ConfigError, StoreError
from sae_traits.sae.fitting import fit_sae, rebatched, shuffled_batches
from sae_traits.sae.metrics import measure_sae

CONFIG = TrainConfig(
    architecture=TopK(k=3), n_latents=48, batch_size=128, n_patches=40_000, warmup_steps=10, learning_rate=3e-3
)


def features(n, seed=0):
    """Sums of three of 24 directions, far from zero and large."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(24, 16, generator=torch.Generator().manual_seed(99)) / 4
    active = torch.rand(n, 24, generator=generator).topk(3, dim=1).indices
    strength = 10 * (1 + torch.rand(n, 3, generator=generator))
    return torch.zeros(n, 24).scatter_(1, active, strength) @ directions + 5


def test_it_learns_to_reconstruct_other_features_of_the_same_kind():
    sae = fit_sae(features(1000), CONFIG, device="cpu")
    assert measure_sae(sae, [features(500, seed=1)]).explained_variance > 0.8
    assert sae.config.training["n_distinct_patches"] == 1000
    assert sae.config.training["n_threads"] == torch.get_num_threads()


@given(n=st.integers(1, 70), batch_size=st.integers(1, 50), start=st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_batches_are_epochs_in_new_orders_and_a_later_start_gives_the_later_ones(n, batch_size, start):
    rows = torch.arange(float(n))[:, None]
    batches = list(islice(shuffled_batches(rows, batch_size, seed=3, start=0), 16))
    assert all(batch.shape == (batch_size, 1) for batch in batches)
    for first, second in zip(batches[start:], shuffled_batches(rows, batch_size, seed=3, start=start), strict=False):
        assert torch.equal(first, second)
    for epoch in torch.cat(batches).flatten().split(n)[:-1]:
        assert epoch.sort().values.tolist() == list(range(n))


def test_no_epoch_has_the_order_of_another():
    first, second = islice(shuffled_batches(torch.arange(50.0)[:, None], 50, seed=0, start=0), 2)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("shape", [(0, 16), (16,), (2, 3, 16)])
def test_what_is_not_one_row_a_patch_is_refused(shape):
    with pytest.raises(ConfigError, match=r"features \[n, d_model\], one row per patch, not"):
        fit_sae(torch.zeros(shape), CONFIG, device="cpu")


def test_arrays_and_memory_mapped_files_train_as_tensors_do(tmp_path):
    x = features(500)
    np.save(tmp_path / "features.npy", x.numpy())
    short = dataclasses.replace(CONFIG, n_patches=2000)
    expected = fit_sae(x, short, device="cpu").state_dict()
    for data in (x.numpy(), np.load(tmp_path / "features.npy", mmap_mode="r")):
        for name, tensor in fit_sae(data, short, device="cpu").state_dict().items():
            assert torch.equal(tensor, expected[name]), name


def test_batches_of_any_sizes_are_learned_from_and_read_again_where_they_can_be():
    parts = list(features(2000).split([700, 1, 1299]))
    sae = fit_sae(parts, CONFIG, device="cpu")
    assert measure_sae(sae, [features(500, seed=1)]).explained_variance > 0.8
    with pytest.raises(StoreError, match=r"ended after step 15 of 313; give more, or train on fewer patches"):
        fit_sae(iter(parts), CONFIG, device="cpu")
    assert fit_sae(iter(parts), dataclasses.replace(CONFIG, n_patches=1500), device="cpu")
    with pytest.raises(StoreError, match=r"ended after step 0 of 1;"):
        fit_sae(iter([parts[0][:100]]), dataclasses.replace(CONFIG, n_patches=100), device="cpu")


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12), batch_size=st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_parts_become_batches_of_one_size_in_the_same_order(sizes, batch_size):
    rows = torch.arange(float(sum(sizes)))[:, None]
    batches = list(rebatched(iter(rows.split(sizes)), batch_size))
    assert all(batch.shape == (batch_size, 1) for batch in batches)
    assert torch.equal(torch.cat([rows[:0], *batches]), rows[: sum(sizes) // batch_size * batch_size])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (7, "a tensor, a numpy array or batches of these, not int"),
        ([[0.5, 0.5]], "a tensor, a numpy array or batches of these, not list"),
        ([], "there is no batch of any"),
        ([torch.zeros(2, 3, 16)], r"one row per patch, not \[2, 3, 16\]"),
    ],
)
def test_what_is_no_features_is_refused_in_one_line(data, message):
    with pytest.raises(ConfigError, match=message):
        fit_sae(data, CONFIG, device="cpu")


def test_batches_have_no_checkpoint_and_a_process_one_device(tmp_path):
    with pytest.raises(ConfigError, match="leave out the checkpoint"):
        fit_sae([features(200)], CONFIG, device="cpu", checkpoint=tmp_path / "c")
    fit_sae(features(200), dataclasses.replace(CONFIG, n_patches=128), device="cpu")
    with pytest.raises(BackboneError, match="the device 'cuda:99' cannot be used here"):
        fit_sae(features(200), CONFIG, device="cuda:99")
    with pytest.raises(ConfigError, match="this process already computes on cpu, and Accelerate has one device"):
        fit_sae(features(200), CONFIG, device="meta")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("make", [lambda x: x, lambda x: x.numpy(), lambda x: [x], lambda x: iter([x])])
def test_features_that_are_not_finite_are_named_and_counted(value, make):
    x = torch.randn(50, 6)
    x[[3, 40], 2] = value
    with pytest.raises(ConfigError, match="2 of 50 patches have NaN or infinities"):
        fit_sae(make(x), TrainConfig(architecture=TopK(k=2), n_latents=8, n_patches=100, batch_size=25))


def test_later_batches_that_are_not_finite_are_found_too():
    batches = (torch.full((2**16, 4), float("nan")) if i else torch.randn(2**16, 4) for i in range(2))
    with pytest.raises(ConfigError, match="65536 of 65536 patches have NaN"):
        fit_sae(batches, TrainConfig(architecture=TopK(k=2), n_latents=8, n_patches=2**17, batch_size=2**15))


@pytest.mark.parametrize("architecture", [TopK(k=1), BatchTopK(k=1), JumpReLU(k=1), ReLU()])
@pytest.mark.parametrize("n_latents", [1, 5])
@pytest.mark.parametrize("x", [torch.randn(300, 6), torch.ones(300, 6)], ids=["random", "constant"])
def test_the_smallest_dictionaries_and_constant_features_give_an_sae(architecture, n_latents, x):
    if n_latents > 1 and hasattr(architecture, "k"):
        architecture = replace(architecture, k=n_latents)  # as many as there are
    config = TrainConfig(architecture=architecture, n_latents=n_latents, n_patches=2000, batch_size=50)
    sae = fit_sae(x, config)
    assert all(bool(parameter.isfinite().all()) for parameter in sae.parameters())
    assert sae.encode(x).shape == (300, n_latents)
    codes = sae.encode_sparse(x)
    assert len(codes.values) == int((sae.encode(x) > 0).sum())
