"""SimpleShot: classification by the nearest mean of a few labelled images."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_traits.config.benchmark import Protocol
from sae_traits.errors import CollectionError
from sae_traits.evaluation.prompts import unit_length
from sae_traits.evaluation.ranking import count_places, rows_per_block, top_credit

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """Rows that are learnt from, k per class, and all others."""

    support: IntArray
    """`[n_classes * k]`, class by class."""
    queries: IntArray
    """`[n - n_classes * k]`"""


def independent_folds(labels: ArrayLike, k: int, *, n_folds: int = 5, seed: int = 0) -> tuple[Fold, ...]:
    """Draw k images per class for every fold; fold f depends on nothing but seed + f.

    Args:
        labels: class of each image, numbers or names `[n]`.
        k: images per class.
        seed: of the first fold; 0 gives the published folds.

    Raises:
        CollectionError: a class has fewer than k images, or no image is left to classify.

    Source: classification.py of BioCLIP 2: `random.seed(fold)`, then the rows of every class, in the order in which
    classes first appear, are shuffled; the first k are support.
    """
    rows = _rows_by_class(labels, k)
    return tuple(_shuffled_fold([list(of_class) for of_class in rows], k, seed + fold) for fold in range(n_folds))


def draw_support(labels: ArrayLike, k: int, seed: int) -> IntArray:
    """Draw up to k images per class, in no order, as the PlantDoc task of BioCLIP 2 does `[up to n_classes * k]`."""
    labels = np.asarray(labels)
    generator = np.random.RandomState(seed)
    drawn = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        generator.shuffle(rows)
        drawn.append(rows[:k])
    support = np.concatenate(drawn)
    generator.shuffle(support)
    return support


def simple_shot(
    support: NDArray[np.floating],
    support_labels: ArrayLike,
    queries: NDArray[np.floating],
    query_labels: ArrayLike,
    *,
    protocol: Protocol = "corrected",
    block: int | None = None,
) -> NDArray[np.float64]:
    """Classify queries by the nearest class mean: centred on the support, unit length, Euclidean distance.

    Class means are not scaled to unit length again. Distances exist for one block of queries at a time.

    Args:
        support: features `[n_support, d]`.
        support_labels: class of each, numbers or names `[n_support]`.
        queries: features `[n_queries, d]`.
        query_labels: class of each `[n_queries]`; one that the support does not have is never right.
        protocol: `published` is simpleshot.py of biobench, which compares the *position* of the nearest class among the
            sorted labels with the label itself, and so is right only where labels are 0, 1, 2 …
        block: queries at a time; None bounds the memory.

    Returns:
        Credit of each query, 1 where it is right, a share where class means tie `[n_queries]`.

    Source: Wang et al. 2019 (SimpleShot), transformation CL2N.
    """
    support, queries = (np.asarray(features, dtype=np.float32) for features in (support, queries))
    classes, member = np.unique(np.asarray(support_labels), return_inverse=True)
    mean = support.mean(axis=0)
    means = np.zeros((len(classes), support.shape[1]), dtype=np.float32)
    np.add.at(means, member, unit_length(support - mean))
    means /= np.bincount(member)[:, None].astype(np.float32)
    truth = _positions(classes, np.asarray(query_labels), protocol)
    # |q - m|^2 = |q|^2 - 2 (q.m - |m|^2 / 2): the class with the largest bracket is the nearest.
    half_square = (means**2).sum(axis=1, keepdims=True) / 2
    credit = np.empty(len(queries))
    step = block or rows_per_block(len(classes))
    for start in range(0, len(queries), step):
        rows = slice(start, start + step)
        nearness = means @ unit_length(queries[rows] - mean).T - half_square
        own = nearness[truth[rows], np.arange(len(truth[rows]))]
        credit[rows] = top_credit(*count_places(nearness, own), 1)
    return np.where(truth >= 0, credit, 0.0)


def few_shot(
    features: NDArray[np.floating], labels: ArrayLike, folds: Sequence[Fold], *, block: int | None = None
) -> tuple[tuple[float, ...], NDArray[np.float64]]:
    """Score SimpleShot on every fold; arguments as in `simple_shot`, with all images in one array `[n, d]`.

    Returns:
        The accuracy of each fold over all its queries, and the mean credit of each image over the folds in which it was
        a query `[n]`; NaN where it never was.
    """
    labels = np.asarray(labels)
    total, times = np.zeros(len(labels)), np.zeros(len(labels))
    accuracy = []
    for fold in folds:
        right = simple_shot(
            features[fold.support], labels[fold.support], features[fold.queries], labels[fold.queries], block=block
        )
        accuracy.append(float(right.mean()))
        total[fold.queries] += right
        times[fold.queries] += 1
    credit = np.divide(total, times, out=np.full(len(labels), np.nan), where=times > 0)
    return tuple(accuracy), credit


def _positions(classes: NDArray[Any], labels: NDArray[Any], protocol: Protocol) -> IntArray:
    """Position of each label among the sorted classes; -1 where it has none `[n_queries]`."""
    if protocol == "published":
        if not np.issubdtype(labels.dtype, np.integer):
            raise CollectionError("simpleshot.py as published compares positions with labels, which must be numbers")
        return np.where((labels >= 0) & (labels < len(classes)), labels, -1)
    position = np.minimum(np.searchsorted(classes, labels), len(classes) - 1)
    return np.where(classes[position] == labels, position, -1)


def _rows_by_class(labels: ArrayLike, k: int) -> list[list[int]]:
    """Rows of every class, in the order in which classes first appear."""
    rows: dict[Any, list[int]] = {}
    for row, label in enumerate(np.asarray(labels).tolist()):
        rows.setdefault(label, []).append(row)
    smallest = min(rows, key=lambda label: len(rows[label]))
    if len(rows[smallest]) < k:
        raise CollectionError(f"{smallest!r} has {len(rows[smallest])} images, fewer than the {k} to learn from")
    if all(len(of_class) == k for of_class in rows.values()):
        raise CollectionError(f"no class has more than the {k} images to learn from, so none is left to classify")
    return list(rows.values())


def _shuffled_fold(rows: Sequence[list[int]], k: int, seed: int) -> Fold:
    """Shuffle the rows of every class in place, and take the first k of each."""
    generator = random.Random(seed)
    for of_class in rows:
        generator.shuffle(of_class)
    support = [row for of_class in rows for row in of_class[:k]]
    queries = [row for of_class in rows for row in of_class[k:]]
    return Fold(np.array(support, dtype=np.int64), np.array(queries, dtype=np.int64))
