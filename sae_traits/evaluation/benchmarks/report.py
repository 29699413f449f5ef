"""OUT/TASK: results.json for machines, report.md for people."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from sae_traits.evaluation.benchmarks.results import REPORT_FILE, RESULTS_FILE, BenchmarkResults, points, show
from sae_traits.evaluation.benchmarks.tasks import TASKS
from sae_traits.evaluation.benchmarks.tasks.structure import MEANINGS
from sae_traits.io import write_text
from sae_traits.rendering import render


def write_benchmark_report(folder: Path, results: BenchmarkResults) -> None:
    """Write results.json and report.md."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / REPORT_FILE, render_benchmark_report(results))
    write_text(folder / RESULTS_FILE, results.to_json())


def render_benchmark_report(results: BenchmarkResults) -> str:
    """Fill the report's template; every text of data is escaped."""
    task = TASKS[results.task]
    return render(
        Path(__file__).parent,
        "report.md.jinja",
        title=task.title,
        results=results,
        section=f"tasks/{task.name.replace('-', '_')}.md.jinja",
        figures=results.figures(),
        meanings=MEANINGS,
        show=lambda value: Markup(show(value)),  # noqa: S704  # numbers and brackets, which are no link
        points=lambda value: Markup(points(value)),  # noqa: S704
    )
