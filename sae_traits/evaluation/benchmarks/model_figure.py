"""The main figure of every model as bars, with what was published of others."""

from __future__ import annotations

import math
from pathlib import Path

from sae_traits.evaluation.benchmarks.results import BenchmarkResults
from sae_traits.evaluation.statistics import Interval

FIGURE_FILE = "models.png"
_HERE, _PUBLISHED = "#0072B2", "#999999"
"""Of Okabe & Ito's palette, which colour-blind readers can tell apart; what others found is grey."""


def draw_models(results: BenchmarkResults, path: Path) -> bool:
    """Draw bars as a PNG; False, and nothing, where the main figure has no interval."""
    # The object interface: no global state, and no window system is ever asked for.
    from matplotlib.figure import Figure

    title = next(iter(results.figures()[0][1]))
    here = [(name, value) for name, figures in results.figures() if isinstance(value := figures[title], Interval)]
    if not here:
        return False
    published = results.benchmark.published if results.benchmark else ()
    bars = [(name, value.mean, _HERE) for name, value in here]
    bars += [(f"{each.model} (published)", each.score / 100, _PUBLISHED) for each in published]
    figure = Figure(figsize=(7, 0.4 * len(bars) + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(bars)), [mean for _, mean, _ in bars], color=[colour for *_, colour in bars])
    for place, (_, value) in enumerate(here):
        if not math.isnan(value.low):
            errors = [[value.mean - value.low], [value.high - value.mean]]
            axes.errorbar(value.mean, place, xerr=errors, color="black", capsize=3, linewidth=1)
    ends = [0.0 if math.isnan(value.high) else value.high for _, value in here]
    for place, (_, mean, _) in enumerate(bars):
        end = max(mean, ends[place]) if place < len(here) else mean
        axes.annotate(f"{mean:.3f}", (end, place), (5, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(bars)), [name for name, *_ in bars])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(*ends, *(mean for _, mean, _ in bars), 1e-3))
    axes.set_xlabel(f"{title} (95 % interval over individuals)")
    axes.spines[["top", "right"]].set_visible(False)
    # Without the version of matplotlib, which would make another file of the same results.
    figure.savefig(path, dpi=120, metadata={"Software": None})
    return True
