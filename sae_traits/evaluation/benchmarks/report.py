"""OUT/TASK: results.json for machines, report.md and a figure for people, rows for the cards of the models."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from sae_traits.evaluation.benchmarks.model_figure import FIGURE_FILE, draw_models, drawn_figures
from sae_traits.evaluation.benchmarks.model_index import MODEL_INDEX_FILE, model_index
from sae_traits.evaluation.benchmarks.results import (
    REPORT_FILE,
    RESULTS_FILE,
    BenchmarkResults,
    points,
    show,
    show_p,
)
from sae_traits.evaluation.benchmarks.tasks import TASKS
from sae_traits.evaluation.benchmarks.tasks.structure import MEANINGS
from sae_traits.io import write_text
from sae_traits.rendering import render


def write_benchmark_report(folder: Path, results: BenchmarkResults) -> None:
    """Write results.json, report.md, and, where the task has a main figure with an interval, a picture of it.

    Where the Hub has a name for the task, the rows for `model-index` of the models' cards are written, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / RESULTS_FILE, results.to_json())
    (folder / MODEL_INDEX_FILE).unlink(missing_ok=True)  # of an earlier command, which may have been another one
    if rows := model_index(results):
        write_text(folder / MODEL_INDEX_FILE, rows)
    figure = FIGURE_FILE if drawn_figures(results) else None
    write_text(folder / REPORT_FILE, render_benchmark_report(results, figure=figure))
    (folder / FIGURE_FILE).unlink(missing_ok=True)
    draw_models(results, folder / FIGURE_FILE)  # last: what took hours to find is not lost with a picture of it


def render_benchmark_report(results: BenchmarkResults, *, figure: str | None = None) -> str:
    """Fill the report's template; every text of data is escaped."""
    task = TASKS[results.task]
    return render(
        Path(__file__).parent,
        "report.md.jinja",
        title=task.title,
        results=results,
        figure=figure,
        link=Markup,  # a file's name of our own
        section=f"tasks/{task.name.replace('-', '_')}.md.jinja",
        figures=results.figures(),
        meanings=MEANINGS,
        show=lambda value: Markup(show(value)),  # noqa: S704  # numbers and brackets, which are no link
        show_p=lambda value: Markup(show_p(value).replace("<", "&lt;")),  # noqa: S704
        points=lambda value: Markup(points(value)),  # noqa: S704
    )
