"""The results of an evaluation: one object for results.json, the report, the cards and the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, TypeAdapter

from sae_traits.errors import StoreError, one_line
from sae_traits.evaluation.evidence import Evidence
from sae_traits.evaluation.part_evidence import Measure
from sae_traits.evaluation.tasks import TASKS
from sae_traits.evaluation.tasks.base import EvaluationTask
from sae_traits.evaluation.zero_shot_results import ZeroShotResult
from sae_traits.io import json_of_version
from sae_traits.traits.known_background import KnownBackground
from sae_traits.vocabulary import RegionSource

RESULTS_FILE = "results.json"
SCHEMA_VERSION = 4
"""Of results.json; a file of another one is not read."""
_BY_NAME = {task.name: task for task in TASKS}


def _to_plain(results: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if result is None else TypeAdapter(_BY_NAME[name].result).dump_python(result)
        for name, result in results.items()
    }


def _from_plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if value is None else TypeAdapter(_BY_NAME[name].result).validate_python(value)
        for name, value in values.items()
    }


@dataclass(frozen=True, kw_only=True)
class Extra:
    """The result of a task that was given from outside."""

    heading: str
    lines: tuple[str, ...]
    """Plain text for a terminal, and for the report."""
    values: dict[str, Any]
    """The fields of its result."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """What was evaluated of a run."""

    schema_version: int = SCHEMA_VERSION
    region_source: RegionSource
    annotation: dict[str, Any]
    """Counts of the annotation."""
    background: KnownBackground | None = None
    """What was known of the photographs' backgrounds; None where regions have no latents."""
    sae: dict[str, Any] | None
    """Measures of the SAE; None where no SAE picked the regions."""
    tasks: Annotated[dict[str, Any], BeforeValidator(_from_plain), PlainSerializer(_to_plain)]
    """Name of a task of TASKS -> its result, None where there was nothing to evaluate."""
    extra: dict[str, Extra] = field(default_factory=dict)
    """Name of a task from outside -> its result."""

    def to_json(self) -> str:
        """Write the results as JSON; NaN is null."""
        return _ADAPTER.dump_json(self, indent=2).decode() + "\n"

    @classmethod
    def from_json(cls, text: str) -> Results:
        """Read what `to_json` wrote.

        Raises:
            ValueError: the text is something else, or of another version.
        """
        return _ADAPTER.validate_python(json_of_version(text, SCHEMA_VERSION))

    def lines(self) -> list[str]:
        """Say the verdicts in a few lines of text, for a terminal: first of TASKS, then of tasks from outside."""
        lines = [
            line for name, result in self.tasks.items() if result is not None for line in _BY_NAME[name].lines(result)
        ]
        for extra in self.extra.values():
            lines += ["", extra.heading, "", *extra.lines]
        return lines

    @property
    def inside(self) -> Measure | None:
        """Area of the regions inside the organism by part evidence, the mean over species; None where not measured."""
        return None if (parts := self.tasks.get("parts")) is None else parts.inside

    @property
    def zero_shot(self) -> ZeroShotResult | None:
        """Whether the traits help a vision-language model to recognise species; None where it was not asked."""
        return self.tasks.get("zero_shot")


_ADAPTER = TypeAdapter(Results)


def run_tasks(evidence: Evidence, tasks: Sequence[EvaluationTask] = TASKS) -> Results:
    """Run some tasks, in their order."""
    results, extra = {}, {}
    for task in tasks:
        result = task.run(evidence)
        if task.name in _BY_NAME:
            results[task.name] = result
        elif result is not None:
            values = json.loads(TypeAdapter(task.result).dump_json(result))  # NaN is null
            extra[task.name] = Extra(heading=task.heading, lines=tuple(task.lines(result)), values=values)
    return Results(
        region_source=evidence.region_source,
        annotation=dict(evidence.annotation),
        background=evidence.background,
        sae=None if evidence.sae is None else dict(evidence.sae),
        tasks=results,
        extra=extra,
    )


def read_results(file: Path) -> Results | None:
    """Read RUN/evaluation/results.json; None where the run was not evaluated.

    Raises:
        StoreError: the file is not one of this version.
    """
    if not file.is_file():
        return None
    try:
        return Results.from_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"cannot read {file} ({one_line(error)}); run `sae-traits evaluate {file.parents[1]}` again"
        ) from error
