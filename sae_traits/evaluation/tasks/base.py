"""What every task of an evaluation looks like."""

from __future__ import annotations

from typing import Any, Protocol

from sae_traits.evaluation.evidence import Evidence


class EvaluationTask(Protocol):
    """One question about the traits of a run.

    A task that TASKS lists has a template `NAME.md.jinja` beside its file, which gets its `result` (or None) and makes
    its section of report.md. Of a task that is given from outside the report shows the lines.
    """

    name: str
    """Key of its result in results.json."""
    heading: str
    """Of its section in the report."""
    result: type[Any]
    """Dataclass of its results; written as JSON and read back by its fields."""

    def run(self, evidence: Evidence) -> Any:
        """Answer the question: a `result`, or None where there is nothing to answer it with."""
        ...

    def lines(self, result: Any) -> list[str]:
        """Say the answer in a few lines of text, for a terminal; none where no number sums it up."""
        ...
