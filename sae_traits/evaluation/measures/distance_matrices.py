"""Association of distance matrices, with permutation tests: of species by embeddings, by traits, by taxonomy."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_traits.errors import CollectionError
from sae_traits.evaluation.statistics import LEVEL, Interval

FloatArray = NDArray[np.float64]
Method = Literal["pearson", "spearman"]


def mantel(
    first: FloatArray,
    second: FloatArray,
    *,
    method: Method = "pearson",
    groups: ArrayLike | None = None,
    n_permutations: int = 999,
    seed: int = 0,
) -> tuple[float, FloatArray]:
    """Do the Mantel test of two distance matrices.

    Species are not independent: traits that evolved on one tree are associated in nine of ten such tests, and in one of
    three where the distance by ranks is given. Permuting species within their genera holds the level nearly.

    Args:
        first, second: symmetric `[n, n]`.
        method: correlation of the distances, or of their ranks.
        groups: rows of the first matrix are permuted within these only `[n]`; None permutes all.
        n_permutations: of the first matrix.

    Returns:
        The correlation of the distances, and those of the permutations `[n_permutations]`.

    Raises:
        CollectionError: there are fewer than three objects, or all distances of a matrix are equal.

    Source: Mantel 1967.
    """
    first, second = _ranked(first, method), _ranked(second, method)
    n = len(first)
    upper = np.triu_indices(n, 1)
    generator = np.random.default_rng(seed)
    member = np.zeros(n, dtype=np.int64) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    r = _correlation(first, np.arange(n), second, upper)
    permuted = [_correlation(first, permute_within(member, generator), second, upper) for _ in range(n_permutations)]
    return r, np.array(permuted)


def jackknife_correlation(first: FloatArray, second: FloatArray) -> Interval:
    """Correlate the ranks of two distance matrices `[n, n]`, with an interval from leaving out one object at a time.

    Resampling objects would put pairs of the same object, at distance zero, into the matrices.

    Source: Efron & Stein 1981; for statistics of pairs Arvesen 1969.
    """
    from scipy.stats import t

    n = len(first)
    first, second = _ranked(first, "spearman"), _ranked(second, "spearman")

    def correlation(kept: NDArray[np.intp]) -> float:
        left = np.ix_(kept, kept)
        return _correlation(first[left], np.arange(len(kept)), second[left], np.triu_indices(len(kept), 1))

    r = correlation(np.arange(n))
    without = np.array([correlation(np.delete(np.arange(n), left_out)) for left_out in range(n)])
    error = np.sqrt((n - 1) * without.var())
    half = float(t.ppf((1 + LEVEL) / 2, n - 1)) * float(error)
    return Interval(r, max(-1.0, r - half), min(1.0, r + half), n)


def permute_within(member: NDArray[np.integer], generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw a permutation `[n]` that keeps every row within its group `[n]`."""
    permutation = np.empty(len(member), dtype=np.int64)
    permutation[np.argsort(member, kind="stable")] = np.lexsort((generator.random(len(member)), member))
    return permutation


def _ranked(matrix: FloatArray, method: Method) -> FloatArray:
    """The matrix, or the ranks of its distances `[n, n]`."""
    matrix = np.asarray(matrix, dtype=np.float64)
    upper = np.triu_indices(len(matrix), 1)
    if len(matrix) < 3 or np.ptp(matrix[upper]) == 0:
        raise CollectionError(f"distances of {len(matrix)} objects are too few, or all equal: nothing to associate")
    if method == "pearson":
        return matrix
    from scipy.stats import rankdata

    ranks = np.zeros_like(matrix)
    ranks[upper] = rankdata(matrix[upper])
    return ranks + ranks.T


def _correlation(
    first: FloatArray,
    order: NDArray[np.integer],
    second: FloatArray,
    upper: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> float:
    """Correlate distances, the first matrix in another order."""
    return float(np.corrcoef(first[order[upper[0]], order[upper[1]]], second[upper])[0, 1])
