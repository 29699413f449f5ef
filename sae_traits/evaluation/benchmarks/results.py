"""What a benchmark found: one object for results.json, the report and the terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Annotated, Any, TypeAlias

from pydantic import Field, TypeAdapter

from sae_traits.config.benchmark import BenchmarkTaskName
from sae_traits.evaluation.benchmarks.definition import Benchmark, PublishedScore
from sae_traits.evaluation.benchmarks.inputs import Figures, percent
from sae_traits.evaluation.benchmarks.tasks import TASKS
from sae_traits.evaluation.statistics import Interval
from sae_traits.evaluation.zero_shot_results import NAME_AND_TRAITS
from sae_traits.io import json_of_version

RESULTS_FILE, REPORT_FILE, SCHEMA_FILE = "results.json", "report.md", "results.schema.json"
SCHEMA_VERSION = 1
"""Of results.json; its JSON schema lies beside this file."""

AnyScores: TypeAlias = Annotated[
    reduce(or_, dict.fromkeys(task.result for task in TASKS.values())),  # pyright: ignore[reportInvalidTypeForm]
    Field(discriminator="task"),
]


@dataclass(frozen=True, kw_only=True)
class ModelScores:
    """What was found of one model."""

    name: str
    """Hub id, or the name of a folder or file."""
    model: dict[str, Any]
    """Everything that its embeddings depend on, as far as it is known."""
    scores: AnyScores
    notes: tuple[str, ...] = ()
    """What a reader must know before believing its figures; the gravest first."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much better a model is than the first one, in the main figure and on the same images."""

    name: str
    individuals: Interval
    """Resampling individuals."""
    classes: Interval
    """Resampling classes whole."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkResults:
    """The answer to one question about images with labels, for one or more models."""

    schema_version: int = SCHEMA_VERSION
    toolkit_version: str
    task: BenchmarkTaskName
    images: str
    """Hub address, or the name of a folder or table."""
    n_images: int
    n_classes: int
    n_units: int
    """Individuals, near-identical images counting once."""
    benchmark: Benchmark | None
    """The published benchmark that these images are said to be of."""
    settings: dict[str, Any]
    """The options."""
    models: tuple[ModelScores, ...]
    differences: tuple[Difference, ...]
    """Of all models but the first; empty where the task has no main figure per image."""
    notes: tuple[str, ...]
    """What a reader must know of the images and labels; the gravest first. Those of a model are with its scores."""

    def to_json(self) -> str:
        """Write the results as JSON; NaN is null."""
        return _ADAPTER.dump_json(self, indent=2).decode() + "\n"

    @classmethod
    def from_json(cls, text: str) -> BenchmarkResults:
        """Read what `to_json` wrote.

        Raises:
            ValueError: the text is something else, or of another version.
        """
        return _ADAPTER.validate_python(json_of_version(text, SCHEMA_VERSION))

    def figures(self) -> list[tuple[str, Figures]]:
        """Every model with what the table shows of it."""
        return [(each.name, TASKS[self.task].figures(each.scores)) for each in self.models]

    @property
    def answer(self) -> tuple[str, str, str]:
        """The answer in three sentences: what was found, compared to what, and what speaks against it."""
        figures = self.figures()
        is_ranked = self.task != "structure"  # whose figures are no better for being higher
        place = max(range(len(figures)), key=lambda place: _rank(figures[place][1])) if is_ranked else 0
        best = self.models[place]
        return TASKS[self.task].sentence(best.name, best.scores), self._comparison(place), self._caveat(place)

    @property
    def all_notes(self) -> list[str]:
        """What a reader must know: of the images, and of every model by its name, unless it holds for all models."""
        bearers = Counter(note for model in self.models for note in model.notes)
        of_models = [
            note if bearers[note] == len(self.models) else f"{model.name}: {note}"
            for model in self.models
            for note in model.notes
        ]
        return list(dict.fromkeys([*self.notes, *of_models]))

    def lines(self) -> list[str]:
        """Say the answer, and the figures of every model, for a terminal."""
        lines = [*self.answer, ""]
        for name, figures in self.figures():
            lines += [name]
            lines += [f"  {figure:<36} {show(value)}" for figure, value in figures.items()]
        lines += [f"  {each.name} minus {self.models[0].name}: {points(each.individuals)}" for each in self.differences]
        if self.benchmark is not None:
            lines += ["", f"published of {self.benchmark.title}, in per cent:"]
            lines += [f"  {each.model:<36} {each.score:g}" for each in self.benchmark.published]
        return lines + [f"note: {note}" for note in self.all_notes]

    @property
    def _clusters(self) -> str:
        """What is resampled whole, besides individuals."""
        return "questions" if self.task == "newt" else "classes"

    def _comparison(self, place: int) -> str:
        """Compare the model at a place, which is the best, with what was published, with another, or with nothing."""
        name, figures = self.figures()[place]
        first, headline = next(iter(figures)), _headline(figures)
        main = figures[first]
        if self.benchmark is not None and isinstance(main, Interval):
            return _against_published(name, main, self.benchmark)
        if self.differences and headline == first and place > 0:
            lead = points(self.differences[place - 1].classes)
            return f"Its lead over {self.models[0].name} is {lead} over {self._clusters} like these."
        if self.differences and headline == first:
            nearest = max(self.differences, key=lambda each: each.individuals.mean)
            lag = points(nearest.classes)
            return f"{nearest.name} is next, with a difference of {lag} over {self._clusters} like these."
        if len(self.models) > 1:
            every = [f"{other} {show(of[headline])}" for other, of in self.figures()]
            return f"Of the other models, {headline} is {', '.join(every[:place] + every[place + 1 :])}."
        over = figures.get(f"{first} over {self._clusters}")
        if isinstance(over, Interval) and not math.isnan(over.low):
            return (
                f"Of other {self._clusters} like these, {first} would be between {percent(over.low)} and "
                f"{percent(over.high)} (95 % interval)."
            )
        if isinstance(main, Interval):
            return "There is nothing to compare it with here: give several --clip to compare models."
        return "A share without an interval: the images are counted, none is drawn."

    def _caveat(self, place: int) -> str:
        """Say what is gravest of the model at a place, or of the images."""
        if notes := [*self.models[place].notes, *self.notes]:
            more = len(self.all_notes) - 1
            rest = f" ({more} more note{'s' * (more != 1)} below)" if more else ""
            return f"Before you believe it: {notes[0].rstrip('.')}{rest}."
        if self.task == "leaks":
            return "Mirrored, turned and strongly cropped copies are not found."
        if self.task == "localisation":
            return "Organisms are where the files say; the box of an organism holds background, too."
        return (
            "Whether the model has seen these images before is not known here; `sae-traits benchmark leaks` compares "
            "them with its training images, where these are at hand."
        )


_ADAPTER = TypeAdapter(BenchmarkResults)


def json_schema() -> dict[str, Any]:
    """The JSON schema of results.json, of which a copy lies beside this file; any number may be null (NaN)."""
    schema = _nullable(_ADAPTER.json_schema(mode="serialization"))
    return schema | {"$schema": "https://json-schema.org/draft/2020-12/schema"}


def _nullable(schema: Any) -> Any:
    if isinstance(schema, dict):
        found = {name: _nullable(inner) for name, inner in schema.items()}
        return found | {"type": ["number", "null"]} if found.get("type") == "number" else found
    return [_nullable(inner) for inner in schema] if isinstance(schema, list) else schema


def show(value: Interval | float | None) -> str:
    """Write a figure with its interval."""
    if value is None:
        return "none"
    return f"{value:z.3f}" if isinstance(value, float) else str(value)


def show_p(p_value: float) -> str:
    """Write a p-value; none is zero."""
    return "< 0.001" if p_value < 0.0005 else f"{p_value:.3f}"


def points(difference: Interval) -> str:
    """Write a difference of shares in percentage points."""
    if math.isnan(difference.low):  # a single group
        return f"{100 * difference.mean:+z.1f} points"
    return f"{100 * difference.mean:+z.1f} points [{100 * difference.low:+z.1f}, {100 * difference.high:+z.1f}]"


def _headline(figures: Figures) -> str:
    """The figure by which models are ranked: the main one, or that with traits where it is asked whether these help."""
    return NAME_AND_TRAITS if NAME_AND_TRAITS in figures else next(iter(figures))


def _rank(figures: Figures) -> float:
    value = figures[_headline(figures)]
    return value.mean if isinstance(value, Interval) else value or 0.0


def _against_published(name: str, main: Interval, benchmark: Benchmark) -> str:
    published: PublishedScore | None = benchmark.score_of(name)
    if published is not None:
        lies = "within" if main.low <= published.score / 100 <= main.high else "outside of"
        return f"Published for it is {published.score:g} % ({published.source}), {lies} the interval of this figure."
    known: Sequence[PublishedScore] = sorted(benchmark.published, key=lambda each: each.score)
    return (
        f"Of {benchmark.title} {percent(known[0].score / 100)} ({known[0].model}) to {percent(known[-1].score / 100)} "
        f"({known[-1].model}) are published, none of them for this checkpoint by its Hub id."
    )
