"""Where the true class ranks among all classes by similarity, and whether better than chance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

TIE = 1e-6
"""Cosines that differ by less are equal: float32 embeddings are not more precise."""
_MAX_SCORES = 8_000_000


def rank_truth(
    images: NDArray[np.float32], classes: NDArray[np.float32], truth: NDArray[np.int64], draws: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Count the classes that are ranked before the true one, by cosine; classes that tie with it are shuffled.

    Args:
        images: of unit length `[n_images, embed_dim]`.
        classes: of unit length `[n_classes, embed_dim]`.
        truth: class of each image `[n_images]`.
        draws: uniform random numbers in [0, 1) that decide ties `[n_images]`.

    Returns:
        Ranks `[n_images]`, 0 for an image whose own class is the most similar one.
    """
    ranks = np.empty(len(images), dtype=np.int64)
    for chunk, scores in _scores(images, classes):
        before, tied = count_places(scores.T, scores[np.arange(len(scores)), truth[chunk]])
        ranks[chunk] = before + (draws[chunk] * tied).astype(np.int64)
    return ranks


def count_places(
    scores: NDArray[np.floating], of_truth: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count scores `[n_classes, n_images]` above that of the true class `[n_images]`, and those equal to it.

    Scores that differ by less than TIE are equal; the true class equals itself.
    """
    before = (scores > of_truth + TIE).sum(axis=0)
    return before, (scores >= of_truth - TIE).sum(axis=0) - before


def top_credit(before: NDArray[np.int64], tied: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Compute how probably the true class is among the first k when ties are broken at random `[n_images]`."""
    return np.clip((k - before) / tied, 0.0, 1.0)


def rows_per_block(n_columns: int) -> int:
    """Choose how many rows of scores to have in memory at a time."""
    return max(1, _MAX_SCORES // n_columns)


def chance_p_value(
    images: NDArray[np.float32],
    classes: NDArray[np.float32],
    truth: NDArray[np.int64],
    *,
    n_permutations: int = 1999,
    seed: int = 0,
) -> float:
    """Measure how many random assignments of the class texts to the classes are right at least as often (top-1).

    Permuting texts, and not images, is what a model without knowledge is like: its images may well form clusters by
    species, or all go to one class, but which text lies next to which cluster is an accident.

    Args:
        images, classes, truth: as in `rank_truth`; an image that ties counts in shares for every class in the tie.
        n_permutations: random assignments; the one at hand is counted too.

    Source: Ojala & Garriga 2010, permutation tests for studying classifier performance.
    """
    label, assigned, share = _first_places(images, classes, truth)
    observed = share[label == assigned].sum()
    generator = np.random.default_rng(seed)
    step = max(1, _MAX_SCORES // max(len(label), len(classes)))
    n_as_good = 1
    for start in range(0, n_permutations, step):
        identities = np.tile(np.arange(len(classes)), (min(step, n_permutations - start), 1))
        right = (generator.permuted(identities, axis=1)[:, label] == assigned) @ share
        n_as_good += int((right >= observed - 1e-9).sum())
    return n_as_good / (n_permutations + 1)


def _first_places(
    images: NDArray[np.float32], classes: NDArray[np.float32], truth: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """List true class, class in the first place and its share, per image and class that ties for the first place."""
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
    for chunk, scores in _scores(images, classes):
        first = scores >= scores.max(axis=1, keepdims=True) - TIE
        image, assigned = np.nonzero(first)
        parts.append((truth[chunk][image], assigned, 1 / first.sum(axis=1)[image]))
    label, assigned, share = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return label, assigned, share


def _scores(images: NDArray[np.float32], classes: NDArray[np.float32]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Compute the cosines `[n_chunk, n_classes]` of some images at a time, in bounded memory."""
    step = rows_per_block(len(classes))
    for start in range(0, len(images), step):
        chunk = slice(start, start + step)
        yield chunk, images[chunk] @ classes.T
