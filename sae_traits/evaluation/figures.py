"""Figures of RUN/evaluation/figures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from sae_traits.describers.overlay import draw_region, place_region
from sae_traits.evaluation.evidence import OpenPicture
from sae_traits.evaluation.zero_shot_results import NAME_AND_TRAITS, NAME_ONLY, ZeroShotResult
from sae_traits.schema import Collection, Trait

GALLERY_SIZE = 20
_COLUMNS, _TILE, _CAPTION = 5, 320, 44

_COLOURS = {NAME_ONLY: "#0072B2", NAME_AND_TRAITS: "#D55E00"}
_CONTROL = "#999999"
"""Of Okabe & Ito's palette, which colour-blind readers can tell apart; the controls are grey."""


def draw_bars(result: ZeroShotResult, path: Path) -> None:
    """Draw the top-1 accuracy of every condition with its 95 % interval, and chance, as a PNG."""
    # The object interface: no global state, and no window system is ever asked for.
    from matplotlib.figure import Figure

    conditions = result.conditions
    places = range(len(conditions))
    means = [condition.top1.mean for condition in conditions]
    spread = [
        [condition.top1.mean - condition.top1.low for condition in conditions],
        [condition.top1.high - condition.top1.mean for condition in conditions],
    ]
    figure = Figure(figsize=(7, 0.55 * len(conditions) + 1.6), layout="constrained")
    axes = figure.subplots()
    axes.barh(places, means, color=[_COLOURS.get(condition.name, _CONTROL) for condition in conditions])
    axes.errorbar(means, places, xerr=spread, fmt="none", ecolor="black", capsize=3, linewidth=1)
    axes.axvline(result.chance, color="black", linestyle="--", linewidth=1, label="chance")
    for place, condition in zip(places, conditions, strict=True):
        axes.annotate(
            f"{condition.top1.mean:.3f}",
            (condition.top1.high, place),
            textcoords="offset points",
            xytext=(5, 0),
            va="center",
            fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    axes.set_yticks(places, [condition.name for condition in conditions])
    axes.invert_yaxis()
    axes.set_xlim(0, min(1.12, 1.2 * max(condition.top1.high for condition in conditions) + 0.05))
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
    # matplotlib brings a font that has the multiplication sign of hybrids, which Pillow's own lacks.
    import matplotlib

    step = max(1, n_traits // GALLERY_SIZE)
    chosen = list(islice(traits, 0, step * GALLERY_SIZE, step))
    if not chosen:
        return 0
    rows = math.ceil(len(chosen) / _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * _TILE, rows * (_TILE + _CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), 12)
    for index, trait in enumerate(chosen):
        record = collection.images[trait.candidate.image]
        tile = ImageOps.contain(open_picture(record), (_TILE - 8, _TILE - 8))
        scale = tile.width / record.width, tile.height / record.height
        left, top = index % _COLUMNS * _TILE + 4, index // _COLUMNS * (_TILE + _CAPTION) + 4
        sheet.paste(draw_region(tile, place_region(trait.region, (0, 0), scale)), (left, top))
        latent = trait.candidate.latent
        picked_by = trait.candidate.region_source if latent is None else f"latent {latent}"
        species = record.taxon.species or "no label"
        caption = f"{species}, {picked_by}\n{_shorten(trait.description.text, 44)}"
        draw.multiline_text((left, top + _TILE - 6), caption, fill="black", font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return len(chosen)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
