"""Dictionaries that are not sparse autoencoders, as SAEs: saved, loaded, measured and annotated with like any other.

All are centred on the mean of the patches that they are fitted to, so `b_dec` is that mean, and their decoder rows have
unit length. Times are of 100,000 patches of width 96 on one core.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sae_traits.errors import ConfigError
from sae_traits.features.source import FeatureSource
from sae_traits.sae.architectures.fitted import positive_and_negative
from sae_traits.sae.k_means import centroids_of
from sae_traits.sae.model import SAE, SAEConfig
from sae_traits.schema import BackboneInfo

Patches = Tensor | NDArray[np.float32]
"""A sample of features `[n, d_model]`."""

SAMPLED_PATCHES = 100_000
"""`fit_to_source` takes at most this many patches, of random images."""
NMF_PATCHES = 20_000
NMF_ITERATIONS = 50


def fit_baseline(
    name: str, patches: Patches, n_latents: int, *, k: int, seed: int, backbone: BackboneInfo | None = None
) -> SAE:
    """One of BASELINES, fitted to a sample of training features.

    PCA and NMF have at most 2 d_model latents. `k` is the number of active latents per patch of `random`; the others
    find their own. `backbone` is for the record.

    Raises:
        ConfigError: there is no such baseline, it cannot have so many latents, or there are too few patches.
    """
    if name not in BASELINES:
        raise ConfigError(f"there is no baseline {name!r}; there are {', '.join(BASELINES)}")
    sae = BASELINES[name].fit(patches, n_latents, k=k, seed=seed)
    sae.config = replace(sae.config, backbone=backbone, training={"method": name} | sae.config.training)
    return sae


def fit_to_source(
    name: str, source: FeatureSource, rows: NDArray[np.int64], n_latents: int, *, k: int, seed: int
) -> SAE:
    """The baseline of a name, fitted to all patches of random images, SAMPLED_PATCHES at most.

    The images are taken of the collection's `rows [n]`; `n_latents` and `k` are those of the SAE that it is compared
    with, and where the baseline cannot have so many latents, it has all it can.
    """
    order = np.random.default_rng(seed).permutation(rows)
    n_until = np.cumsum(source.patch_counts()[order])
    n_images = max(1, int(np.searchsorted(n_until, SAMPLED_PATCHES, side="right")))
    patches = torch.cat([shard.features.float() for shard in source.shards(np.sort(order[:n_images]))])
    n_latents = BASELINES[name].max_n_latents(n_latents, source.info.d_model, len(patches))
    return fit_baseline(name, patches, n_latents, k=k, seed=seed, backbone=source.info)


def fit_pca(patches: Patches, n_latents: int, *, k: int | None = None, seed: int = 0) -> SAE:
    """Principal components: latents 2i and 2i + 1 are the positive and the negative half of component i.

    Decoding is exact PCA with n_latents / 2 components, so L0 is that number, whatever k is: for comparison with an SAE
    of k active latents give 2 k latents. Nothing is random. 0.4 s.
    """
    from sklearn.decomposition import PCA

    x = _as_tensor(patches)
    n_components, d_model = n_latents // 2, x.shape[1]
    if n_latents % 2 or not 0 < n_components <= d_model:
        raise ConfigError(
            f"PCA of features of width {d_model} has an even number of 2 to {2 * d_model} latents, two per component, "
            f"not {n_latents}; choose --n-latents accordingly"
        )
    _check_enough(len(x), n_components, "principal components")
    # In float64: the small components of large features are lost otherwise.
    pca = PCA(n_components, svd_solver="covariance_eigh").fit(x.double().numpy())
    components = torch.from_numpy(pca.components_)
    rows = torch.stack([components, -components], dim=1).flatten(0, 1)
    return _fitted("relu", x, W_enc=rows.T, W_dec=rows)


def fit_nmf(patches: Patches, n_latents: int, *, k: int | None = None, seed: int) -> SAE:
    """Non-negative matrix factorisation of the positive and the negative parts of the centred features.

    scikit-learn's coordinate descent on at most NMF_PATCHES patches: MiniBatchNMF, on all 100,000, took longer and
    explained less (96 latents: 0.61 of the variance in 27 s, against 0.74). Time grows with n_latents squared: 96
    latents take 15 s, 192 take 65 s. Encoding descends likewise: 1,400 patches/s at 192 latents.
    """
    from sklearn.decomposition import NMF

    x = _as_tensor(patches)
    if not 0 < n_latents <= 2 * x.shape[1]:
        raise ConfigError(
            f"NMF of features of width {x.shape[1]} has 1 to {2 * x.shape[1]} latents, not {n_latents}: as many as "
            "there are positive and negative parts reconstruct everything; choose --n-latents accordingly"
        )
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:NMF_PATCHES]
    _check_enough(len(chosen), n_latents, "NMF components")
    parts = positive_and_negative(x[chosen] - x.mean(0))
    # tol=0: it always makes all iterations, and so never warns that it could have gone on.
    settings: dict[str, Any] = {"init": "nndsvd", "max_iter": NMF_ITERATIONS, "tol": 0}
    nmf = NMF(n_latents, random_state=seed, **settings).fit(parts.numpy())  # pyright: ignore[reportArgumentType]
    components = torch.from_numpy(nmf.components_)
    positive, negative = components.chunk(2, dim=1)
    length = (positive - negative).norm(dim=1, keepdim=True)
    # A component whose halves cancel decodes to nothing; it keeps a finite scale.
    components = components / torch.where(length > 0, length, 1)
    positive, negative = components.chunk(2, dim=1)
    return _fitted("nmf", x, W_enc=components.T, W_dec=positive - negative, seed=seed)


def fit_k_means(patches: Patches, n_latents: int, *, k: int | None = None, seed: int) -> SAE:
    """Centroids of k-means: one latent is active, and decoding gives the nearest centroid. 1,536 take 15 s."""
    x = _as_tensor(patches)
    _check_enough(len(x), n_latents, "centroids")
    centroids = centroids_of(x - x.mean(0), n_latents, seed=seed)
    b_enc, rows = -centroids.square().sum(1) / 2, functional.normalize(centroids, dim=1)
    return _fitted("k_means", x, W_enc=centroids.T, b_enc=b_enc, W_dec=rows, seed=seed)


def random_directions(patches: Patches, n_latents: int, *, k: int, seed: int) -> SAE:
    """Random unit directions, of which the k with the largest projection are active. 2 s at 1,536 latents.

    The encoder is the decoder transposed times one scalar, fitted by least squares to the patches: the directions
    overlap, so that k plain projections together would overshoot.
    """
    x = _as_tensor(patches)
    if not 1 <= k <= n_latents:
        raise ConfigError(f"k must lie between 1 and n_latents ({n_latents}), not {k}")
    rows = torch.randn(n_latents, x.shape[1], generator=torch.Generator().manual_seed(seed))
    rows = functional.normalize(rows, dim=1)
    sae = _fitted("topk", x, W_enc=rows.T, W_dec=rows, k=k, seed=seed)
    centred = x - sae.b_dec.detach()
    along = squares = 0.0
    with torch.no_grad():
        for start, latents in sae.encode_tiles(x):
            reconstruction = latents @ sae.W_dec
            along += float((reconstruction * centred[start : start + len(latents)]).sum(dtype=torch.float64))
            squares += float(reconstruction.square().sum(dtype=torch.float64))
        sae.W_enc.mul_(along / squares if squares > 0 else 1.0)
    return sae


@dataclass(frozen=True)
class Baseline:
    """How a baseline is fitted, and how large it can be."""

    fit: Callable[..., SAE]
    max_n_latents: Callable[[int, int, int], int]
    """Of the number that is wanted, the width of the features and the number of patches."""


BASELINES = {
    "pca": Baseline(fit_pca, lambda wanted, d_model, n_patches: 2 * max(1, min(wanted // 2, d_model, n_patches))),
    "nmf": Baseline(fit_nmf, lambda wanted, d_model, n_patches: min(wanted, 2 * d_model, n_patches, NMF_PATCHES)),
    "k_means": Baseline(fit_k_means, lambda wanted, d_model, n_patches: min(wanted, n_patches)),
    "random": Baseline(random_directions, lambda wanted, d_model, n_patches: wanted),
}
"""By the `kind` of their regions in `sae_traits.config.regions`."""


def _as_tensor(patches: Patches) -> Tensor:
    x = torch.as_tensor(patches, dtype=torch.float32).cpu()
    if x.ndim != 2 or not len(x):
        raise ConfigError(f"a baseline is fitted to patches [n, d_model], not to an array {list(x.shape)}")
    if not bool(x.isfinite().all()):
        raise ConfigError("the patches that a baseline is fitted to have NaN or infinities")
    return x


def _check_enough(n_patches: int, needed: int, what: str) -> None:
    if n_patches < needed:
        raise ConfigError(f"{needed} {what} cannot be found in {n_patches} patches; give more patches or fewer latents")


def _fitted(
    architecture: str,
    x: Tensor,
    *,
    W_enc: Tensor,
    W_dec: Tensor,
    b_enc: Tensor | None = None,
    k: int | None = None,
    **training: Any,
) -> SAE:
    """An SAE of these weights, centred on the mean of `x [n, d_model]`; without `b_enc` it is zero."""
    n_latents, d_model = W_dec.shape
    record = {"n_patches": len(x)} | training
    config = SAEConfig(architecture=architecture, d_model=d_model, n_latents=n_latents, k=k, training=record)
    sae = SAE.from_config(config)
    b_enc = torch.zeros(n_latents) if b_enc is None else b_enc
    b_dec = x.mean(0, dtype=torch.float64)
    sae.load_state_dict({"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": b_dec})  # copies, in float32
    return sae.eval()
