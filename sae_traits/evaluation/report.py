"""RUN/evaluation: results.json for machines, report.md and figures for people."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from sae_traits.evaluation.evidence import Evidence
from sae_traits.evaluation.figures import draw_bars, draw_close_ups, draw_gallery
from sae_traits.evaluation.results import RESULTS_FILE, Results
from sae_traits.evaluation.tasks import TASKS
from sae_traits.evaluation.verdict import RULES
from sae_traits.io import write_text
from sae_traits.rendering import render
from sae_traits.traits.untold_species import significance_in_words
from sae_traits.vocabulary import REGION_SOURCES

REPORT_FILE = "report.md"
REGIONS_FIGURE, ZERO_SHOT_FIGURE = "figures/regions.png", "figures/zero_shot.png"


def write_report(folder: Path, title: str, results: Results, evidence: Evidence) -> int:
    """Write results.json, report.md and the figures; the number of regions that are drawn."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    write_text(folder / RESULTS_FILE, results.to_json())  # first: what took hours to find is not lost with a picture
    n_drawn = draw_gallery(evidence.collection, evidence.traits, folder / REGIONS_FIGURE, evidence.open_picture)
    species_traits = results.tasks.get("species_traits")
    pictures = [] if species_traits is None else [one for trait in species_traits.traits for one in trait.pictures]
    draw_close_ups(evidence.collection, evidence.traits, pictures, folder, evidence.open_picture)
    if results.zero_shot is not None:
        draw_bars(results.zero_shot, folder / ZERO_SHOT_FIGURE)
    write_text(folder / REPORT_FILE, render_report(title, results, n_regions_drawn=n_drawn))
    return n_drawn


def render_report(title: str, results: Results, *, n_regions_drawn: int = 0) -> str:
    """Fill the report's template; every text of data is escaped."""
    return render(
        Path(__file__).parent,
        "report.md.jinja",
        title=title,
        results=results,
        regions=REGION_SOURCES[results.region_source],
        n_regions_drawn=n_regions_drawn,
        significance=significance_in_words(results.annotation),
        rules=RULES,
        headings={task.name: task.heading for task in TASKS},
        interval=_as_it_is,
        preformatted=lambda lines: _as_it_is("\n".join(lines).replace("```", "'''")),  # which nothing in them ends
    )


def _as_it_is(text: object) -> Markup:
    """Mark as Markdown what is: intervals, whose brackets are no link, and lines whose writers have escaped data."""
    return Markup(text)  # noqa: S704
