"""Our choice of latents and regions against the paper's on the drawn world, at one firing threshold, row for row.

For every seed a world is drawn, its features extracted and an SAE trained once; then the same codes are given to

- image: the default, `specimen_contrast`, and the places where a species' latents agree, each told once;
- paper: Algorithm 1 and every region of its latents, the strongest first, backgrounds unknown, as in the paper;
- paper, places apart: the same, but a place is told once;
- paper, our regions: Algorithm 1, the rest as ours.

Two choices are compared on as many rows of each image as the shorter of them has, the strongest first. Species with
congeners only: the paper finds nothing for the others, which have columns of their own. Recall and false discoveries
are those of `sae_traits.testbench.truth`. A minute or two a seed on two cores:

    python benchmarks/drawn_contrast.py [--seeds 0 1 2]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tables import markdown_table

from sae_traits.config import RunConfig
from sae_traits.config.layers import read_config, recipe_file
from sae_traits.config.regions import Contrast, PaperContrast, SAERegions, SpecimenContrast
from sae_traits.config.tree import build
from sae_traits.evaluation.statistics import Interval, bootstrap_interval
from sae_traits.runs.context import Context
from sae_traits.steps import STEPS, run_steps
from sae_traits.testbench.drawn import Truth, draw_collection
from sae_traits.testbench.truth import PartMap
from sae_traits.traits.candidates import all_candidates
from sae_traits.traits.codes import Codes
from sae_traits.traits.plan import plan_regions

FIRING_QUANTILE = 0.7
"""Of all ways alike: the threshold is a latent's own quantile."""
OURS = SAERegions()
PAPER = replace(OURS, background="off", max_overlap=1.0, contrast=SpecimenContrast(min_evidence=0.0))
OTHERS = {
    "paper, our regions": OURS,
    "paper": PAPER,
    "paper, places apart": replace(PAPER, max_overlap=OURS.max_overlap),
}
"""How regions are taken of the latents that Algorithm 1 chose. The paper knows nothing of backgrounds."""
Regions = list[list[tuple[int, ...]]]
"""The patches of every region of every image, the strongest first."""


@dataclass(frozen=True, slots=True)
class ImageCounts:
    """What the regions of one image found; what two ways to choose regions are compared by."""

    species: str
    alone_in_genus: bool
    n_diagnostic: int
    """Diagnostic traits whose part is in sight."""
    n_found: int
    """Of these, on whose part a region lies."""
    n_regions: int
    n_false: int
    """Regions that lie on no part with a diagnostic trait."""


@dataclass(frozen=True)
class World:
    """One drawn world, and the regions that each way chose in it."""

    context: Context
    ours: Regions
    others: dict[str, Regions]
    """By the names of OTHERS."""

    def count(self, regions: Regions) -> list[ImageCounts]:
        """What the regions found, by the rules of `truth.score`; one entry per image."""
        collection, info = self.context.collection, self.context.features.info
        truth = Truth.load(collection.root)
        counts = []
        for record, of_image in zip(collection.images, regions, strict=True):
            species = truth.of(record.species)
            grid = info.grid((record.width, record.height))
            part_map = PartMap.load(collection, record, grid, len(truth.parts))
            lies_on = part_map.lies_on(of_image)
            parts = [truth.parts.index(trait.part) for trait in species.diagnostic]
            in_sight = part_map.in_sight(parts)
            counts.append(
                ImageCounts(
                    species=record.species,
                    alone_in_genus=species.alone_in_genus,
                    n_diagnostic=len(in_sight),
                    n_found=int(lies_on[:, in_sight].any(axis=0).sum()),
                    n_regions=len(of_image),
                    n_false=int((~lies_on[:, parts].any(axis=1)).sum()),
                )
            )
        return counts


def make_world(folder: Path, seed: int) -> World:
    """Draw a world and choose regions in it."""
    draw_collection(folder / "collection", seed=seed)
    given = {
        "collection": {"source": str(folder / "collection"), "split_seed": seed},
        "train": {"seed": seed},
        "regions": {"contrast": {"firing_quantile": FIRING_QUANTILE}},
    }
    context = Context.create(folder, build(RunConfig, read_config(recipe_file("demo.yaml")), given), STEPS)
    with context.writing():
        run_steps(context, ["collect", "extract", "train", "encode"])
    ours, others = choose_regions(context, OURS.contrast, OURS), {}
    for name, options in OTHERS.items():
        of_codes = Context.open(folder, STEPS, {"regions": {"background": options.background}})
        run_steps(of_codes, ["encode"])
        others[name] = choose_regions(of_codes, PaperContrast(), options)
    return World(context, ours, others)


def choose_regions(context: Context, contrast: Contrast, options: SAERegions) -> Regions:
    """The regions of every image, by the latents of one contrast, from the codes of the run."""
    codes, collection, info = Codes.open(context.folder.codes), context.collection, context.features.info
    chosen = plan_regions(replace(OURS, contrast=contrast), collection, info, codes=codes).chosen
    regions: Regions = [[] for _ in collection.images]
    for _, candidates in all_candidates(codes, collection.images, chosen, info, options):
        regions[candidates[0][0].image] = [candidate.patches for candidate, _ in candidates]
    return regions


def row_for_row(first: Regions, second: Regions) -> tuple[Regions, Regions]:
    """Of each image as many of the strongest regions as both have."""
    n_rows = [min(len(a), len(b)) for a, b in zip(first, second, strict=True)]
    return [a[:n] for a, n in zip(first, n_rows, strict=True)], [b[:n] for b, n in zip(second, n_rows, strict=True)]


def recall_of_species(counts: Sequence[ImageCounts]) -> dict[str, float]:
    """Share of the diagnostic traits in sight that were found, a species with congeners each."""
    species = sorted({c.species for c in counts if not c.alone_in_genus})
    return {
        name: sum(c.n_found for c in counts if c.species == name)
        / sum(c.n_diagnostic for c in counts if c.species == name)
        for name in species
    }


@dataclass(frozen=True)
class Score:
    """Of some images."""

    recall: float
    false: float
    """Share of the regions that lie on no part with a diagnostic trait."""
    rows: float
    """Regions an image."""

    @classmethod
    def of(cls, counts: Sequence[ImageCounts], *, alone: bool) -> Score:
        """Of the species alone in their genus, or of the others."""
        mine = [c for c in counts if c.alone_in_genus == alone]
        n_regions = sum(c.n_regions for c in mine)
        return cls(
            recall=sum(c.n_found for c in mine) / sum(c.n_diagnostic for c in mine),
            false=sum(c.n_false for c in mine) / max(n_regions, 1),
            rows=n_regions / len(mine),
        )


def compare(worlds: dict[int, World], other: dict[int, Regions]) -> str:
    """A table: image against one other, row for row, each seed and all."""
    differences: list[tuple[str, float]] = []
    scores: list[tuple[Score, Score]] = []
    rows = []
    for seed, world in worlds.items():
        ours, theirs = (world.count(regions) for regions in row_for_row(world.ours, other[seed]))
        recalls, other_recalls = recall_of_species(ours), recall_of_species(theirs)
        own = [(species, recall - other_recalls[species]) for species, recall in recalls.items()]
        differences += own
        scores.append((Score.of(ours, alone=False), Score.of(theirs, alone=False)))
        rows.append(comparison_row(str(seed), [scores[-1]], over_species(own)))
    rows.append(comparison_row("all", scores, over_species(differences)))
    header = [
        "seed", "rows an image", "recall, image", "recall, other", "difference over species", "false, image",
        "false, other",
    ]  # fmt: skip
    return markdown_table(header, rows)


def over_species(differences: Sequence[tuple[str, float]]) -> Interval:
    """Mean difference with its 95 % interval: a species is drawn with all its seeds."""
    return bootstrap_interval([d for _, d in differences], groups=[species for species, _ in differences])


def comparison_row(label: str, scores: Sequence[tuple[Score, Score]], difference: Interval) -> list[str]:
    """One row of a comparison's table; means over the seeds."""
    ours, theirs = zip(*scores, strict=True)

    def mean(scores: Sequence[Score], what: str) -> str:
        return f"{np.mean([getattr(score, what) for score in scores]):.3f}"

    return [
        label, mean(ours, "rows"), mean(ours, "recall"), mean(theirs, "recall"), str(difference), mean(ours, "false"),
        mean(theirs, "false"),
    ]  # fmt: skip


def main() -> None:
    """Make the worlds and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, help="keeps the worlds, and goes on with those that are there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        worlds = {seed: make_world(folder / f"seed-{seed}", seed) for seed in arguments.seeds}
        rows = []
        for seed, world in worlds.items():
            counts = world.count(world.ours)
            scores = [Score.of(counts, alone=alone) for alone in (False, True)]
            rows.append([str(seed), *(f"{v:.3f}" for s in scores for v in (s.recall, s.false, s.rows))])
        header = ["seed", "with congeners: recall", "false", "rows", "alone in their genus: recall", "false", "rows"]
        print("\nspecimen, all its rows\n\n" + markdown_table(header, rows))
        for name in OTHERS:
            print(f"\nspecimen against {name}, row for row, species with congeners\n")
            print(compare(worlds, {seed: world.others[name] for seed, world in worlds.items()}))


if __name__ == "__main__":
    main()
