"""Classification by the nearest class text: of classes, of taxa at every rank, and how far mistakes go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_traits.evaluation.prompts import unit_length
from sae_traits.evaluation.ranking import TIE, count_places, rows_per_block, top_credit

if TYPE_CHECKING:
    from scipy.sparse import csr_array

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def rank_codes(lineages: Sequence[Sequence[str | None]]) -> IntArray:
    """Number the taxa of classes at every rank.

    Args:
        lineages: names of each class from the finest rank to the coarsest; None or "" where one is not known.

    Returns:
        Numbers `[n_ranks, n_classes]`, equal for equal names of a rank; -1 where the name is not known.
    """
    codes = np.full((len(lineages[0]), len(lineages)), -1, dtype=np.int64)
    for rank, names in enumerate(zip(*lineages, strict=True)):
        place: dict[str, int] = {}
        codes[rank] = [place.setdefault(name, len(place)) if name else -1 for name in names]
    return codes


@dataclass(frozen=True)
class ClassScores:
    """What a classifier says of every image; a credit is 1 where it is right, 0 where wrong, a share under ties."""

    before: IntArray
    """Classes that are more similar than the true one `[n_images]`."""
    tied: IntArray
    """Classes as similar as the true one, itself included `[n_images]`."""
    confidence: FloatArray
    """Softmax probability of the first class `[n_images]`."""
    distance: FloatArray
    """Steps from the first class up to the first rank that it shares with the true one `[n_images]`.

    0 where the class is right, the number of ranks where none is shared, NaN without ranks."""
    rank_right: FloatArray
    """Credit of the first class's taxon at each rank `[n_ranks, n_images]`; NaN where the true one is not known."""
    rank_right_summed: FloatArray
    """Credit of the taxon with the largest sum of class probabilities `[n_ranks, n_images]`; NaN as above."""

    def top(self, k: int) -> FloatArray:
        """Credit of having the true class among the first k `[n_images]`."""
        return top_credit(self.before, self.tied, k)


def score_classes(
    images: NDArray[np.floating],
    classes: NDArray[np.floating],
    truth: IntArray,
    *,
    ranks: IntArray | None = None,
    logit_scale: float = 100.0,
    block: int | None = None,
) -> ClassScores:
    """Classify images by cosine with the class texts; scores exist for one block of images at a time.

    Args:
        images: of any length but zero `[n_images, embed_dim]`.
        classes: the same for the texts of classes `[n_classes, embed_dim]`.
        truth: class of each image `[n_images]`.
        ranks: taxon of each class per rank, the finest first, -1 where it is not known `[n_ranks, n_classes]`. Where
            probabilities are summed, a class without a taxon stands for itself.
        logit_scale: factor of the cosine in the softmax.
        block: images at a time; None bounds the memory, whatever the number of classes.
    """
    images, classes = (unit_length(vectors.astype(np.float32)) for vectors in (images, classes))
    if ranks is None:
        ranks = np.empty((0, len(classes)), dtype=np.int64)
    sums = [_sum_over_taxa(codes) for codes in ranks]
    n, n_ranks = len(images), len(ranks)
    scores = ClassScores(
        before=np.empty(n, dtype=np.int64),
        tied=np.empty(n, dtype=np.int64),
        confidence=np.empty(n),
        distance=np.full(n, np.nan),
        rank_right=np.empty((n_ranks, n)),
        rank_right_summed=np.empty((n_ranks, n)),
    )
    step = block or rows_per_block(len(classes))
    for start in range(0, n, step):
        rows = slice(start, start + step)
        of_truth = truth[rows]
        cosines = classes @ images[rows].T
        scores.before[rows], scores.tied[rows] = count_places(cosines, cosines[of_truth, np.arange(len(of_truth))])
        best = cosines.max(axis=0)
        if n_ranks:
            first = _places(cosines >= best - TIE)
            scores.rank_right[:, rows] = _taxon_credit(first, ranks, of_truth)
            scores.distance[rows] = _mean_distance(first, ranks, of_truth)
        cosines -= best
        cosines *= np.float32(logit_scale)
        probabilities = np.exp(cosines, out=cosines)  # times a constant of the image: the first class has 1
        scores.confidence[rows] = 1 / probabilities.sum(axis=0, dtype=np.float64)
        for rank, (taxon, summing) in enumerate(sums):
            known = ranks[rank, of_truth] >= 0
            summed = summing @ probabilities
            largest = summed >= summed.max(axis=0) * (1 - TIE * logit_scale)
            share = largest[taxon[of_truth], np.arange(len(of_truth))] / largest.sum(axis=0)
            scores.rank_right_summed[rank, rows] = np.where(known, share, np.nan)
    return scores


def per_class(credit: ArrayLike, truth: ArrayLike) -> tuple[IntArray, FloatArray]:
    """Take the mean credit of the images of each class that has any: classes `[m]`, means `[m]`; NaN is left out."""
    credit, truth = np.asarray(credit, dtype=np.float64), np.asarray(truth)
    valued = ~np.isnan(credit)
    classes, member = np.unique(truth[valued], return_inverse=True)
    return classes, np.bincount(member, weights=credit[valued]) / np.bincount(member)


def macro(credit: ArrayLike, truth: ArrayLike) -> float:
    """Take the mean over classes of their mean credit; classes without images do not count."""
    return float(per_class(credit, truth)[1].mean())


def _sum_over_taxa(codes: IntArray) -> tuple[IntArray, csr_array]:
    """Taxon of each class `[n_classes]`, and the matrix that sums over its classes `[n_taxa, n_classes]`."""
    from scipy.sparse import csr_array

    own = np.where(codes >= 0, codes, codes.max(initial=-1) + 1 + np.arange(len(codes)))
    _, taxon = np.unique(own, return_inverse=True)
    ones = np.ones(len(codes), dtype=np.float32)
    return taxon, csr_array((ones, (taxon, np.arange(len(codes)))), shape=(taxon.max() + 1, len(codes)))


@dataclass(frozen=True)
class _Places:
    """Pairs of a class and an image in whose first place it is, alone or in a tie."""

    classes: IntArray
    images: IntArray
    """`[n_pairs]` each"""
    share: FloatArray
    """Of the image's first place `[n_pairs]`."""
    n_images: int

    def total(self, values: ArrayLike) -> FloatArray:
        """Sum of values `[n_pairs]` by their shares `[n_images]`."""
        weights = self.share * np.asarray(values, dtype=np.float64)
        return np.bincount(self.images, weights=weights, minlength=self.n_images).astype(np.float64)


def _places(first: NDArray[np.bool_]) -> _Places:
    classes, images = np.nonzero(first)
    return _Places(classes, images, 1 / first.sum(axis=0)[images], first.shape[1])


def _taxon_credit(first: _Places, ranks: IntArray, truth: IntArray) -> FloatArray:
    """Credit of the first classes' taxa `[n_ranks, n_images]`."""
    wanted = ranks[:, truth]
    credit = [first.total(codes[first.classes] == own[first.images]) for codes, own in zip(ranks, wanted, strict=True)]
    return np.where(wanted >= 0, credit, np.nan)


def _mean_distance(first: _Places, ranks: IntArray, truth: IntArray) -> FloatArray:
    """Index of the first rank that the first classes share with the true one, on average `[n_images]`."""
    true_class = truth[first.images]
    shared = (ranks[:, first.classes] == ranks[:, true_class]) & (ranks[:, true_class] >= 0)
    distance = np.where(shared.any(axis=0), shared.argmax(axis=0), len(ranks))
    return first.total(np.where(first.classes == true_class, 0, distance))
