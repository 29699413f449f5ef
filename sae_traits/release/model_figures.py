"""Figures of the model card: how the training went, and how often the latents fire."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_traits.release.model_record import is_number, mapping

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = {
    "explained_variance": "explained variance",
    "l0": "active latents\nper patch (L0)",
    "dead_share": "share of dead\nlatents",
}
"""What is drawn of a learning curve, from top to bottom, and its name."""
_COLOUR = "#0072B2"
"""Of Okabe & Ito's palette, which colour-blind readers can tell apart."""


def draw_figures(folder: Path, training: Mapping[str, Any]) -> dict[str, str]:
    """Draw what an SAE's record has into `folder/figures`, the same record as the same bytes.

    Returns:
        Caption -> path relative to the folder; only what was drawn.
    """
    curve, histogram = mapping(training.get("curve")), mapping(mapping(training.get("metrics")).get("firing_histogram"))
    columns = {name: curve[name] for name in ("step", *CURVES) if name in curve}
    drawn: dict[str, str] = {}
    if "step" in columns and len(columns) > 1 and _are_columns(columns.values()):
        drawn["Learning curve"] = _draw(_learning_curve, columns, folder, "learning_curve.png")
    if histogram and all(map(is_number, histogram.values())):
        drawn["How often the latents fire"] = _draw(_firing_histogram, histogram, folder, "firing_histogram.png")
    return drawn


def _are_columns(values: Collection[Any]) -> bool:
    """Whether these are lists of numbers, of one length that makes a curve."""
    if not all(isinstance(column, Sequence) and all(map(is_number, column)) for column in values):
        return False
    n_points = {len(column) for column in values}
    return len(n_points) == 1 and min(n_points) > 1


def _learning_curve(figure: Figure, curve: Mapping[str, Sequence[float]]) -> None:
    names = [name for name in CURVES if name in curve]
    figure.set_size_inches(6.5, 0.6 + 1.5 * len(names))
    rows = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for axes, name in zip(rows, names, strict=True):
        axes.plot(curve["step"], curve[name], color=_COLOUR, linewidth=1.5)
        axes.set_ylabel(CURVES[name])
    rows[-1].set_xlabel("training step")
    figure.align_ylabels(rows)


def _firing_histogram(figure: Figure, histogram: Mapping[str, float]) -> None:
    figure.set_size_inches(6.5, 3)
    axes = figure.subplots()
    axes.bar_label(axes.bar(list(histogram), list(histogram.values()), color=_COLOUR), fontsize=9)
    axes.set_xlabel("share of patches at which a latent fires: from here up to the next bar")
    axes.set_ylabel("latents")


def _draw(fill: Callable[[Figure, Any], None], values: Mapping[str, Any], folder: Path, name: str) -> str:
    # The object interface: no global state, and no window system is ever asked for.
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    fill(figure, values)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    (folder / "figures").mkdir(exist_ok=True)
    # Without the version of matplotlib, which would make another release of the same SAE.
    figure.savefig(folder / "figures" / name, dpi=120, metadata={"Software": None})
    return f"figures/{name}"
