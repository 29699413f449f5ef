"""Discovery of classes: clustering when some classes are labelled, and its accuracy under the best matching."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_traits.config.benchmark import Protocol
from sae_traits.evaluation.ranking import rows_per_block
from sae_traits.evaluation.statistics import group_means

FloatArray = NDArray[np.float32]
MAX_ITERATIONS = 10
TOLERANCE = 1e-4
"""Clustering stops when the square of the summed shifts of centres is smaller."""


def clustering_right(
    labels: ArrayLike, clusters: ArrayLike, *, old: NDArray[np.bool_] | None = None, protocol: Protocol = "corrected"
) -> NDArray[np.bool_]:
    """Tell which images lie in the cluster that is matched to their class `[n]`; the accuracy is their share.

    Args:
        labels: classes, numbers or names `[n]`.
        clusters: numbers or names of any kind `[n]`.
        old: which images are of classes with labelled images `[n]`; `published` needs it.
        protocol: `corrected` is one matching of clusters and classes, each with one at most. `published` matches
            separately for old and for new classes, so that a cluster may count for two.

    Source: Kuhn 1955; herbarium19.py of BioCLIP 2, after Vaze et al. 2022.
    """
    labels, clusters = np.asarray(labels), np.asarray(clusters)
    if protocol == "corrected":
        return _matched(labels, clusters)
    assert old is not None, "the published accuracy is taken of old and new classes separately"
    right = np.zeros(len(labels), dtype=bool)
    for part in (old, ~old):
        right[part] = _matched(labels[part], clusters[part])
    return right


def semi_supervised_k_means(
    unlabelled: NDArray[np.floating],
    labelled: NDArray[np.floating],
    labels: ArrayLike,
    n_clusters: int,
    *,
    seed: int,
) -> NDArray[np.int64]:
    """Cluster images of which some are labelled: these stay in the cluster of their class.

    The first centres are the means of the labelled classes; the others are drawn by k-means++ from the unlabelled
    images. Of all iterations, the clusters with the smallest sum of squared distances are returned. A cluster that
    loses all its images keeps its centre (in the released code it becomes NaN and takes all images).

    Args:
        unlabelled: features `[n_unlabelled, d]`.
        labelled: features `[n_labelled, d]`.
        labels: class of each, numbers or names `[n_labelled]`.
        n_clusters: as many as there are classes, old and new.

    Returns:
        Clusters of the labelled images, then of the unlabelled ones `[n_labelled + n_unlabelled]`; classes come first,
        in the order of their labels.

    Source: Vaze et al. 2022, section 3.2; Arthur & Vassilvitskii 2007.
    """
    unlabelled, labelled = (np.asarray(features, dtype=np.float32) for features in (unlabelled, labelled))
    _, own = np.unique(np.asarray(labels), return_inverse=True)
    features = np.concatenate([labelled, unlabelled])
    of_classes = group_means(labelled, own).astype(np.float32)
    centres = _first_centres(unlabelled, of_classes, n_clusters, seed)
    best, best_inertia = np.empty(0, dtype=np.int64), np.inf
    for _ in range(MAX_ITERATIONS):
        distances, nearest = _nearest(unlabelled, centres)
        inertia = distances.sum() + ((labelled - centres[own]) ** 2).sum()
        clusters = np.concatenate([own, nearest])
        if inertia < best_inertia:
            best, best_inertia = clusters, inertia
        moved = group_means(features, clusters, len(centres)).astype(np.float32)
        is_empty = np.bincount(clusters, minlength=len(centres)) == 0
        moved[is_empty] = centres[is_empty]
        shift = np.sqrt(((moved - centres) ** 2).sum(axis=1)).sum()
        centres = moved
        if shift**2 < TOLERANCE:
            break
    return best


def _matched(labels: NDArray[Any], clusters: NDArray[Any]) -> NDArray[np.bool_]:
    from scipy.optimize import linear_sum_assignment

    _, label = np.unique(labels, return_inverse=True)
    _, cluster = np.unique(clusters, return_inverse=True)
    if not len(label):
        return np.zeros(0, dtype=bool)
    together = np.zeros((cluster.max() + 1, label.max() + 1), dtype=np.int64)
    np.add.at(together, (cluster, label), 1)
    rows, columns = linear_sum_assignment(together, maximize=True)
    class_of = np.full(len(together), -1)
    class_of[rows] = columns
    return class_of[cluster] == label


def _first_centres(unlabelled: FloatArray, of_classes: FloatArray, n_clusters: int, seed: int) -> FloatArray:
    """Means of the classes, then images drawn with a probability that grows with the squared distance `[k, d]`."""
    generator = np.random.RandomState(seed)
    centres = of_classes
    distances, _ = _nearest(unlabelled, centres)
    while len(centres) < n_clusters:
        cumulated = np.cumsum(distances / distances.sum()) if distances.any() else np.linspace(0, 1, len(distances))
        drawn = min(int(np.searchsorted(cumulated, generator.rand())), len(unlabelled) - 1)
        centres = np.concatenate([centres, unlabelled[drawn][None]])
        distances = np.minimum(distances, _nearest(unlabelled, centres[-1:])[0])
    return centres


def _nearest(features: FloatArray, centres: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
    """Squared distance to the nearest centre, and which it is `[n]`."""
    distance, nearest = np.empty(len(features), dtype=np.float32), np.empty(len(features), dtype=np.int64)
    squares = (centres**2).sum(axis=1)
    step = rows_per_block(len(centres))
    for start in range(0, len(features), step):
        rows = slice(start, start + step)
        chunk = features[rows]
        nearest[rows] = (squares - 2 * chunk @ centres.T).argmin(axis=1)
        distance[rows] = ((chunk - centres[nearest[rows]]) ** 2).sum(axis=1)
    return distance, nearest
