"""Retrieval of images by texts and of texts by images, with duplicates as one group and ties by expectation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_traits.config.benchmark import Protocol
from sae_traits.errors import CollectionError
from sae_traits.evaluation.prompts import unit_length
from sae_traits.evaluation.ranking import TIE, rows_per_block

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Retrieved:
    """How well each query finds the rows of its group."""

    recall: dict[int, FloatArray]
    """R@k by k: the probability that one of the rows of the query's group is among the first k `[n_queries]`."""
    reciprocal_rank: FloatArray
    """Expected 1 / rank of the first of them, 0 beyond `depth` `[n_queries]`."""
    average_precision: FloatArray
    """AP at `depth`: the sum of precisions at relevant rows, divided by the smaller of `depth` and the number of
    relevant rows `[n_queries]`."""
    ndcg: FloatArray
    """nDCG at `depth`, divided by that of the ideal list of the same length `[n_queries]`."""


def retrieve(
    queries: NDArray[np.floating],
    gallery: NDArray[np.floating],
    query_groups: ArrayLike,
    gallery_groups: ArrayLike,
    *,
    ks: Sequence[int] = (1, 5, 10),
    depth: int = 50,
    protocol: Protocol = "corrected",
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
            it. In both AP counts a tie as one threshold and nDCG takes the mean over its orders, as scikit-learn does;
            the others are expected values over its orders (the released code leaves ties to the order of rows).

    Raises:
        CollectionError: a query has no row of its group in the gallery, or `published` lacks an own row for each.

    Source: BioCAP, retrieval_openclip.py (R@k); metrics.py of INQUIRE (Vendrow et al. 2024, supplement), which BioCAP
    uses, too.
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
    reciprocal, precision, ndcg = (np.empty(len(queries)) for _ in range(3))
    for row, scores in _cosines(queries, gallery):
        relevant = own == wanted[row]
        best = scores[relevant].max()
        before = int((scores > best + TIE).sum())
        tie = np.abs(scores - best) <= TIE
        n_tied, n_right = int(tie.sum()), int((tie & relevant).sum())
        for k, column in columns.items():
            column[row] = 1 - _chance_of_none(n_tied, n_right, k - before)
        reciprocal[row], precision[row], ndcg[row] = _score_ranked(scores, relevant, depth)
    return Retrieved(columns, reciprocal, precision, ndcg)


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


def _cosines(queries: NDArray[np.floating], gallery: NDArray[np.floating]) -> Iterator[tuple[int, FloatArray]]:
    """Yield the row of each query and its cosines `[n_gallery]`."""
    queries, gallery = (unit_length(np.asarray(vectors, dtype=np.float64)) for vectors in (queries, gallery))
    step = rows_per_block(len(gallery))
    for start in range(0, len(queries), step):
        yield from enumerate(queries[start : start + step] @ gallery.T, start)


def _score_ranked(scores: FloatArray, relevant: NDArray[np.bool_], k: int) -> tuple[float, float, float]:
    """Reciprocal rank, average precision and nDCG of the first k rows, where scores within TIE of the next one tie."""
    n_relevant = int(relevant.sum())
    if k < len(scores):
        head = scores >= np.partition(scores, len(scores) - k)[len(scores) - k] - TIE
        scores, relevant = scores[head], relevant[head]
    order = np.argsort(-scores, kind="stable")
    tie = np.concatenate([[0], np.cumsum(-np.diff(scores[order]) > TIE)])
    n_rows, n_right = np.bincount(tie), np.bincount(tie, weights=relevant[order]).astype(np.int64)  # [n_ties] each
    end = np.cumsum(n_rows)
    start = end - n_rows
    inside = np.clip(k - start, 0, n_rows)  # rows of each tie that are among the first k
    hits = n_right * inside / n_rows  # expected
    precisions = np.cumsum(hits) / np.minimum(end, k)
    discounts = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(min(k, end[-1])) + 2))])
    gained = discounts[np.minimum(end, k)[inside > 0]] - discounts[start[inside > 0]]
    gain = (n_right / n_rows)[inside > 0] @ gained
    ideal = (1 / np.log2(np.arange(min(k, n_relevant)) + 2)).sum()
    average_precision = float(hits @ precisions / min(n_relevant, k))
    first = (n_right > 0).argmax()
    reciprocal = _expected_reciprocal(int(n_rows[first]), int(n_right[first]), int(start[first]), k)
    return reciprocal, average_precision, float(gain / ideal)


def _expected_reciprocal(n_rows: int, n_right: int, before: int, k: int) -> float:
    """1 / rank of the first right row of a tie on average over its orders, 0 beyond k; so many rows are before it."""
    if not n_right or before >= k:
        return 0.0
    places = np.arange(min(n_rows - n_right + 1, k - before))
    none_before = np.cumprod(np.concatenate([[1.0], 1 - n_right / (n_rows - places[:-1])]))
    return float((none_before * n_right / (n_rows - places) / (before + places + 1)).sum())


def _chance_of_none(n_rows: int, n_right: int, n_drawn: int) -> float:
    """Probability that none of the right rows is among the first ones of a tie in random order."""
    n_drawn = min(max(n_drawn, 0), n_rows)
    if n_drawn > n_rows - n_right:
        return 0.0
    return float(np.prod(1 - n_right / (n_rows - np.arange(n_drawn))))
