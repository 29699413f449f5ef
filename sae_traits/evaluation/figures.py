"""Figures of RUN/evaluation/figures."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np

from sae_traits.evaluation.zero_shot_results import NAME_AND_TRAITS, NAME_ONLY, ZeroShotResult
from sae_traits.schema import Collection, Trait

if TYPE_CHECKING:
    from sae_traits.traits.contact_sheet import OpenPicture

GALLERY_SIZE = 20

_COLOURS = {NAME_ONLY: "#0072B2", NAME_AND_TRAITS: "#D55E00"}
_CONTROL = "#999999"
"""Of Okabe & Ito's palette, which colour-blind readers can tell apart; the controls are grey."""


def draw_bars(result: ZeroShotResult, path: Path) -> None:
    """Draw the top-1 accuracy of every condition with its 95 % interval, and chance, as a PNG."""
    # The object interface: no global state, and no window system is ever asked for.
    from matplotlib.figure import Figure

    conditions = result.conditions
    places = range(len(conditions))
    means, lows, highs = np.array([(c.top1.mean, c.top1.low, c.top1.high) for c in conditions]).T
    figure = Figure(figsize=(7, 0.55 * len(conditions) + 1.6), layout="constrained")
    axes = figure.subplots()
    axes.barh(places, means, color=[_COLOURS.get(condition.name, _CONTROL) for condition in conditions])
    axes.errorbar(means, places, xerr=[means - lows, highs - means], fmt="none", ecolor="black", capsize=3, linewidth=1)
    axes.axvline(result.chance, color="black", linestyle="--", linewidth=1, label="chance")
    background = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    for place, mean, high in zip(places, means, highs, strict=True):
        where = {"xy": (high, place), "xytext": (5, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(f"{mean:.3f}", **where, fontsize=9, bbox=background)
    axes.set_yticks(places, [condition.name for condition in conditions])
    axes.invert_yaxis()
    axes.set_xlim(0, min(1.12, 1.2 * max(highs) + 0.05))
    axes.set_xlabel(f"top-1 accuracy on {result.n_test} test images (95 % interval)")
    if not result.above_chance:
        axes.set_title("Not distinguishable from chance", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def draw_gallery(
    collection: Collection, traits: Iterable[Trait], n_traits: int, path: Path, open_picture: OpenPicture
) -> int:
    """Draw some regions on their images, spread evenly over the `n_traits` traits, as one PNG; how many were drawn."""
    from sae_traits.traits.contact_sheet import draw_sheet  # loads matplotlib

    step = max(1, n_traits // GALLERY_SIZE)
    shown = [
        (record, trait.region, _caption(trait, record.taxon.species or "no label"))
        for trait in islice(traits, 0, step * GALLERY_SIZE, step)
        for record in [collection.images[trait.candidate.image]]
    ]
    if shown:
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_sheet(shown, open_picture, n_columns=5, side=320).save(path)
    return len(shown)


def _caption(trait: Trait, species: str) -> str:
    latent = trait.candidate.latent
    picked_by = trait.candidate.region_source if latent is None else f"latent {latent}"
    return f"{species}, {picked_by}\n{shorten(trait.description.text, 44, placeholder='…')}"
