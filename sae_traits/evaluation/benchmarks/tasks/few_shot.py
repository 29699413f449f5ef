"""Few-shot classification with the nearest class mean (SimpleShot): how far do a few labelled images carry?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    count,
    percent,
    percent_interval,
    score_of,
)
from sae_traits.evaluation.measures.few_shot import draw_support, few_shot, independent_folds, simple_shot
from sae_traits.evaluation.text import some


@dataclass(frozen=True, kw_only=True)
class Shots:
    """The accuracy with so many labelled images per class."""

    shots: int
    accuracy: Score
    """Of the images that were queries, the mean over the folds."""
    folds: tuple[float, ...]
    """Accuracy of every fold."""
    standard_deviation: float
    """Of the folds, as BioCLIP 2 states it (of the population)."""
    share_seen: float | None = None
    """Of the queries, those of whose individual, or near-identical photographs, an image is labelled in their fold;
    None in results of earlier versions."""


@dataclass(frozen=True, kw_only=True)
class FewShotScores:
    """How well images are classified by their nearest class mean."""

    task: Literal["few-shot"] = "few-shot"
    n_images: int
    """Those that were queries in a fold."""
    n_classes: int
    chance: float
    support: Literal["all images", "train"]
    """What the labelled images are drawn from; the queries are the others, or the split test."""
    only_train: tuple[str, ...]
    """Labels of the split train that no image of test has; they can only be mistaken for others."""
    matched_by: Literal["name", "place"]
    """How classes of train and test are matched; by place as published."""
    shots: tuple[Shots, ...]


class FewShotTask:
    """Classifies images by the means of a few labelled ones per class."""

    name, title, result = "few-shot", "Few-shot classification", FewShotScores
    needs_clip, needs_models, head = False, True, "taxonomy"

    def check(self, inputs: Inputs) -> None:
        """Refuse a single class, and a class with fewer images than are asked for."""
        from_train = inputs.is_split
        pool = inputs.places("train") if from_train else np.arange(len(inputs.rows))
        counts = np.bincount(inputs.truth[pool], minlength=len(inputs.names))
        shots = max(inputs.shots)
        for place, n_images in enumerate(counts.tolist()):
            if n_images < shots and (n_images or not from_train):
                label = inputs.names[place].label
                row = next(inputs.rows[n] for n in pool.tolist() if inputs.truth[n] == place)
                raise CollectionError(
                    f"{label!r} has {count(n_images, 'image', 'images')} ({row.where}), and --shots {shots} needs as "
                    "many labelled ones per class; leave the class out, or choose fewer --shots"
                )
        if from_train and (lost := sorted(set(inputs.truth[inputs.places("test")]) - set(inputs.truth[pool]))):
            raise CollectionError(
                f"{inputs.names[lost[0]].label!r} has images in test and none in train; folders and labels of the two "
                "are matched by name"
            )
        if len(set(inputs.truth[pool].tolist())) < 2:
            raise CollectionError(f"all images have the label {inputs.names[0].label!r}; two classes are the least")

    def run(self, inputs: Inputs, model: EmbeddedImages) -> Outcome:
        """Score every number of shots; with splits train and test the queries are the images of test."""
        train, test = inputs.places("train"), inputs.places("test")
        from_train = inputs.is_split
        measure: Callable[..., tuple[Shots, NDArray[np.float64]]] = _from_train if from_train else _within
        measured = [measure(inputs, model, shots) for shots in inputs.shots]
        classes = set(inputs.truth[train].tolist()) if from_train else set(inputs.truth.tolist())
        only_train = classes - set(inputs.truth[test].tolist()) if from_train else set()
        result = FewShotScores(
            n_images=int(np.isfinite(measured[0][1]).sum()),
            n_classes=len(classes),
            chance=1 / len(classes),
            support="train" if from_train else "all images",
            only_train=tuple(inputs.names[place].label for place in sorted(only_train)),
            matched_by="place" if inputs.config.protocol == "published" else "name",
            shots=tuple(shots for shots, _ in measured),
        )
        return Outcome(result, measured[0][1])

    def figures(self, result: FewShotScores) -> Figures:
        figures: Figures = {}
        for shots in result.shots:
            figures |= shots.accuracy.figures(f"{shots.shots}-shot")
        return figures

    def sentence(self, name: str, result: FewShotScores) -> str:
        said = ", ".join(
            f"{percent_interval(shots.accuracy.individuals)} from {shots.shots} labelled "
            f"image{'s' * (shots.shots != 1)} per class"
            for shots in result.shots
        )
        return (
            f"With {name} the nearest class mean is right for {said}, of {result.n_images:,} images of "
            f"{result.n_classes:,} classes (guessing: {percent(result.chance)})."
        )

    def notes(self, result: FewShotScores) -> list[str]:
        """Warn of individuals on both sides, and name classes that only the split train has."""
        return [*_of_seen(result), *_of_only_train(result)]


def _of_seen(result: FewShotScores) -> list[str]:
    """Warn where images are like a labelled one of the same individual, whatever their class."""
    seen = [(shots.share_seen, shots.shots) for shots in result.shots if shots.share_seen]
    if not seen:
        return []
    shares = ", ".join(f"{percent(share)} from {n}" for share, n in seen)
    return [
        f"of many images an individual, or a near-identical photograph, is among the labelled ones ({shares} per "
        "class); these are recognised without any knowledge of the class, so give a split that keeps individuals apart"
    ]


def _of_only_train(result: FewShotScores) -> list[str]:
    """Name classes that only the split train has."""
    if not result.only_train:
        return []
    lacking = count(len(result.only_train), "class has", "classes have")
    means = "by name, and images can only be mistaken for these"
    if result.matched_by == "place":
        means = "by place, as published, so that classes after the first of these are taken for others"
    return [f"{lacking} images in train and none in test ({some(result.only_train)}); labels are matched {means}"]


def _within(inputs: Inputs, model: EmbeddedImages, shots: int) -> tuple[Shots, NDArray[np.float64]]:
    """Draw the labelled images of all, in independent folds."""
    folds = independent_folds(inputs.truth, shots, n_folds=inputs.config.folds, seed=inputs.config.seed)
    accuracies, credit = few_shot(model.images, inputs.truth, folds)
    seen = [_seen(inputs, fold.support, fold.queries) for fold in folds]
    return _shots(inputs, shots, accuracies, credit, seen), credit


def _from_train(inputs: Inputs, model: EmbeddedImages, shots: int) -> tuple[Shots, NDArray[np.float64]]:
    """Draw the labelled images of the split train, and classify those of test.

    As published, classes are numbered in either split for itself, by the order of their names.
    """
    train, test = inputs.places("train"), inputs.places("test")
    published = inputs.config.protocol == "published"
    of_train, of_test = (_numbers(inputs, rows) if published else inputs.truth[rows] for rows in (train, test))
    credits, seen = [], []
    for fold in range(inputs.config.folds):
        drawn = draw_support(inputs.truth[train], shots, inputs.config.seed + fold)
        support, queries = model.images[train[drawn]], model.images[test]
        credits.append(simple_shot(support, of_train[drawn], queries, of_test))
        seen.append(_seen(inputs, train[drawn], test))
    every = inputs.spread(np.mean(credits, axis=0), test)
    return _shots(inputs, shots, tuple(float(credit.mean()) for credit in credits), every, seen), every


def _seen(inputs: Inputs, support: NDArray[np.int64], queries: NDArray[np.int64]) -> float:
    """Share of the queries that show what a labelled image shows."""
    return float(np.isin(inputs.units[queries], inputs.units[support]).mean())


def _numbers(inputs: Inputs, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique([inputs.rows[row].label for row in rows], return_inverse=True)[1]


def _shots(
    inputs: Inputs, shots: int, folds: tuple[float, ...], credit: NDArray[np.float64], seen: Sequence[float]
) -> Shots:
    if not np.isfinite(credit).any():
        raise CollectionError(f"with --shots {shots} no image is left to classify; choose fewer")
    return Shots(
        shots=shots,
        accuracy=score_of(credit, inputs),
        folds=folds,
        standard_deviation=float(np.std(folds)),
        share_seen=float(np.mean(seen)),
    )
