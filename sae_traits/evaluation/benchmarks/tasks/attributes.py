"""Attributes of animals from frozen embeddings: FishNet (all of an image right) and AwA2 (macro F1, classes unseen)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sae_traits.config.benchmark import Protocol
from sae_traits.errors import CollectionError, ConfigError
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
from sae_traits.evaluation.measures.attributes import attribute_logits, fishnet_right
from sae_traits.evaluation.statistics import N_RESAMPLES, Interval, Number

N_RUNS = 3
_DRAWS_AT_A_TIME = 50


@dataclass(frozen=True, kw_only=True)
class AttributeScores:
    """How well the attributes of images are told."""

    task: Literal["fishnet", "awa2"]
    n_images: int
    n_train: int
    attributes: tuple[str, ...]
    learning_rate: float
    n_runs: int
    all_right: Score
    """Share of the images that have all their attributes right, the mean over the runs."""
    all_right_chance: float
    """Of every attribute present where most training images have it."""
    macro_f1: Score
    """Mean over attributes of their F1, the mean over the runs."""
    macro_f1_chance: Number
    by_attribute: dict[str, Number]
    """F1 of each; NaN where it neither occurs nor is said."""


class AttributeTask:
    """Trains the head of the released code on the split train, and scores the split test."""

    result = AttributeScores
    needs_clip, needs_models, head = False, True, "taxonomy"

    def __init__(self, benchmark: Literal["fishnet", "awa2"], title: str, learning_rate: float) -> None:
        self.name, self.title = str(benchmark), title
        self._benchmark: Literal["fishnet", "awa2"] = benchmark
        self._learning_rate = learning_rate

    def check(self, inputs: Inputs) -> None:
        """Refuse images without attributes, and those of one split."""
        if inputs.attributes is None:
            raise ConfigError(f"{self.name} needs --attributes: a table with file or label, and columns of 0 and 1")
        if not inputs.is_split:
            raise CollectionError(f"{self.name} needs the splits train and test; say them in a column `split`")

    def run(self, inputs: Inputs, model: EmbeddedImages) -> Outcome:
        """Train and score three times."""
        assert inputs.attributes is not None
        train, test = inputs.places("train"), inputs.places("test")
        present, protocol = inputs.attributes.present, inputs.config.protocol
        # The head was made for features as models give them, whose elements are of the order of one.
        features = model.images * model.images.shape[1] ** 0.5
        said = np.stack(
            [
                attribute_logits(
                    features[train],
                    present[train],
                    features[test],
                    learning_rate=self._learning_rate,
                    seed=inputs.config.seed + run,
                    protocol=protocol,
                )
                for run in range(N_RUNS)
            ]
        )
        right = np.mean([fishnet_right(logits, present[test], protocol=protocol) for logits in said], axis=0)
        threshold = 0.5 if protocol == "published" else 0.0
        by_frequency = np.where(present[train].mean(axis=0) > 0.5, 1.0, -1.0)[None].repeat(len(test), axis=0)
        individuals, classes = (
            macro_f1(said > threshold, present[test], groups[test], protocol=protocol, seed=inputs.config.seed)
            for groups in (inputs.units, inputs.truth)
        )
        credit = inputs.spread(right, test)
        result = AttributeScores(
            task=self._benchmark,
            n_images=len(test),
            n_train=len(train),
            attributes=inputs.attributes.names,
            learning_rate=self._learning_rate,
            n_runs=N_RUNS,
            all_right=score_of(credit, inputs),
            all_right_chance=float(fishnet_right(by_frequency, present[test]).mean()),
            macro_f1=Score(individuals=individuals, classes=classes),
            macro_f1_chance=macro_f1(
                by_frequency[None] > 0, present[test], np.zeros(len(test), np.int64), protocol=protocol
            ).mean,
            by_attribute=dict(
                zip(
                    inputs.attributes.names,
                    _f1(_counts(said > threshold, present[test]).sum(axis=1)).mean(axis=0).tolist(),
                    strict=True,
                )
            ),
        )
        # macro F1 is no mean over images, so that no image has a share in it
        return Outcome(result, None if self.name == "awa2" else credit)

    def figures(self, result: AttributeScores) -> Figures:
        of_all, of_f1 = result.all_right.figures("all right"), result.macro_f1.figures("macro F1")
        return of_all | of_f1 if self.name == "fishnet" else of_f1 | of_all

    def sentence(self, name: str, result: AttributeScores) -> str:
        n = f"{count(len(result.attributes), 'attribute', 'attributes')} of {result.n_images:,} images"
        if self.name == "fishnet":
            return (
                f"With {name} {percent_interval(result.all_right.individuals)} of {result.n_images:,} images have all "
                f"{len(result.attributes)} attributes right, where the commonest value of each gives "
                f"{percent(result.all_right_chance)}."
            )
        return (
            f"With {name} the macro F1 of {n} is {percent_interval(result.macro_f1.individuals)}, where the commonest "
            f"value of each gives {percent(result.macro_f1_chance)}."
        )

    def notes(self, result: AttributeScores) -> list[str]:
        """Say in what it is not the released code."""
        return [
            "embeddings are of unit length times the root of their width; the released code trains on features as the "
            "model gives them, so that published scores may differ for that alone"
        ]


FISHNET = AttributeTask("fishnet", "Attributes of fishes", learning_rate=1e-4)
AWA2 = AttributeTask("awa2", "Attributes of animals", learning_rate=1e-5)


def macro_f1(
    said: NDArray[np.bool_],
    present: NDArray[np.integer],
    groups: NDArray[np.int64],
    *,
    protocol: Protocol = "corrected",
    seed: int = 0,
) -> Interval:
    """Take the macro F1 of several runs with an interval over groups that are resampled whole.

    Args:
        said: which attributes each run says of each image `[n_runs, n_images, n_attributes]`.
        present: 0 or 1 `[n_images, n_attributes]`.
        groups: of each image `[n_images]`.
        protocol: `published` takes attributes 0 and 1 alone, and 0 as the F1 of one that neither occurs nor is said.
    """
    columns = np.unique(present) if protocol == "published" else np.arange(present.shape[1])
    counts = _counts(said[:, :, columns], present[:, columns])
    names, member = np.unique(groups, return_inverse=True)
    by_group = np.zeros((len(counts), len(names), *counts.shape[2:]))
    for run, of_run in enumerate(counts):
        np.add.at(by_group[run], member, of_run)
    mean = _macro(counts.sum(axis=1), protocol).item()
    if len(names) < 2:
        return Interval(mean, float("nan"), float("nan"), len(names))
    generator = np.random.default_rng(seed)
    drawn = []
    for start in range(0, N_RESAMPLES, _DRAWS_AT_A_TIME):
        n_draws = min(_DRAWS_AT_A_TIME, N_RESAMPLES - start)
        times = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_draws)
        drawn.append(_macro(np.einsum("sg,rgac->rsac", times.astype(np.float64), by_group, optimize=True), protocol))
    low, high = np.quantile(np.concatenate(drawn), (0.025, 0.975))
    return Interval(mean, float(low), float(high), len(names))


def _counts(said: NDArray[np.bool_], present: NDArray[np.integer]) -> NDArray[np.float64]:
    """Hits and mistakes of each run, image and attribute `[n_runs, n_images, n_attributes, 2]`."""
    wanted = present.astype(bool)[None]
    return np.stack([said & wanted, said ^ wanted], axis=-1).astype(np.float64)


def _f1(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 from hits and mistakes `[…, 2]`: 2 hits / (2 hits + mistakes); NaN without either."""
    hits, mistakes = counts[..., 0], counts[..., 1]
    whole = 2 * hits + mistakes
    return np.divide(2 * hits, whole, out=np.full_like(whole, np.nan), where=whole > 0)


def _macro(counts: NDArray[np.float64], protocol: Protocol) -> NDArray[np.float64]:
    """Mean over runs and attributes `[n_runs, …, n_attributes, 2]` -> `[…]`."""
    of_attributes = _f1(counts)
    if protocol == "published":
        of_attributes = np.nan_to_num(of_attributes, nan=0.0)
    known = np.isfinite(of_attributes)
    means = np.where(known, of_attributes, 0).sum(axis=-1) / np.maximum(known.sum(axis=-1), 1)
    return means.mean(axis=0)
