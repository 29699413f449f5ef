"""How much of what regions lie on depends on the seed, on how many individuals there are, and on the last digits.

One extraction per collection. Then, always with everything else as it is by default: SAEs and samples of other seeds;
a few training individuals per species, all others held out; and every threshold 2 % lower and 2 % higher. The regions
are scored as `sae-traits parts` does, on what the collection and the files know; no choice depends on that.

    python benchmarks/quality_robustness.py --backbone MODEL --folder OUT [--boxes FILE] [--keypoints FILE] TABLE
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
from tables import describe_machine, markdown_table

from sae_traits.config import RunConfig, SAERegions
from sae_traits.config.regions import SpecimenContrast
from sae_traits.config.train import TrainConfig
from sae_traits.config.tree import build
from sae_traits.evaluation.part_files import read_part_files
from sae_traits.evaluation.part_measuring import ratios_of
from sae_traits.evaluation.part_regions import Method, RegionTable, gather
from sae_traits.evaluation.part_truth import ImageTruth, PartTruth
from sae_traits.evaluation.parts import mean_per_species
from sae_traits.features import background, organism, plain_ground
from sae_traits.geometry import PatchGrid
from sae_traits.runs.context import Context
from sae_traits.sae.collection_training import train_on_source
from sae_traits.sae.model import SAE
from sae_traits.schema import Collection
from sae_traits.steps import STEPS, run_steps
from sae_traits.traits import candidates, chosen, contrast, organism_patches, usual_places
from sae_traits.traits.codes import Codes
from sae_traits.traits.encode import encode_collection, firing_thresholds, training_weights
from sae_traits.traits.organism_patches import with_organism
from sae_traits.traits.plan import plan_regions

INDIVIDUALS = (5, 10, 30)
CHANGES = (0.98, 1.02)
CONSTANTS_OF_ENCODING: tuple[tuple[ModuleType, str], ...] = (
    *((background, name) for name in ("EDGE", "MIDDLE", "SEEN_WITHIN", "INVERSE_PENALTY", "SMOOTHING")),
    *((plain_ground, name) for name in ("MAX_DEVIATION", "MIN_SHARE", "MIN_SURROUNDED")),
    *((organism_patches, name) for name in ("SHOWS_ORGANISM", "SHOWS_NONE", "PROBABLY_BACKGROUND")),
    (organism, "KERNEL_WIDTH"),
    (usual_places, "MAX_PATCH_BACKGROUND"),
    (usual_places, "SMOOTHING"),
)
"""Of how backgrounds, organisms and usual places are learnt, each with the module that reads it."""
CONSTANTS_OF_PLAN: tuple[tuple[ModuleType, str], ...] = (
    (chosen, "MAX_BACKGROUND"),
    (candidates, "MAX_REGION_BACKGROUND"),
    (candidates, "SUREST"),
    (usual_places, "NEARNESS"),
    (contrast, "SIGNIFICANT_Q"),
    (contrast, "PRIOR_STRENGTH"),
)
"""Of the contrast and the candidates."""
OPTIONS = ("max_overlap", "contrast.max_species_share", "contrast.min_evidence")
"""Of the regions; `contrast.firing_quantile` decides where latents fire, too."""
HEADER = ["changed", "AUC of edges", "regions", "significant", "on the organism", "significant ones", "by chance",
          "lowest species", "species below chance", "held-out part", "R2 of location"]  # fmt: skip


class KnownTruth(PartTruth):
    """What is known of the images, each opened once."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._opened: dict[int, ImageTruth | None] = {}

    def of(self, row: int, grid: PatchGrid) -> ImageTruth | None:
        """What is known of an image; the grid is that of the same backbone each time."""
        if row not in self._opened:
            self._opened[row] = super().of(row, grid)
        return self._opened[row]


@dataclass(frozen=True)
class Encoded:
    """Where latents fire in a collection, and what was learnt of its backgrounds."""

    collection: Collection
    codes: Codes
    separation: float


@dataclass(frozen=True)
class Bench:
    """What all rows share."""

    context: Context
    truth: KnownTruth
    train: TrainConfig

    def sae(self, name: str, collection: Collection, seed: int) -> SAE:
        """An SAE of the training images of a collection, trained unless it is there."""
        folder = self.context.folder.path / "saes" / name
        if not folder.exists():
            config = replace(self.train, seed=seed)
            trained = train_on_source(
                self.context.features, collection.rows("train"), config, [config], collection=name,
                checkpoint=self.context.folder.checkpoint, accelerator=self.context.accelerator,
            )  # fmt: skip
            self.context.folder.checkpoint.unlink(missing_ok=True)
            trained[0].save_pretrained(folder)
        return SAE.from_pretrained(folder)

    def encode(
        self, collection: Collection, sae: SAE, *, quantile_factor: float = 1.0, factor: float = 1.0, seed: int = 0
    ) -> Encoded:
        """Learn backgrounds, and find where latents fire, as the step `encode` does.

        Args:
            quantile_factor: what the default of the option `firing_quantile` is multiplied with.
            factor: what every firing threshold is multiplied with.
            seed: of the photographs that backgrounds are learnt from.
        """
        source, images = self.context.features, collection.images
        learnt = background.learn_background(collection, self.context.backbone, source, seed=seed)
        quantile = SpecimenContrast().quantile_for(source.info.rows * source.info.columns) * quantile_factor
        thresholds = firing_thresholds(sae, source, training_weights(images), quantile) * np.float32(factor)
        if learnt.is_known:
            learnt = with_organism(learnt, sae, source, thresholds, images, seed=seed)
        folder = Path(mkdtemp(prefix="codes-", dir=self.context.folder.path))
        weights = training_weights(images)
        of_patches = learnt.of_patches(source.info)
        codes = encode_collection(sae, source, thresholds, folder, background=of_patches, weights=weights)
        return Encoded(collection, codes, learnt.separation)

    def row(self, name: str, encoded: Encoded, regions: SAERegions | None = None) -> list[str]:
        """Plan the regions, by default with the default options, and score them."""
        collection, codes, info = encoded.collection, encoded.codes, self.context.features.info
        plan = plan_regions(regions or SAERegions(), collection, info, codes=codes)
        species = sorted({str(record.taxon.species) for record in collection.images if record.taxon.species})
        numbers = {name: number for number, name in enumerate(species)}
        tables, _ = gather({"sae": Method(plan, codes)}, collection, info, self.truth, numbers)
        found, _ = tables["sae"]
        row = [name, f"{encoded.separation:.2f}", *self.figures(found, species)]
        print(" | ".join(row), flush=True)
        return row

    def figures(self, found: RegionTable, species: list[str]) -> list[str]:
        """What a row says of some regions; without any only that."""
        if not len(found.image):
            return ["0", "0", *[""] * (len(HEADER) - 4)]
        ratios = ratios_of(found, len(species), len(self.truth.parts))
        chance = mean_per_species(found.chance, found.species, len(species))
        inside = ratios["inside_significant" if "inside_significant" in ratios else "inside"].by_species
        below = [name for name, share, least in zip(species, inside, chance.by_species, strict=True) if share < least]
        lowest = int(np.nanargmin(inside))

        def value(measure: str) -> str:
            return f"{ratios[measure].value:.3f}" if measure in ratios else ""

        return [
            f"{len(found.image):,}", f"{int(found.significant.sum()):,}", value("inside"), value("inside_significant"),
            f"{chance.value:.3f}", f"{inside[lowest]:.3f} ({species[lowest]})", ", ".join(below) or "none",
            value("held_out_part"), value("location"),
        ]  # fmt: skip


def few_individuals(collection: Collection, n: int, seed: int) -> Collection:
    """The collection with at most `n` training individuals per species, drawn at random; the others are held out."""
    of_species: dict[str | None, list[str]] = defaultdict(list)
    for record in collection.images:
        if record.split == "train" and record.individual_id not in of_species[record.taxon.species]:
            of_species[record.taxon.species].append(record.individual_id)
    generator = np.random.default_rng(seed)
    kept = {str(name) for names in of_species.values() for name in generator.permutation(sorted(names))[:n]}
    images = tuple(
        replace(record, split="test") if record.split == "train" and record.individual_id not in kept else record
        for record in collection.images
    )
    return replace(collection, images=images)


def changed_regions(option: str, change: float) -> SAERegions:
    """The default options with one of OPTIONS multiplied."""
    regions = SAERegions()
    section, _, name = option.rpartition(".")
    if not section:
        return replace(regions, **{name: getattr(regions, name) * change})
    return replace(regions, contrast=replace(regions.contrast, **{name: getattr(regions.contrast, name) * change}))


def rows_of_samples(bench: Bench, n_seeds: int) -> Iterator[list[str]]:
    """A row per seed, and per number of training individuals."""
    collection = bench.context.collection
    for seed in range(n_seeds):
        sae = bench.sae(f"seed-{seed}", collection, seed)
        yield bench.row(f"seed {seed}", bench.encode(collection, sae, seed=seed))
    for n in INDIVIDUALS:
        few = few_individuals(collection, n, seed=0)
        yield bench.row(f"{n} individuals per species", bench.encode(few, bench.sae(f"individuals-{n}", few, 0)))


def label(module: ModuleType, name: str) -> str:
    """What a constant is called in the table."""
    return f"{module.__name__.rpartition('.')[2]}.{name}"


def rows_of_changes(bench: Bench) -> Iterator[list[str]]:
    """A row per threshold, lower and higher, with the SAE of seed 0."""
    collection = bench.context.collection
    sae = bench.sae("seed-0", collection, 0)
    encoded = bench.encode(collection, sae)
    for change in CHANGES:
        for module, name in CONSTANTS_OF_PLAN:
            with patch.object(module, name, getattr(module, name) * change):
                yield bench.row(f"{label(module, name)} x {change}", encoded)
        for option in OPTIONS:
            yield bench.row(f"{option} x {change}", encoded, changed_regions(option, change))
        for module, name in CONSTANTS_OF_ENCODING:
            with patch.object(module, name, getattr(module, name) * change):
                yield bench.row(f"{label(module, name)} x {change}", bench.encode(collection, sae))
        yield bench.row(f"firing_quantile x {change}", bench.encode(collection, sae, quantile_factor=change))
        yield bench.row(f"firing thresholds x {change}", bench.encode(collection, sae, factor=change))


def bench_of(
    folder: Path, table: Path, backbone: dict[str, str | int], files: dict[str, Path | None], n_patches: int
) -> Bench:
    """Extract the features of a collection, unless they are there."""
    options = {"collection": {"source": str(table)}, "features": {"backbone": backbone}}
    context = Context.create(folder, build(RunConfig, options), STEPS)
    with context.writing():
        run_steps(context, ["collect", "extract"])
    truth = KnownTruth(context.collection, read_part_files(context.collection, **files))
    return Bench(context, truth, TrainConfig(n_patches=n_patches))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, metavar="TABLE")
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--layer", type=int, default=11)
    parser.add_argument("--folder", type=Path, required=True, help="where features and SAEs go")
    parser.add_argument("--boxes", type=Path)
    parser.add_argument("--keypoints", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--patches", type=int, default=TrainConfig().n_patches, help="that each SAE is trained on")
    given = parser.parse_args()
    backbone: dict[str, str | int] = {"kind": "vision_model", "model": given.backbone, "layer": given.layer}
    files = {"boxes": given.boxes, "keypoints": given.keypoints}
    bench = bench_of(given.folder, given.table, backbone, files, given.patches)
    rows = [*rows_of_samples(bench, given.seeds), *rows_of_changes(bench)]
    print(describe_machine() + "\n\n" + markdown_table(HEADER, rows))


if __name__ == "__main__":
    main()
