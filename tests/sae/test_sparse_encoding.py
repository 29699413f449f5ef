import weakref
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sae_traits import SAE, SAEConfig
from sae_traits.config.train import Architecture
from sae_traits.errors import ConfigError
from sae_traits.sae.architectures import ARCHITECTURES
from sae_traits.sae.architectures.topk import TopKSAE

TRAINED = {options.kind: options for options in get_args(Architecture)}


def random_sae(architecture, *, d_model=12, n_latents=40, seed=0, k=5):
    generator = torch.Generator().manual_seed(seed)
    k = min(k, n_latents) if hasattr(TRAINED.get(architecture), "k") else None
    sae = SAE.from_config(SAEConfig(architecture=architecture, d_model=d_model, n_latents=n_latents, k=k), seed=seed)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        if architecture == "batch_topk":
            sae.threshold.fill_(0.3)
        if architecture == "nmf":
            sae.W_enc.abs_()
    return sae


def random_features(n, d_model=12, *, seed=1):
    return torch.randn(n, d_model, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def dense_encoding(sae, x):
    return sae.encode(x)


def values_of_a_row(dense, seed):
    """For every latent the value that it has in some row: thresholds that rounding the wrong way would cross."""
    rows = torch.randint(len(dense), (dense.shape[1],), generator=torch.Generator().manual_seed(seed))
    return dense[rows, torch.arange(dense.shape[1])]


def assert_codes(codes, dense, threshold, *, rtol=0.0):
    """Exactly the places of the dense encoding above the threshold, sorted, with its values."""
    rows, latents = (dense > threshold).nonzero(as_tuple=True)
    assert codes.rows().tolist() == rows.tolist()
    assert codes.latents.tolist() == latents.tolist()
    assert codes.values.dtype == torch.float32
    torch.testing.assert_close(codes.values, dense[rows, latents].float(), rtol=rtol, atol=rtol)


def assert_same_but_for_rounding(found, dense, threshold):
    """The dense encoding above the threshold; a value on the threshold may be on either side."""
    expected = dense * (dense > threshold)
    differs = (found > 0) != (expected > 0)
    value = torch.maximum(found, dense)[differs]
    torch.testing.assert_close(value, threshold.expand_as(dense)[differs], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[~differs], expected[~differs], rtol=1e-5, atol=1e-5)


def sums_alike(sae, x):
    """Whether this machine's products give a row the same bits in any batch of 16 rows or more."""
    starts = range(0, len(x) - 31, 16)
    blocks = [dense_encoding(sae, x[start : None if start == starts[-1] else start + 16]) for start in starts]
    return torch.equal(torch.cat(blocks), dense_encoding(sae, x))


@given(
    architecture=st.sampled_from(list(TRAINED)),
    n=st.integers(1, 90),
    d_model=st.integers(2, 70),
    n_latents=st.integers(2, 150),
    k=st.integers(1, 12),
    seed=st.integers(0, 999),
)
@settings(max_examples=40, deadline=None)
def test_a_threshold_that_is_itself_a_value_is_not_crossed(architecture, n, d_model, n_latents, k, seed):
    sae = random_sae(architecture, d_model=d_model, n_latents=n_latents, seed=seed, k=k)
    x = random_features(n, d_model, seed=seed)
    dense = dense_encoding(sae, x)
    threshold = values_of_a_row(dense, seed)
    assert_codes(sae.encode_sparse(x, threshold), dense, threshold)


@given(
    architecture=st.sampled_from(list(TRAINED)),
    n=st.integers(33, 200),
    d_model=st.integers(2, 70),
    n_latents=st.integers(2, 150),
    max_bytes=st.integers(600, 60_000),
    seed=st.integers(0, 999),
)
@settings(max_examples=40, deadline=None)
def test_blocks_of_rows_give_what_all_rows_give(architecture, n, d_model, n_latents, max_bytes, seed):
    sae = random_sae(architecture, d_model=d_model, n_latents=n_latents, seed=seed)
    x = random_features(n, d_model, seed=seed)
    threshold = values_of_a_row(dense_encoding(sae, x), seed)
    found = torch.from_numpy(sae.encode_sparse(x, threshold, max_bytes=max_bytes).to_scipy().toarray())
    assert_same_but_for_rounding(found, dense_encoding(sae, x), threshold)


@pytest.mark.parametrize("architecture", TRAINED)
def test_blocks_of_rows_cross_no_threshold_at_full_width(architecture):
    sae, x = random_sae(architecture, d_model=768, n_latents=1500), random_features(333, 768)
    if not sums_alike(sae, x):
        pytest.skip("here the product of some rows has other bits than that of all rows")
    dense = dense_encoding(sae, x)
    threshold = values_of_a_row(dense, 0)
    for max_bytes in (6000, 300_000, 1_000_000):
        assert_codes(sae.encode_sparse(x, threshold, max_bytes=max_bytes), dense, threshold)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("threshold", [0.0, 0.5, torch.inf])
def test_every_architecture_has_one_threshold_for_all_latents(architecture, threshold):
    sae, x = random_sae(architecture), random_features(50)
    dense = dense_encoding(sae, x)
    assert_codes(sae.encode_sparse(x, threshold), dense, threshold)
    assert threshold > 0 or len(sae.encode_sparse(x).values) == int((dense > 0).sum()) > 0


class OnePerHalf(TopKSAE):
    """The largest latent of each half of the dictionary."""

    def largest(self, pre):
        halves = [half.max(dim=-1, keepdim=True) for half in pre.chunk(2, dim=-1)]
        places = [halves[0].indices, halves[1].indices + pre.shape[-1] // 2]
        return torch.cat([half.values for half in halves], -1), torch.cat(places, -1)


def test_an_architecture_that_picks_other_latents_has_the_codes_of_its_own_encoding():
    sae, x = OnePerHalf(SAEConfig(architecture="topk", d_model=12, n_latents=40, k=2)), random_features(50)
    dense = dense_encoding(sae, x)
    assert int((dense[:, :20] > 0).sum()) > 40 < int((dense[:, 20:] > 0).sum())
    assert_codes(sae.encode_sparse(x), dense, 0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weights_in_half_precision_give_the_codes_of_their_own_dense_encoding(architecture):
    sae, x = random_sae(architecture).bfloat16(), random_features(50)
    assert sae.encode(x).dtype == torch.bfloat16
    assert_codes(sae.encode_sparse(x, 0.5), dense_encoding(sae, x).float(), 0.5)


def test_autocast_changes_no_codes():
    sae, x = random_sae("relu", d_model=768, n_latents=1500), random_features(100, 768)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = dense_encoding(sae, x)
        codes = sae.encode_sparse(x, 10.0)
    dense = dense_encoding(sae, x)
    assert int(((rounded > 10) != (dense > 10)).sum()) > 10
    assert_codes(codes, dense, 10.0)


@pytest.mark.parametrize("architecture", TRAINED)
def test_rows_that_are_not_finite_disturb_no_other_row(architecture):
    sae, x = random_sae(architecture), random_features(40)
    x[3, 2], x[5, 0] = torch.nan, torch.inf
    dense = dense_encoding(sae, x)
    assert_codes(sae.encode_sparse(x, 0.2), dense, 0.2, rtol=1e-5)


class LiveBytes(TorchDispatchMode):
    """Highest number of bytes in tensors that were made while it is on."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        known = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in known | self.seen:
                storage = tensor.untyped_storage()
                self._add(storage._cdata, storage.nbytes(), tensor)
        return result

    def _add(self, key, n_bytes, tensor):
        self.seen.add(key)
        self.live += n_bytes
        self.peak = max(self.peak, self.live)
        weakref.finalize(tensor, self._remove, key, n_bytes)

    def _remove(self, key, n_bytes):
        self.seen.discard(key)
        self.live -= n_bytes


@pytest.mark.parametrize("architecture", TRAINED)
def test_transient_memory_stays_within_its_bound(architecture):
    sae, x = random_sae(architecture, d_model=32, n_latents=2000), random_features(3000, 32)
    max_bytes = 2_000_000
    with LiveBytes() as memory:
        codes = sae.encode_sparse(x, 7.0, max_bytes=max_bytes)
    allowed = max_bytes + 3 * (codes.offsets.nbytes + codes.latents.nbytes + codes.values.nbytes)
    assert len(codes.values) > 1000
    assert max_bytes / 2 < memory.peak < allowed < 3000 * 2000 * 4 / 5


def test_decoding_is_not_run():
    sae, x = random_sae("topk"), random_features(20)
    dense = dense_encoding(sae, x)
    with torch.no_grad():
        sae.W_dec.fill_(torch.nan)
    assert_codes(sae.encode_sparse(x), dense, 0.0)


def test_stored_half_precision_features_are_encoded_in_float32():
    sae, x = random_sae("relu"), random_features(20).bfloat16()
    assert_codes(sae.encode_sparse(x), dense_encoding(sae, x.float()), 0.0)


def test_no_patches_give_no_codes():
    codes = random_sae("topk").encode_sparse(torch.empty(0, 12))
    assert codes.offsets.tolist() == [0]
    assert codes.to_scipy().shape == (0, 40)


def test_scipy_gets_the_dense_latents():
    sae, x = random_sae("jump_relu"), random_features(30)
    array = sae.encode_sparse(x).to_scipy()
    assert array.has_sorted_indices
    np.testing.assert_array_equal(array.toarray(), dense_encoding(sae, x).numpy())


@pytest.mark.parametrize("max_bytes", [0, -1, 64, 159])
def test_memory_that_does_not_hold_one_row_is_refused(max_bytes):
    with pytest.raises(ConfigError, match=rf"{max_bytes} do not hold the 40 latents of one patch \(160\); give"):
        random_sae("relu").encode_sparse(random_features(2), max_bytes=max_bytes)
    assert random_sae("relu").encode_sparse(random_features(2), max_bytes=160).offsets[-1] > 0


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        (-0.1, "may be negative or NaN"),
        (torch.tensor([0.1] * 39 + [torch.nan]), "may be negative or NaN"),
        (torch.zeros(39), "one for each of 40 latents"),
    ],
)
def test_thresholds_that_cannot_be_used_are_explained(threshold, message):
    with pytest.raises(ConfigError, match=message):
        random_sae("relu").encode_sparse(random_features(2), threshold)
