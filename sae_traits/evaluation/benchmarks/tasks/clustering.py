"""Discovery of classes: some classes are labelled, and the images of all are clustered (as Herbarium19 is scored)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sae_traits.errors import CollectionError
from sae_traits.evaluation.benchmarks.inputs import (
    EmbeddedImages,
    Figures,
    Inputs,
    Outcome,
    Score,
    percent,
    percent_interval,
    score_of,
)
from sae_traits.evaluation.measures.clustering import clustering_right, semi_supervised_k_means
from sae_traits.evaluation.statistics import Number

N_DRAWS = 3
_MIN_CLASSES = 4


@dataclass(frozen=True, kw_only=True)
class ClusteringScores:
    """How well clusters are classes, the number of which is known."""

    task: Literal["clustering"] = "clustering"
    n_images: int
    n_classes: int
    n_old: int
    """Classes with labelled images."""
    labelled: Literal["half of half the classes", "train"]
    """Which images are labelled."""
    n_draws: int
    chance: float
    """All images in the largest class."""
    every: Score
    """Share of the unlabelled images that lie in the cluster matched to their class; one matching for all, unless asked
    for as published."""
    old: Number
    """The same of old classes."""
    new: Number
    """And of new ones; NaN without any."""
    published: float
    """With old and new classes matched separately, as the released code does, so that a cluster may count for two."""


class ClusteringTask:
    """Clusters images of known and unknown classes by semi-supervised k-means."""

    name, title, result = "clustering", "Discovery of classes", ClusteringScores
    needs_clip, needs_models, head = False, True, "taxonomy"

    def check(self, inputs: Inputs) -> None:
        """Refuse fewer than four classes, and splits of which one is empty."""
        if len(inputs.names) < _MIN_CLASSES:
            raise CollectionError(f"clustering needs at least {_MIN_CLASSES} classes, there are {len(inputs.names)}")
        if len(inputs.rows) < 2 * len(inputs.names):
            raise CollectionError("clustering needs two images per class at least, on average")

    def run(self, inputs: Inputs, model: EmbeddedImages) -> Outcome:
        """Cluster once per draw, with as many clusters as there are classes."""
        truth = inputs.truth
        credits = np.full((N_DRAWS, len(truth)), np.nan)
        published = np.full((N_DRAWS, len(truth)), np.nan)
        is_old = np.zeros((N_DRAWS, len(truth)), dtype=bool)
        n_old = n_classes = 0
        for draw in range(N_DRAWS):
            seed = inputs.config.seed + draw
            if inputs.is_split:
                known, rest = inputs.places("train"), inputs.places("test")
            else:
                labelled = _half_of_half(truth, len(inputs.names), seed)
                known, rest = np.flatnonzero(labelled), np.flatnonzero(~labelled)
            n_classes = len(np.unique(truth[np.concatenate([known, rest])]))  # a class may be of validation alone
            clusters = semi_supervised_k_means(
                model.images[rest], model.images[known], truth[known], n_classes, seed=seed
            )[len(known) :]
            old = np.isin(truth, truth[known])
            n_old = len(set(truth[known].tolist()))
            is_old[draw] = old
            credits[draw, rest] = clustering_right(truth[rest], clusters)
            published[draw, rest] = clustering_right(truth[rest], clusters, old=old[rest], protocol="published")
        if inputs.config.protocol == "published":
            credits = published
        scored = np.isfinite(credits)
        rows = np.flatnonzero(scored.any(axis=0))
        every = inputs.spread(np.nanmean(credits[:, rows], axis=0), rows)
        counts = np.bincount(truth[rows])
        result = ClusteringScores(
            n_images=len(rows),
            n_classes=n_classes,
            n_old=n_old,
            labelled="train" if inputs.is_split else "half of half the classes",
            n_draws=N_DRAWS,
            chance=float(counts.max() / counts.sum()),
            every=score_of(every, inputs),
            old=_mean(credits[scored & is_old]),
            new=_mean(credits[scored & ~is_old]),
            published=_mean(published[scored]),
        )
        return Outcome(result, every)

    def figures(self, result: ClusteringScores) -> Figures:
        return result.every.figures("all") | {
            "old classes": result.old,
            "new classes": result.new,
            "as published": result.published,
        }

    def sentence(self, name: str, result: ClusteringScores) -> str:
        of_both = ((result.old, "old classes"), (result.new, "new ones"))
        said = ", ".join(f"{percent(value)} of {which}" for value, which in of_both if not math.isnan(value))
        return (
            f"With {name} {percent_interval(result.every.individuals)} of {result.n_images:,} unlabelled images lie in "
            f"the cluster of their class ({said}), where one cluster for all gives {percent(result.chance)}."
        )

    def notes(self, result: ClusteringScores) -> list[str]:
        return []


def _half_of_half(truth: NDArray[np.int64], n_classes: int, seed: int) -> NDArray[np.bool_]:
    """Draw half of the classes, and label half of the images of each `[n]`."""
    generator = np.random.default_rng(seed)
    labelled = np.zeros(len(truth), dtype=bool)
    for label in generator.permutation(n_classes)[: max(1, n_classes // 2)]:
        rows = generator.permutation(np.flatnonzero(truth == label))
        labelled[rows[: max(1, len(rows) // 2)]] = True
    return labelled


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")
