"""Figures of RUN/evaluation/figures."""

from __future__ import annotations

import hashlib
import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sae_traits.evaluation.zero_shot_results import NAME_AND_TRAITS, NAME_ONLY, ZeroShotResult
from sae_traits.schema import Collection, Trait

if TYPE_CHECKING:
    from sae_traits.evaluation.tasks.species_traits import TraitPicture
    from sae_traits.traits.contact_sheet import OpenPicture

GALLERY_SIZE, MAX_TILES = 20, 100
CLOSE_UPS = "figures/traits/*.jpg"
CLOSE_UP_SIDE, CLOSE_UP_QUALITY = 240, 88

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
    errors = np.maximum(0, [means - lows, highs - means])  # a percentile interval need not hold its mean
    axes.errorbar(means, places, xerr=errors, fmt="none", ecolor="black", capsize=3, linewidth=1)
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


def draw_gallery(collection: Collection, traits: Iterable[Trait], path: Path, open_picture: OpenPicture) -> int:
    """Draw some regions of every species on their images, by the name of the species, as one PNG; how many were drawn.

    Which ones is drawn by lot, the same for the same traits: of each species as many as come to GALLERY_SIZE for all
    species of the collection, at least one, of at most MAX_TILES species, and of an image one alone.

    Args:
        traits: those of an image one after the other.
    """
    from sae_traits.traits.contact_sheet import draw_sheet  # loads matplotlib

    each = max(1, GALLERY_SIZE // len({record.taxon.species for record in collection.images}))
    by_lot: dict[str, list[tuple[int, int, Trait]]] = defaultdict(list)
    for image, of_image in groupby(traits, key=lambda trait: trait.candidate.image):
        lot, trait = min(((_lot(trait), trait) for trait in of_image), key=lambda drawn: drawn[0])
        drawn = by_lot[collection.images[image].taxon.species or "no label"]
        heapq.heappush(drawn, (-lot, image, trait))
        if len(drawn) > each:
            heapq.heappop(drawn)
    shown = [
        (collection.images[image], trait.region, _caption(trait, species))
        for species in sorted(by_lot)[:MAX_TILES]
        for _, image, trait in sorted(by_lot[species], key=lambda item: -item[0])
    ]
    if shown:
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_sheet(shown, open_picture, n_columns=5, side=320).save(path)
    return len(shown)


def draw_close_ups(
    collection: Collection,
    traits: Iterable[Trait],
    pictures: Sequence[TraitPicture],
    folder: Path,
    open_picture: OpenPicture,
) -> None:
    """Draw regions large, each with what is around it, as the files of a folder that `pictures` name; earlier ones go.

    An image that cannot be opened has a file all the same, which says so.
    """
    from sae_traits.traits.contact_sheet import close_up  # loads matplotlib

    for former in folder.glob(CLOSE_UPS):
        former.unlink()
    files: dict[str, list[Path]] = defaultdict(list)
    for picture in pictures:
        files[picture.trait_id].append(folder / picture.file)
    for trait in traits if files else ():
        if trait.trait_id in files:
            record = collection.images[trait.candidate.image]
            drawn = close_up(record, trait.region, open_picture, side=CLOSE_UP_SIDE)
            for file in files[trait.trait_id]:
                file.parent.mkdir(parents=True, exist_ok=True)
                drawn.save(file, quality=CLOSE_UP_QUALITY)


def _lot(trait: Trait) -> int:
    return int.from_bytes(hashlib.blake2b(trait.trait_id.encode(), digest_size=8).digest())


def _caption(trait: Trait, species: str) -> str:
    latent = trait.candidate.latent
    picked_by = trait.candidate.region_source if latent is None else f"latent {latent}"
    return f"{species}, {picked_by}\n{trait.description.text}"
