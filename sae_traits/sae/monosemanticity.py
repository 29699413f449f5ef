"""Whether the images that a latent fires in look alike: the monosemanticity score.

Source: Pach et al. 2025, "Sparse autoencoders learn monosemantic features in vision-language models": the mean cosine
similarity of all pairs of images, each pair weighed by the product of the latent's two activations, which are scaled to
0..1 per latent by its smallest and largest. As in the authors' program, embeddings are not centred. What is ours: an
image's activation is that of its strongest patch, since a trait is small; and the embeddings are the SAE's own input
features, averaged over patches. Their common mean makes all similarities high, so a score says something only beside
`mean_similarity`, which is what a latent that ignores the image would get.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csc_array, csr_array, sparray, vstack

from sae_traits.features.store import FeatureShard
from sae_traits.sae.model import SAE

LATENTS_AT_ONCE = 4096
"""Bounds the dense arrays `[LATENTS_AT_ONCE, d]` that the scores are made of."""
MIN_WEIGHT = 1e-12
"""Of all pairs together, relative to the squared sum of activations: below, float64 has no digits left for a score."""


@dataclass(frozen=True)
class Monosemanticity:
    """The scores of an SAE's latents."""

    scores: NDArray[np.float64]
    """-1 to 1 `[n_latents]`; NaN where fewer than two images activate the latent."""
    embedding: str
    mean_similarity: float
    """Mean cosine similarity of all pairs of images: the score of a latent that ignores the image."""

    @property
    def mean_with_zeros(self) -> float:
        """Mean over all latents, 0 for those without a score: dead ones, and those of a single image."""
        return float(np.nan_to_num(self.scores).mean())

    def to_dict(self) -> dict[str, float | int | str]:
        scored = self.scores[np.isfinite(self.scores)]
        return {
            "embedding": self.embedding,
            "mean": float(scored.mean()) if len(scored) else float("nan"),
            "mean_with_zeros": self.mean_with_zeros,
            "n_scored": len(scored),
            "mean_similarity": self.mean_similarity,
        }


def measure_monosemanticity(sae: SAE, shards: Iterable[FeatureShard]) -> Monosemanticity:
    """Score every latent of an SAE over the images of feature shards, one shard in memory at a time.

    The features, averaged over patches, are the embeddings. A ValueError where there are no images.
    """
    pooled, activations = [], []
    for shard in shards:
        pooled.append(pool(shard.features.numpy(), shard.offsets))
        activations.append(strongest_activations(sae, shard))
    if not pooled:
        raise ValueError("there are no images to score latents on")
    embeddings = np.concatenate(pooled)
    scores = monosemanticity(embeddings, csr_array(vstack(activations)))
    info = sae.config.backbone
    features = "features" if info is None else f"{info.backbone}@{info.revision} {info.layers}"
    return Monosemanticity(scores, f"{features}, mean over patches", mean_similarity(embeddings))


def monosemanticity(embeddings: ArrayLike, activations: ArrayLike | sparray) -> NDArray[np.float64]:
    """Mean cosine similarity of pairs of images, weighed by how strongly a latent fires in both `[n_latents]`.

    With unit-norm embeddings E and scaled activations a, the mean is (|Eᵀa|² - Σa²) / ((Σa)² - Σa²): no pair is looked
    at. As in the authors' program, a latent that is equally active in all images has no score.

    Args:
        embeddings: `[n_images, d]`, of any length; a zero vector is similar to nothing.
        activations: zero or positive `[n_images, n_latents]`, dense or scipy sparse.

    Returns:
        Scores from -1 to 1; NaN where fewer than two images are active once activations are scaled to 0..1.

    Raises:
        ValueError: an activation is negative, or the rows are not as many.
    """
    unit = _unit_rows(embeddings)
    columns = csc_array(activations)
    n_images, n_latents = columns.shape  # pyright: ignore[reportGeneralTypeIssues]
    if n_images != len(unit):
        raise ValueError(f"there are {len(unit)} embeddings, but activations of {n_images} images")
    if columns.nnz and columns.data.min() < 0:
        raise ValueError("activations must be zero or positive")
    blocks = [
        _scores(unit, _scaled(csc_array(columns[:, first : first + LATENTS_AT_ONCE])))
        for first in range(0, n_latents, LATENTS_AT_ONCE)
    ]
    return np.concatenate([np.empty(0), *blocks])


def mean_similarity(embeddings: ArrayLike) -> float:
    """Mean cosine similarity of all pairs of rows `[n, d]`; NaN for fewer than two."""
    unit = _unit_rows(embeddings)
    n = len(unit)
    pairs = n * (n - 1)
    return float((np.square(unit.sum(0)).sum() - np.square(unit).sum()) / pairs) if pairs else float("nan")


def strongest_activations(sae: SAE, shard: FeatureShard) -> csr_array:
    """The activation of every latent at the strongest patch of each image of a shard `[n_images, n_latents]`."""
    n_images, n_latents = len(shard.images), sae.config.n_latents
    image_of_patch = np.repeat(np.arange(n_images), np.diff(shard.offsets))
    keys, values = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for first, tile in sae.encode_tiles(shard.features.to(sae.b_dec.device)):
        image_of_row = image_of_patch[first : first + len(tile)]
        starts = np.flatnonzero(np.diff(image_of_row, prepend=-1))
        strongest = np.maximum.reduceat(tile.float().cpu().numpy(), starts, axis=0)
        row, latent = strongest.nonzero()
        keys.append(image_of_row[starts][row] * n_latents + latent)
        values.append(strongest[row, latent])
    key, value = np.concatenate(keys), np.concatenate(values)
    order = np.argsort(key, kind="stable")
    # An image that lies in two tiles has two maxima per latent.
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    place = key[order][starts]
    maxima = np.maximum.reduceat(value[order], starts)
    return csr_array((maxima, (place // n_latents, place % n_latents)), shape=(n_images, n_latents))


def pool(features: NDArray[Any], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean over the patches of each image `[n_images, d]` of features `[n_patches, d]`; zero where it has none.

    `offsets` say where each image's patches start, and where the last one's end `[n_images + 1]`.
    """
    counts = np.diff(offsets)
    means = np.zeros((len(counts), features.shape[1]))
    present = counts > 0
    if present.any():
        sums = np.add.reduceat(features, offsets[:-1][present], axis=0, dtype=np.float64)
        means[present] = sums / counts[present, None]
    return means


def _scaled(activations: csc_array) -> csc_array:
    """Each column scaled to 0..1 by its smallest and largest value; a constant column is all zeros."""
    smallest, largest = (extreme(axis=0).toarray().ravel() for extreme in (activations.min, activations.max))
    span = np.where(largest > smallest, largest - smallest, np.inf).astype(np.float64)
    column = np.repeat(np.arange(len(span)), np.diff(activations.indptr))
    # Where some image is inactive the smallest value is zero, so what is not stored stays zero.
    scaled = (activations.data.astype(np.float64) - smallest[column]) / span[column]
    return csc_array((scaled, activations.indices, activations.indptr), shape=activations.shape)


def _scores(unit: NDArray[np.float64], activations: csc_array) -> NDArray[np.float64]:
    """The closed form for scaled activations `[n_images, n]`."""
    squares = activations.power(2)
    resultant = activations.T @ unit
    similarity = np.square(resultant).sum(1) - squares.T @ np.square(unit).sum(1)
    total = np.asarray(activations.sum(0))
    weight = np.square(total) - np.asarray(squares.sum(0))
    scored = weight > MIN_WEIGHT * np.square(total)
    return np.divide(similarity, weight, out=np.full(len(total), np.nan), where=scored).clip(-1, 1)


def _unit_rows(vectors: ArrayLike) -> NDArray[np.float64]:
    rows = np.asarray(vectors, dtype=np.float64)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
