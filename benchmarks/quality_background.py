"""Regions with and without what is learnt of backgrounds, on collections that have masks or boxes to score with.

One SAE per collection, the same codes and contrast; regions are planned with `--background off` and with `auto`.
Compared is the share of the regions' patches inside the mask, or inside the box, which holds background too; beside it
that of the whole image, and the species with the lowest share. No mask is learnt from.

    python benchmarks/quality_background.py --backbone MODEL --layer 11 --folder OUT TABLE [TABLE …]
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tables import describe_machine, markdown_table

from sae_traits.config import RunConfig
from sae_traits.config.tree import build
from sae_traits.evaluation.part_truth import PartTruth
from sae_traits.features.background import Background
from sae_traits.runs.context import Context
from sae_traits.steps import STEPS, run_steps

HEADER = ["collection", "background", "AUC of edges", "regions", "significant", "scored", "on the organism",
          "whole image", "lowest species"]  # fmt: skip


@dataclass(frozen=True)
class Scored:
    """What the regions of a run lie on."""

    n_regions: int
    n_significant: int
    n_scored: int
    on_organism: float
    """Share of the scored regions' patches."""
    whole_image: float
    """Share of the scored images."""
    lowest: tuple[str, float]
    """Species, and the share of its regions' patches."""


def score(context: Context) -> Scored:
    """Plan the regions of a run, and score those of images that have a mask or a box."""
    collection, info = context.collection, context.features.info
    n_regions = n_significant = n_scored = 0
    inside: dict[str, list[float]] = defaultdict(list)
    images, truth = [], PartTruth(collection)
    for record, candidates in context.plan.candidates():
        n_regions += len(candidates)
        n_significant += sum(candidate.significant for candidate, _ in candidates)
        known = truth.of(candidates[0][0].image, info.grid((record.width, record.height)))
        if known is None or (on_organism := known.on_animal) is None:
            continue
        n_scored += len(candidates)
        images.append(float(on_organism.mean()))
        for candidate, _ in candidates:
            inside[str(record.taxon.species)].extend(on_organism[list(candidate.patches)].tolist())
    lowest = min(((species, float(np.mean(shares))) for species, shares in inside.items()), key=lambda pair: pair[1])
    everything = [share for shares in inside.values() for share in shares]
    return Scored(n_regions, n_significant, n_scored, float(np.mean(everything)), float(np.mean(images)), lowest)


def rows_of(table: Path, folder: Path, backbone: dict[str, str | int]) -> list[list[str]]:
    """The rows of a collection, with `--background off` and with `auto`."""
    options = {"collection": {"source": str(table)}, "features": {"backbone": backbone}}
    context = Context.create(folder, build(RunConfig, options), STEPS)
    with context.writing():
        run_steps(context, ["collect", "extract", "train"])
    rows = []
    for kind in ("off", "auto"):
        context = Context.open(folder, STEPS, {"regions": {"background": kind}})
        run_steps(context, ["encode"])
        found = score(context)
        separation = f"{Background.open(context.folder.background).separation:.2f}" if kind == "auto" else ""
        species, share = found.lowest
        rows.append([
            table.parent.name, kind, separation, f"{found.n_regions:,}", f"{found.n_significant:,}",
            f"{found.n_scored:,}", f"{found.on_organism:.3f}", f"{found.whole_image:.3f}", f"{share:.3f} ({species})",
        ])  # fmt: skip
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path, nargs="+", metavar="TABLE")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--layer", type=int, default=11)
    parser.add_argument("--folder", type=Path, required=True, help="where the runs go")
    given = parser.parse_args()
    backbone: dict[str, str | int] = {"kind": "vision_model", "model": given.backbone, "layer": given.layer}
    rows = [row for table in given.tables for row in rows_of(table, given.folder / table.parent.name, backbone)]
    print(describe_machine() + "\n\n" + markdown_table(HEADER, rows))


if __name__ == "__main__":
    main()
