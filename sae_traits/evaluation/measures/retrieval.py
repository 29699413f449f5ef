"""Retrieval of images by texts and of texts by images, with duplicates as one group and ties by expectation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_traits.config.benchmark import Protocol
from sae_traits.errors import CollectionError
from sae_traits.evaluation.prompts import unit_length
from sae_traits.evaluation.ranking import TIE, rows_per_block

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class RankedScores:
    """How good one ranked list is."""

    precision: float
    """Share of relevant rows among the first k."""
    recall: float
    """Share of the relevant rows that is among the first k."""
    average_precision: float
    """AP@k: the sum of precisions at relevant rows, divided by the smaller of k and the number of relevant rows."""
    ndcg: float
    """nDCG@k, divided by that of the ideal list of the same length."""
    reciprocal_rank: float
    """1 / rank of the first relevant row; 0 where that is not among the first k."""


def ranked_scores(scores: ArrayLike, relevant: ArrayLike, k: int, *, protocol: Protocol = "corrected") -> RankedScores:
    """Score the ranked list of one query.

    Args:
        scores: of every row of the gallery, the larger the better `[n_gallery]`.
        relevant: which rows are right `[n_gallery]`.
        k: length of the list that counts.
        protocol: under ties AP counts a tie as one threshold and nDCG takes the mean over its orders, as scikit-learn
            does, and reciprocal rank, precision and recall are expected values over its orders; a tie across k counts
            in part. `published` depends on the order of rows: of a tie across k the first rows are taken, and the
            reciprocal rank has the last of equal rows come first.

    Raises:
        CollectionError: nothing is relevant.

    Source: metrics.py of INQUIRE (Vendrow et al. 2024, supplement), which BioCAP uses, too.
    """
    scores, relevant = np.asarray(scores, dtype=np.float64), np.asarray(relevant, dtype=bool)
    if not relevant.any():
        raise CollectionError("a query without a relevant row has no score; leave it out")
    n_relevant = int(relevant.sum())
    if protocol == "corrected":
        return _score_ties(_Ties.of(scores, relevant), n_relevant, k)
    first = np.argsort(-scores, kind="stable")[:k]
    scores, relevant = scores[first], relevant[first]
    backwards = relevant[np.argsort(scores, kind="stable")[::-1]]
    reciprocal_rank = 1 / (backwards.argmax() + 1) if backwards.any() else 0.0
    scored = _score_ties(_Ties.of(scores, relevant), n_relevant, k)
    return replace(scored, reciprocal_rank=float(reciprocal_rank))


@dataclass(frozen=True)
class Retrieved:
    """How well each query finds the rows of its group."""

    recall: dict[int, FloatArray]
    """R@k by k: the probability that one of the rows of the query's group is among the first k `[n_queries]`."""
    rank: FloatArray
    """Expected rank of the first of them, 1 is the best `[n_queries]`."""
    reciprocal_rank: FloatArray
    """Expected 1 / rank, 0 beyond `depth` `[n_queries]`."""
    average_precision: FloatArray
    """AP at `depth` `[n_queries]`."""
    ndcg: FloatArray
    """nDCG at `depth` `[n_queries]`."""


def retrieve(
    queries: NDArray[np.floating],
    gallery: NDArray[np.floating],
    query_groups: ArrayLike,
    gallery_groups: ArrayLike,
    *,
    ks: Sequence[int] = (1, 5, 10),
    depth: int = 50,
    protocol: Protocol = "corrected",
    block: int | None = None,
) -> Retrieved:
    """Rank the gallery for every query by cosine; scores exist for one block of queries at a time.

    Args:
        queries: of any length but zero `[n_queries, d]`.
        gallery: the same `[n_gallery, d]`.
        query_groups: which rows of the gallery are right: those of the same group, a number or a text `[n_queries]`.
        gallery_groups: group of each row of the gallery `[n_gallery]`; images with equal captions are one group.
        ks: of R@k.
        depth: k of the other measures.
        protocol: `published` counts a query's own row of the gallery only, so that rows which say the same compete with
            it. Ties are expected values in both (the released code leaves them to the order of rows).
        block: queries at a time; None bounds the memory.

    Raises:
        CollectionError: a query has no row of its group in the gallery, or `published` lacks an own row for each.

    Source: BioCAP, retrieval_openclip.py (R@k).
    """
    if protocol == "published":
        if len(queries) != len(gallery):
            raise CollectionError(
                f"retrieval as published has one text per image, not {len(queries)} and {len(gallery)}"
            )
        wanted = own = np.arange(len(gallery))
    else:
        wanted, own = _numbered(query_groups, gallery_groups)
    columns: dict[int, FloatArray] = {k: np.empty(len(queries)) for k in ks}
    rank, reciprocal, precision, ndcg = (np.empty(len(queries)) for _ in range(4))
    for row, scores in _cosines(queries, gallery, block):
        relevant = own == wanted[row]
        n_relevant = int(relevant.sum())
        best = scores[relevant].max()
        before = int((scores > best + TIE).sum())
        tie = np.abs(scores - best) <= TIE
        n_tied, n_right = int(tie.sum()), int((tie & relevant).sum())
        for k, column in columns.items():
            column[row] = 1 - _chance_of_none(n_tied, n_right, k - before)
        rank[row] = before + (n_tied + 1) / (n_right + 1)
        scored = _score_ties(_head(scores, relevant, depth), n_relevant, depth)
        reciprocal[row], precision[row], ndcg[row] = scored.reciprocal_rank, scored.average_precision, scored.ndcg
    return Retrieved(columns, rank, reciprocal, precision, ndcg)


def _numbered(query_groups: ArrayLike, gallery_groups: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the groups of queries and of the gallery."""
    names, own = np.unique(np.asarray(gallery_groups), return_inverse=True)
    groups: NDArray[Any] = np.asarray(query_groups)
    wanted = np.minimum(np.searchsorted(names, groups), len(names) - 1)
    missing = np.flatnonzero(names[wanted] != groups)
    if len(missing):
        raise CollectionError(
            f"query {missing[0]}, of group {groups[missing[0]].item()!r}, has no row of its group in the gallery"
        )
    return wanted, own


def _cosines(
    queries: NDArray[np.floating], gallery: NDArray[np.floating], block: int | None
) -> Iterator[tuple[int, FloatArray]]:
    """Yield the row of each query and its cosines `[n_gallery]`."""
    queries, gallery = (unit_length(np.asarray(vectors, dtype=np.float64)) for vectors in (queries, gallery))
    step = block or rows_per_block(len(gallery))
    for start in range(0, len(queries), step):
        yield from enumerate(queries[start : start + step] @ gallery.T, start)


@dataclass(frozen=True)
class _Ties:
    """A ranked list as its ties, the best first."""

    n_rows: NDArray[np.int64]
    n_relevant: NDArray[np.int64]
    """Of each tie `[n_ties]`."""

    @classmethod
    def of(cls, scores: FloatArray, relevant: NDArray[np.bool_], tolerance: float = 0.0) -> _Ties:
        """Scores that follow one another within the tolerance tie."""
        order = np.argsort(-scores, kind="stable")
        tie = np.concatenate([[0], np.cumsum(-np.diff(scores[order]) > tolerance)])
        return cls(np.bincount(tie), np.bincount(tie, weights=relevant[order]).astype(np.int64))


def _head(scores: FloatArray, relevant: NDArray[np.bool_], depth: int) -> _Ties:
    """The first ties of a list, at least `depth` rows of it."""
    if depth < len(scores):
        head = scores >= np.partition(scores, len(scores) - depth)[len(scores) - depth] - TIE
        scores, relevant = scores[head], relevant[head]
    return _Ties.of(scores, relevant, TIE)


def _score_ties(ties: _Ties, n_relevant: int, k: int) -> RankedScores:
    """Score the first k rows of a ranked list with so many relevant rows in all."""
    end = np.cumsum(ties.n_rows)
    start = end - ties.n_rows
    inside = np.clip(k - start, 0, ties.n_rows)  # rows of each tie that are among the first k
    hits = ties.n_relevant * inside / ties.n_rows  # expected
    cumulated = np.cumsum(hits)
    precisions = cumulated / np.minimum(end, k)
    discounts = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(min(k, end[-1])) + 2))])
    gained = discounts[np.minimum(end, k)[inside > 0]] - discounts[start[inside > 0]]
    gain = (ties.n_relevant / ties.n_rows)[inside > 0] @ gained
    ideal = (1 / np.log2(np.arange(min(k, n_relevant)) + 2)).sum()
    return RankedScores(
        precision=float(cumulated[-1] / k),
        recall=float(cumulated[-1] / n_relevant),
        average_precision=float(hits @ precisions / min(n_relevant, k)),
        ndcg=float(gain / ideal),
        reciprocal_rank=_expected_reciprocal(ties, start, k),
    )


def _expected_reciprocal(ties: _Ties, start: NDArray[np.int64], k: int) -> float:
    """1 / rank of the first relevant row on average over the orders of its tie, 0 beyond k."""
    holding = np.flatnonzero(ties.n_relevant)
    if not len(holding) or start[holding[0]] >= k:
        return 0.0
    n_rows, n_right, before = (int(of[holding[0]]) for of in (ties.n_rows, ties.n_relevant, start))
    places = np.arange(min(n_rows - n_right + 1, k - before))
    none_before = np.cumprod(np.concatenate([[1.0], 1 - n_right / (n_rows - places[:-1])]))
    return float((none_before * n_right / (n_rows - places) / (before + places + 1)).sum())


def _chance_of_none(n_rows: int, n_right: int, n_drawn: int) -> float:
    """Probability that none of the right rows is among the first ones of a tie in random order."""
    n_drawn = min(max(n_drawn, 0), n_rows)
    if n_drawn > n_rows - n_right:
        return 0.0
    return float(np.prod(1 - n_right / (n_rows - np.arange(n_drawn))))
