"""Figures of RUN/evaluation/figures."""

from __future__ import annotations

from pathlib import Path

from sae_traits.evaluation.zero_shot_results import NAME_AND_TRAITS, NAME_ONLY, ZeroShotResults

_COLOURS = {NAME_ONLY: "#0072B2", NAME_AND_TRAITS: "#D55E00"}
_CONTROL = "#999999"
"""Of Okabe & Ito's palette, which colour-blind readers can tell apart; the controls are grey."""


def draw_bars(results: ZeroShotResults, path: Path) -> None:
    """Top-1 accuracy of every condition with its 95 % interval, and chance, as a PNG."""
    # The object interface: no global state, and no window system is ever asked for.
    from matplotlib.figure import Figure

    scores = results.conditions
    places = range(len(scores))
    means = [score.top[1].mean for score in scores]
    spread = [
        [score.top[1].mean - score.top[1].low for score in scores],
        [score.top[1].high - score.top[1].mean for score in scores],
    ]
    figure = Figure(figsize=(7, 0.55 * len(scores) + 1.6), layout="constrained")
    axes = figure.subplots()
    axes.barh(places, means, color=[_COLOURS.get(score.condition, _CONTROL) for score in scores])
    axes.errorbar(means, places, xerr=spread, fmt="none", ecolor="black", capsize=3, linewidth=1)
    axes.axvline(results.protocol["chance"], color="black", linestyle="--", linewidth=1, label="chance")
    for place, score in zip(places, scores, strict=True):
        axes.annotate(
            f"{score.top[1].mean:.3f}",
            (score.top[1].high, place),
            textcoords="offset points",
            xytext=(5, 0),
            va="center",
            fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    axes.set_yticks(places, [score.condition for score in scores])
    axes.invert_yaxis()
    axes.set_xlim(0, min(1.12, 1.2 * max(score.top[1].high for score in scores) + 0.05))
    axes.set_xlabel(f"top-1 accuracy on {results.protocol['n_test']} test images (95 % interval)")
    if not results.above_chance:
        axes.set_title("Not distinguishable from chance", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
