"""What the tasks of a benchmark read, and what each of them looks like."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sae_traits.config.benchmark import BenchmarkConfig, TemplateSet, TextType
from sae_traits.evaluation.prompts import TextEncoder
from sae_traits.evaluation.statistics import Interval, bootstrap_intervals
from sae_traits.vocabulary import Split

if TYPE_CHECKING:
    from sae_traits.evaluation.benchmarks.attribute_tables import Attributes
    from sae_traits.evaluation.benchmarks.captions import Captions
    from sae_traits.evaluation.benchmarks.labels import LabelledRow
    from sae_traits.evaluation.benchmarks.located import Located
    from sae_traits.evaluation.measures.class_names import ClassName

FloatArray = NDArray[np.float32]
Figures = dict[str, "Interval | float | None"]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Images, labels and texts of a benchmark, without any model."""

    config: BenchmarkConfig
    rows: tuple[LabelledRow, ...]
    names: tuple[ClassName, ...]
    """Of every class, in the order in which their labels appear."""
    units: NDArray[np.int64]
    """What counts once in an interval: an individual, or near-identical images `[n]`."""
    text_type: TextType = "asis"
    templates: TemplateSet = "one"
    shots: tuple[int, ...] = (1, 5)
    traits: Mapping[str, tuple[str, ...]] | None = None
    """Label -> what is said of its species; None where it is not asked whether traits help."""
    trait_source: str | None = None
    described: frozenset[str] = frozenset()
    """Hashes of the image files that the traits were written of."""
    captions: Captions | None = None
    attributes: Attributes | None = None
    references: Mapping[str, str] = field(default_factory=dict)
    """Label -> a description of its species that texts are held to."""
    regions: tuple[Mapping[str, str], ...] = ()
    """Of two describers: id of a region -> what is said of it; none where there is one describer."""
    located: Located | None = None
    """Regions that are scored, and where the organisms are; None where there are none, or no image was opened."""
    sha256: tuple[str, ...] = ()
    """Hash of every image file, or of the file it was made from; none where only embeddings are at hand."""
    hashes: tuple[bytes, ...] = ()
    """Perceptual hash of every image; none likewise."""
    against: tuple[tuple[str, bytes], ...] = ()
    """Where each of the images lies that are compared with, and its perceptual hash."""

    @cached_property
    def truth(self) -> NDArray[np.int64]:
        """Class of every image `[n]`."""
        place = {name.label: number for number, name in enumerate(self.names)}
        return np.array([place[row.label] for row in self.rows], dtype=np.int64)

    def places(self, split: Split) -> NDArray[np.int64]:
        """Places of the images of a split."""
        return np.flatnonzero([row.split == split for row in self.rows])

    def scored(self) -> NDArray[np.int64]:
        """Places of the images that are scored: those of the split test, or all where no image is in it."""
        of_test = self.places("test")
        return of_test if len(of_test) else np.arange(len(self.rows))

    def of_scored(self) -> Inputs:
        """The images that are scored as if there were no others, with what is said of them and their classes."""
        rows = self.scored().tolist()
        if len(rows) == len(self.rows):
            return self
        present, place = set(self.truth[rows].tolist()), {row: number for number, row in enumerate(rows)}
        return replace(
            self,
            rows=tuple(self.rows[row] for row in rows),
            names=tuple(name for number, name in enumerate(self.names) if number in present),
            units=self.units[rows],
            captions=self.captions and self.captions.of_images(place),
            attributes=None,
            located=None,
            sha256=tuple(self.sha256[row] for row in rows) if self.sha256 else (),
            hashes=tuple(self.hashes[row] for row in rows) if self.hashes else (),
        )

    @cached_property
    def is_split(self) -> bool:
        """Whether there are images to learn from and others to score: those of train and of test."""
        return len(self.places("train")) > 0 and len(self.places("test")) > 0

    def spread(self, values: NDArray[np.floating], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Lay what some images have into a value per image, NaN for the others `[n]`."""
        every = np.full(len(self.rows), np.nan)
        every[rows] = values
        return every


@dataclass(frozen=True, kw_only=True)
class EmbeddedImages:
    """The images as a model sees them, and its texts."""

    name: str
    """Hub id, or the name of a folder or file."""
    info: dict[str, Any] = field(default_factory=dict)
    """Everything that the embeddings depend on, as far as it is known."""
    images: FloatArray
    """Of unit length, in the order of `Inputs.rows` `[n, embed_dim]`."""
    texts: TextEncoder | None = None
    """What embeds texts into the same space; None for embeddings without a CLIP."""
    logit_scale: float = 100.0
    """The factor of cosines in the model's softmax."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A share of images, with what it may owe to these individuals, and to these classes."""

    individuals: Interval
    """Resampling individuals: the classes are these."""
    classes: Interval
    """Resampling classes whole: the classes are a sample of those that the model could be asked about."""

    @property
    def mean(self) -> float:
        return self.individuals.mean

    def figures(self, title: str, clusters: str = "classes") -> Figures:
        """Both intervals, for the table of several models."""
        return {title: self.individuals, f"{title} over {clusters}": self.classes}


@dataclass(frozen=True)
class Outcome:
    """The result of a task for one model, and what it rests on."""

    result: Any
    credit: NDArray[np.floating] | None = None
    """Of every image, what it adds to the main figure, NaN where it is not scored `[n]`; None where there is none."""
    clusters: NDArray[np.int64] | None = None
    """What is resampled whole, beside individuals, of every image `[n]`; None where that is its class."""


class BenchmarkTask(Protocol):
    """One question that can be asked of images with labels; a task has a file, and a template beside it."""

    name: str
    """One of BenchmarkTaskName."""
    title: str
    result: type[Any]
    """Dataclass of its results, which says in `task` which task it is of."""
    needs_clip: bool
    """Whether texts are embedded; else any embeddings will do."""
    needs_models: bool
    """Whether anything is embedded at all."""
    head: str
    """Projection of the image tower, where the model has several."""

    def check(self, inputs: Inputs) -> None:
        """Raise a ConfigError or CollectionError, before anything is embedded, where the question cannot be asked."""
        ...

    def run(self, inputs: Inputs, model: EmbeddedImages) -> Outcome:
        """Answer the question for one model."""
        ...

    def figures(self, result: Any) -> Figures:
        """What the table of several models shows, the main figure first."""
        ...

    def sentence(self, name: str, result: Any) -> str:
        """Say in one sentence what was found of a model."""
        ...

    def notes(self, result: Any) -> list[str]:
        """Say what a reader must know before believing it, the gravest first."""
        ...


def scores(
    credits: Sequence[NDArray[np.float64]],
    inputs: Inputs,
    rows: NDArray[np.int64],
    clusters: NDArray[np.int64] | None = None,
) -> list[Score]:
    """Take the means of what some images add to figures, with intervals over individuals and over classes.

    Args:
        credits: per figure what each of the images adds `[n_rows]`.
        inputs: whose images they are.
        rows: places of the images `[n_rows]`.
        clusters: what is resampled in the place of classes, of every image `[n]`.
    """
    values = np.stack(credits, axis=1).astype(np.float64)
    individuals, classes = (
        bootstrap_intervals(values, groups=groups[rows], seed=inputs.config.seed)
        for groups in (inputs.units, inputs.truth if clusters is None else clusters)
    )
    return [Score(individuals=one, classes=other) for one, other in zip(individuals, classes, strict=True)]


def score_of(credit: NDArray[np.float64], inputs: Inputs, clusters: NDArray[np.int64] | None = None) -> Score:
    """Take the mean of what images add to a figure, NaN where one is not scored `[n]`; else as `scores`."""
    rows = np.flatnonzero(np.isfinite(credit))
    return scores([credit[rows]], inputs, rows, clusters)[0]


def count(number: int, one: str, several: str) -> str:
    """Write a number with the noun that goes with it."""
    return f"{number:,} {one if number == 1 else several}"


def percent(value: float) -> str:
    """Write a share in per cent, with one digit."""
    return f"{100 * value:.1f} %"


def percent_interval(interval: Interval) -> str:
    """Write a share and its interval in per cent."""
    if math.isnan(interval.low):  # a single group
        return percent(interval.mean)
    return f"{percent(interval.mean)} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
