"""Figures of the model card: how the training went, and how often the latents fire."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = {
    "explained_variance": "explained variance",
    "l0": "active latents\na patch (L0)",
    "dead_share": "share of dead\nlatents",
}
"""What is drawn of a learning curve, from top to bottom, and its name."""
_COLOUR = "#0072B2"
"""Of Okabe & Ito's palette, which colour-blind readers can tell apart."""


def draw_figures(folder: Path, training: Mapping[str, Any]) -> dict[str, str]:
    """Draw what an SAE's record has into `folder/figures`, the same record as the same bytes.

    Args:
        folder: of the SAE.
        training: of its config.json.

    Returns:
        Caption -> path relative to the folder; only what was drawn.
    """
    curve = _numbers(training.get("curve"), lambda value: isinstance(value, Sequence) and all(map(_is_number, value)))
    histogram = _numbers(_mapping(training.get("metrics")).get("firing_histogram"), _is_number)
    drawn: dict[str, str] = {}
    steps, columns = curve.get("step", ()), {name: curve[name] for name in CURVES if name in curve}
    if columns and len(steps) > 1 and all(len(column) == len(steps) for column in columns.values()):
        drawn["Learning curve"] = _save(_learning_curve(steps, columns), folder, "learning_curve.png")
    if histogram:
        drawn["How often the latents fire"] = _save(_firing_histogram(histogram), folder, "firing_histogram.png")
    return drawn


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _numbers(value: Any, is_wanted: Callable[[Any], bool]) -> Mapping[str, Any]:
    """A record of another program may be anything: only one of the expected kind is drawn."""
    record = _mapping(value)
    return record if all(map(is_wanted, record.values())) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _learning_curve(steps: Sequence[float], columns: Mapping[str, Sequence[float]]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 0.6 + 1.5 * len(columns)), layout="constrained")
    rows = figure.subplots(len(columns), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, column) in zip(rows, columns.items(), strict=True):
        axes.plot(steps, column, color=_COLOUR, linewidth=1.5)
        axes.set_ylabel(CURVES[name])
        axes.spines[["top", "right"]].set_visible(False)
    rows[-1].set_xlabel("training step")
    figure.align_ylabels(rows)
    return figure


def _firing_histogram(histogram: Mapping[str, float]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 3), layout="constrained")
    axes = figure.subplots()
    bars = axes.bar(list(histogram), list(histogram.values()), color=_COLOUR)
    axes.bar_label(bars, fontsize=9)
    axes.set_xlabel("share of patches at which a latent fires: from here up to the next bar")
    axes.set_ylabel("latents")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _save(figure: Figure, folder: Path, name: str) -> str:
    (folder / "figures").mkdir(exist_ok=True)
    # Without the version of matplotlib, which would make another release of the same SAE.
    figure.savefig(folder / "figures" / name, dpi=120, metadata={"Software": None})
    return f"figures/{name}"
