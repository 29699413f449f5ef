"""Dictionaries that start differently and have fewer active latents: do their latents say more about where?

One extraction per collection; per initialisation, k and seed an SAE of its own, whose regions are measured as
`sae-traits parts` does, beside k-means and random directions. Without --keypoints the collection's masks or boxes are
what is known; without a table it is the drawn world, with its part masks.

    python benchmarks/quality_dictionary.py --folder OUT [--seeds 2] [--starts random:16 k_means:8]
    python benchmarks/quality_dictionary.py --folder OUT --backbone MODEL --table TABLE [--keypoints FILE]
        [--second-layer 7]
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tables import describe_machine, markdown_table

from sae_traits.config import RunConfig
from sae_traits.config.layers import read_config, recipe_file
from sae_traits.config.tree import build
from sae_traits.evaluation.part_evidence import PartEvidence
from sae_traits.runs.baselines import BASELINES
from sae_traits.runs.context import Context
from sae_traits.steps import STEPS, run_steps
from sae_traits.steps.parts import write_parts
from sae_traits.testbench.drawn import Truth, draw_collection, part_labels_file

HEADER = (
    "initialisation", "k", "seed", "explained variance", "dead", "monosemanticity", "regions", "on the organism",
    "held-out part", "less k-means", "R2 of location", "less k-means", "less random", "detectors (parts)",
)  # fmt: skip


def write_part_masks(collection: Path, folder: Path) -> None:
    """Masks of the parts of the drawn world, as IMAGE/PART.png."""
    truth = Truth.load(collection)
    for image in sorted((collection / "images").rglob("*.*")):
        file = image.relative_to(collection).as_posix()
        with Image.open(collection / part_labels_file(file)) as picture:
            labels = np.asarray(picture)
        for part in np.unique(labels[labels > 0]).tolist():
            path = folder / Path(file).with_suffix("") / f"{truth.parts[part]}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.where(labels == part, 255, 0).astype(np.uint8)).save(path)


def row_of(context: Context, evidence: PartEvidence, kind: str, k: str, seed: int) -> list[str]:
    """The figures of one SAE."""
    metrics = context.sae.config.training["metrics"]
    own = evidence.methods["sae"]

    def value(measure: str) -> str:
        return f"{own.measures[measure].value:.3f}" if measure in own.measures else ""

    def less(other: str, measure: str) -> str:
        return str(evidence.differences[other].get(measure, ""))

    detectors = f"{own.detectors.n_latents} ({own.detectors.n_parts})" if own.detectors else ""
    return [
        kind, k, str(seed), f"{metrics['explained_variance']:.3f}", f"{metrics['dead_share']:.1%}",
        f"{metrics['monosemanticity']['mean']:.3f}", f"{own.n_regions:,}", value("inside"), value("held_out_part"),
        less("k_means", "held_out_part"), value("location"), less("k_means", "location"), less("random", "location"),
        detectors,
    ]  # fmt: skip


def baseline_row(evidence: PartEvidence, name: str) -> list[str]:
    """The figures of a baseline, on at most as many regions per image as the last SAE has."""
    of_kind = evidence.methods[name]
    values = {measure: f"{found.value:.3f}" for measure, found in of_kind.measures.items()}
    detectors = f"{of_kind.detectors.n_latents} ({of_kind.detectors.n_parts})" if of_kind.detectors else ""
    return [
        name, "", "", "", "", "", f"{of_kind.n_regions:,}", values.get("inside", ""), values.get("held_out_part", ""),
        "", values.get("location", ""), "", "", detectors,
    ]  # fmt: skip


def rows_of(
    folder: Path, options: dict[str, Any], files: dict[str, Path], given: argparse.Namespace
) -> list[list[str]]:
    """A row per SAE, and one per baseline."""
    context = Context.create(folder, build(RunConfig, options), STEPS)
    with context.writing():
        run_steps(context, ["collect", "extract"])
    rows, evidence = [], None
    for start, seed in product(given.starts, range(given.seeds)):
        kind, _, k = start.partition(":")
        train = {"architecture": {"kind": "topk", "k": int(k)}, "initialisation": kind, "seed": seed}
        context = Context.open(folder, STEPS, {"train": train})
        run_steps(context, ["train", "encode"])
        evidence = write_parts(context, files, baselines=BASELINES)
        rows.append(row_of(context, evidence, kind, k, seed))
        print(" | ".join(rows[-1]), flush=True)
    assert evidence is not None
    return rows + [baseline_row(evidence, name) for name in BASELINES]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the run goes")
    parser.add_argument("--table", type=Path, help="of a collection; by default the drawn world")
    parser.add_argument("--backbone")
    parser.add_argument("--layer", type=int, default=11)
    parser.add_argument("--second-layer", type=int)
    parser.add_argument("--keypoints", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--starts", nargs="+", default=["random:16", "k_means:16", "k_means:8", "k_means:4"],
                        metavar="INITIALISATION:K")  # fmt: skip
    given = parser.parse_args()
    if given.table is None and (given.backbone or given.second_layer is not None or given.keypoints):
        parser.error("--backbone, --second-layer and --keypoints are about a --table; the drawn world has its own")
    if given.table is None:
        collection, masks = given.folder / "collection", given.folder / "part_masks"
        draw_collection(collection)
        write_part_masks(collection, masks)
        options = {**read_config(recipe_file("demo.yaml")), "collection": {"source": str(collection)}}
        files = {"part_masks": masks}
    else:
        backbone = {
            "kind": "vision_model",
            "model": given.backbone,
            "layer": given.layer,
            "second_layer": given.second_layer,
        }
        options = {"collection": {"source": str(given.table)}, "features": {"backbone": backbone}}
        files = {"keypoints": given.keypoints} if given.keypoints else {}
    rows = rows_of(given.folder / "run", options, files, given)
    print(describe_machine() + "\n\n" + markdown_table(HEADER, rows))


if __name__ == "__main__":
    main()
