import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import NMF, PCA

from sae_traits import SAE
from sae_traits.errors import ConfigError
from sae_traits.features.store import FeatureShard, FeatureStore, ShardEntry, write_index, write_shard
from sae_traits.geometry import Framing
from sae_traits.io import hash_of_file
from sae_traits.sae.baselines import (
    BASELINES,
    fit_baseline,
    fit_k_means,
    fit_nmf,
    fit_pca,
    random_directions,
)
from sae_traits.sae.metrics import measure_sae
from sae_traits.schema import BackboneInfo
from sae_traits.traits.encode import encode_collection, firing_thresholds

D_MODEL, N_LATENTS = 10, 16


def patches(n=600, seed=0):
    """Correlated features far from the origin, with components of very different sizes."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(D_MODEL, D_MODEL)) * np.geomspace(5, 0.1, D_MODEL)[:, None]
    return (rng.laplace(size=(n, D_MODEL)) @ mixing + 20).astype(np.float32)


def fit(name, x=None, **more):
    return fit_baseline(name, patches() if x is None else x, N_LATENTS, k=4, seed=0, **more)


def reconstruction(sae, x):
    with torch.no_grad():
        return sae(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_has_unit_decoder_rows_the_mean_as_bias_and_a_record(name):
    x = patches()
    sae = fit(name, x)
    assert torch.allclose(sae.W_dec.norm(dim=1), torch.ones(N_LATENTS), atol=1e-5)
    np.testing.assert_allclose(sae.b_dec.detach(), x.mean(0, dtype=np.float64), rtol=1e-6)
    assert (sae.config.training["method"], sae.config.training["n_patches"]) == (name, 600)
    with torch.no_grad():
        assert bool((sae.encode(torch.from_numpy(x)) >= 0).all())
    assert 0.2 < measure_sae(sae, [torch.from_numpy(x)]).explained_variance <= 1


@pytest.mark.parametrize("name", BASELINES)
def test_the_same_seed_gives_the_same_baseline_from_arrays_and_from_tensors(name):
    first, second = fit(name), fit(name, torch.from_numpy(patches()))
    for key, weights in first.state_dict().items():
        assert torch.equal(weights, second.state_dict()[key]), key


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_saved_and_loaded(name, tmp_path):
    info = BackboneInfo(
        backbone="none", revision="0", layer=0, d_model=D_MODEL, rows=2, columns=2, patch=None,
        framing=Framing(mode="squash", size=(8, 8)), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
    )  # fmt: skip
    sae = fit(name, backbone=info)
    sae.save_pretrained(tmp_path)
    loaded = SAE.from_pretrained(tmp_path)
    assert loaded.config == sae.config
    assert loaded.config.backbone == info
    np.testing.assert_array_equal(reconstruction(loaded, patches(50, 1)), reconstruction(sae, patches(50, 1)))


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_gives_codes_like_any_other_sae(name, tmp_path):
    sae, store = fit(name), store_of(tmp_path / "activations", patches(40, seed=5))
    thresholds = firing_thresholds(sae, store, np.ones(10), 0.5)
    codes = encode_collection(sae, store, thresholds, tmp_path / "codes")
    with torch.no_grad():
        latents = sae.encode(torch.from_numpy(patches(40, seed=5))).numpy()
    fired = latents > thresholds
    assert fired.any(1).mean() > 0.3
    found = np.zeros_like(fired)
    for one in codes.images():
        found[4 * one.image + one.patches, one.latents] = True
    assert (found != fired).sum() <= 0.01 * fired.sum()  # NMF's latents depend on the batch in the last digits


def store_of(folder, x):
    """Ten images of four patches."""
    folder.mkdir()
    path = folder / "shard-00000.safetensors"
    offsets, places = np.arange(0, 41, 4), np.tile(np.arange(4, dtype=np.int32), 10)
    write_shard(path, FeatureShard(np.arange(10), offsets, places, torch.from_numpy(x)), "plan")
    entry = ShardEntry(
        file=path.name, first_image=0, n_images=10, n_patches=40,
        bytes=path.stat().st_size, sha256=hash_of_file(path),
    )  # fmt: skip
    info = BackboneInfo(
        backbone="none", revision="0", layer=0, d_model=D_MODEL, rows=2, columns=2, patch=None,
        framing=Framing(mode="squash", size=(8, 8)), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
    )  # fmt: skip
    write_index(folder, info, "plan", "float32", [entry])
    return FeatureStore.open(folder)


@given(n_components=st.integers(1, D_MODEL), seed=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_pca_decodes_as_scikit_learns_with_one_half_of_each_component_active(n_components, seed):
    x = patches(300, seed)
    sae = fit_pca(x, 2 * n_components)
    pca = PCA(n_components).fit(x.astype(np.float64))
    expected = pca.inverse_transform(pca.transform(x.astype(np.float64)))
    np.testing.assert_allclose(reconstruction(sae, x), expected, atol=2e-4)
    measured = measure_sae(sae, [torch.from_numpy(x)])
    assert measured.explained_variance == pytest.approx(pca.explained_variance_ratio_.sum(), abs=1e-5)
    assert measured.l0 == pytest.approx(n_components, abs=0.01)


def test_k_means_activates_the_nearest_centroid_alone_and_decodes_to_it():
    x = patches()
    sae = fit_k_means(x, N_LATENTS, seed=0)
    centroids = (sae.W_enc.T + sae.b_dec).detach().numpy()
    nearest = np.square(x[:, None].astype(np.float64) - centroids).sum(2).argmin(1)
    with torch.no_grad():
        latents = sae.encode(torch.from_numpy(x)).numpy()
    assert ((latents > 0).sum(1) == 1).all()
    np.testing.assert_array_equal(latents.argmax(1), nearest)
    np.testing.assert_allclose(reconstruction(sae, x), centroids[nearest], atol=1e-4)
    assert len(np.unique(nearest)) == N_LATENTS


def test_nmf_reconstructs_as_well_as_scikit_learns_own():
    x = patches(300)
    centred = x - x.mean(0)
    parts = np.concatenate([np.maximum(centred, 0), np.maximum(-centred, 0)], 1)
    own = NMF(6, init="nndsvd", max_iter=400, random_state=0)  # pyright: ignore[reportArgumentType]
    left = np.square(own.fit_transform(parts) @ own.components_ - parts).sum()
    sae = fit_nmf(x, 6, seed=0)
    with torch.no_grad():
        latents = sae.encode(torch.from_numpy(x))
        found = np.square((latents @ sae.W_enc.T).numpy() - parts).sum()
    assert found == pytest.approx(left, rel=0.02)
    positive, negative = sae.W_enc.detach().T.chunk(2, dim=1)
    assert torch.allclose(positive - negative, sae.W_dec)
    assert float(latents.max()) < 10 * np.linalg.norm(centred, axis=1).max()


@given(k=st.integers(1, N_LATENTS), seed=st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_random_directions_are_scaled_as_well_as_one_scalar_can(k, seed):
    x = torch.from_numpy(patches(200, seed))
    sae = random_directions(x, N_LATENTS, k=k, seed=seed)
    with torch.no_grad():
        latents = sae.encode(x)
        assert bool(((latents > 0).sum(1) <= k).all())
        errors = [float((sae.decode(latents * factor) - x).square().sum()) for factor in (0.95, 1, 1.05)]
        projection = ((x - sae.b_dec) @ sae.W_dec.T).topk(k).indices
    assert errors[1] < min(errors[0], errors[2])
    for row, chosen in zip(latents, projection, strict=True):
        assert set(row.nonzero().flatten().tolist()) <= set(chosen.tolist())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: fit_pca(x, 2 * D_MODEL + 2), "2 to 20 latents"),
        (lambda x: fit_pca(x, 7), "even number"),
        (lambda x: fit_pca(x[:3], 8), "4 principal components cannot be found in 3 patches"),
        (lambda x: fit_nmf(x, 2 * D_MODEL + 1, seed=0), "1 to 20 latents"),
        (lambda x: fit_nmf(x[:3], 4, seed=0), "in 3 patches"),
        (lambda x: fit_k_means(x[:5], 6, seed=0), "6 centroids cannot be found in 5 patches"),
        (lambda x: random_directions(x, 8, k=9, seed=0), "k must lie between 1 and n_latents"),
        (lambda x: random_directions(x[0], 8, k=2, seed=0), r"not to an array \[10\]"),
    ],
)
def test_what_cannot_be_fitted_says_why(make, message):
    with pytest.raises(ConfigError, match=message):
        make(patches())


@pytest.mark.parametrize("name", BASELINES)
@settings(max_examples=15, deadline=None)
@given(wanted=st.integers(1, 40), d_model=st.integers(1, 6), n_patches=st.integers(2, 30))
def test_a_baseline_can_be_fitted_with_as_many_latents_as_are_allowed(name, wanted, d_model, n_patches):
    n_latents = BASELINES[name].max_n_latents(wanted, d_model, n_patches)
    x = np.random.default_rng(0).normal(size=(n_patches, d_model)).astype(np.float32)
    assert fit_baseline(name, x, n_latents, k=1, seed=0).config.n_latents == n_latents
    assert n_latents <= max(wanted, 2)


def test_baselines_have_fewer_latents_than_asked_for_only_where_they_must():
    sizes = {"d_model": 96, "n_patches": 100_000}
    found = {name: BASELINES[name].max_n_latents(1536, *sizes.values()) for name in BASELINES}
    assert found == {"pca": 192, "nmf": 192, "k_means": 1536, "random": 1536}
