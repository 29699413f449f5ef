"""The figures of every model as bars, a panel each, the first with what was published of others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sae_traits.evaluation.benchmarks.results import BenchmarkResults
from sae_traits.evaluation.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIGURE_FILE = "models.png"
_HERE, _PUBLISHED = "#0072B2", "#999999"
"""Of Okabe & Ito's palette, which colour-blind readers can tell apart; what others found is grey."""


def drawn_figures(results: BenchmarkResults) -> list[str]:
    """The titles of the figures that are drawn: those with an interval over individuals."""
    first = results.figures()[0][1]
    return [title for title, value in first.items() if isinstance(value, Interval) and " over " not in title]


def draw_models(results: BenchmarkResults, path: Path) -> None:
    """Draw the figures with an interval over individuals as a PNG; nothing where there is none."""
    # The object interface: no global state, and no window system is ever asked for.
    from matplotlib.figure import Figure

    titles = drawn_figures(results)
    if not titles:
        return
    panels = {title: _bars(results, title) for title in titles}
    if results.benchmark:
        others = [(f"{each.model} (published)", each.score / 100, _PUBLISHED) for each in results.benchmark.published]
        panels[titles[0]] += [(name, Interval(score, math.nan, math.nan), colour) for name, score, colour in others]
    heights = [len(bars) + 1.5 for bars in panels.values()]
    figure = Figure(figsize=(7, 0.4 * sum(heights) + 0.3), layout="constrained")
    of_shares = results.task != "structure"  # which can be compared with each other
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights, sharex=of_shares)[:, 0]
    limits = [_draw(one, title, bars) for one, (title, bars) in zip(axes, panels.items(), strict=True)]
    if of_shares:
        axes[0].set_xlim(min(low for low, _ in limits), max(high for _, high in limits))
    axes[-1].set_xlabel("95 % intervals")
    # Without the version of matplotlib, which would make another file of the same results.
    figure.savefig(path, dpi=120, metadata={"Software": None})


Bar = tuple[str, Interval, str]
"""Name, value and colour."""


def _bars(results: BenchmarkResults, title: str) -> list[Bar]:
    values = [(name, figures.get(title)) for name, figures in results.figures()]
    return [(name, value, _HERE) for name, value in values if isinstance(value, Interval)]


def _draw(axes: Axes, title: str, bars: Sequence[Bar]) -> tuple[float, float]:
    """Draw one panel; its limits are returned."""
    ends = []
    for place, (_, value, colour) in enumerate(bars):
        axes.barh(place, value.mean, color=colour)
        ends += [value.mean]
        if not math.isnan(value.low):
            # A percentile interval need not hold its mean, and matplotlib takes no negative lengths.
            errors = [[max(0.0, value.mean - value.low)], [max(0.0, value.high - value.mean)]]
            axes.errorbar(value.mean, place, xerr=errors, color="black", capsize=3, linewidth=1)
            ends += [value.low, value.high]
        end = max(0, value.mean if math.isnan(value.high) else value.high)
        axes.annotate(f"{value.mean:.3f}", (end, place), (5, 0), textcoords="offset points", va="center", size=9)
    known = [end for end in ends if not math.isnan(end)]
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_yticks(range(len(bars)), [name for name, *_ in bars])
    axes.invert_yaxis()
    axes.set_xlim(1.15 * min(0, *known), 1.15 * max(1e-3, *known))
    axes.spines[["top", "right"]].set_visible(False)
    return axes.get_xlim()
