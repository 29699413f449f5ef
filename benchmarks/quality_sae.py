"""How well dictionaries reconstruct at equal sparsity: ours, those of SAELens and dictionary_learning, and baselines.

    SAE_TRAITS_SHARED=FOLDER python benchmarks/quality_sae.py [--work runs/quality_sae] [--patches 500000]

Features of butterfly photographs (MobileNetV2, layer 11: 96 components), dictionaries of 1,536 latents, three
sparsities, two seeds. All see the same patches in the same order and are measured on photographs that none was trained
on. Every cell leaves a JSON file in the work folder, so a second call goes on where the first was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Protocol, get_args

import numpy as np
import torch
from contestants import NAMES, OURS, check_environments, run_task
from peers.contract import PATCHES, Task
from safetensors.torch import load_file, save_file
from tables import describe_machine, markdown_table

from sae_traits.config import RunConfig
from sae_traits.config.train import Architecture, ReLU, TrainConfig
from sae_traits.config.tree import build
from sae_traits.features.store import FeatureShard, FeatureStore
from sae_traits.features.stream import PatchStream
from sae_traits.runs.context import Context
from sae_traits.sae.baselines import fit_baseline
from sae_traits.sae.metrics import measure_sae
from sae_traits.sae.model import SAE
from sae_traits.sae.monosemanticity import measure_monosemanticity
from sae_traits.sae.trainer import peak_learning_rate
from sae_traits.schema import Collection
from sae_traits.steps import STEPS, run_steps
from sae_traits.vocabulary import Split

D_MODEL = 96
N_LATENTS = 1536
BATCH_SIZE = 1024
SEEDS = (0, 1)
ACTIVE_LATENTS = (8, 16, 32)
"""k of the architectures that have one."""
L1_COEFFICIENTS = (3e-2, 6e-2, 1.2e-1)
"""For relu, on unscaled features."""
WARMUP_STEPS = 50
DECAY_SHARE = 0.2
"""That of our trainer."""
PEERS = ("sae_lens", "dictionary_learning")
SUPPORT = {"centre": True, "learning_rate": 1e-3}
REVIVAL = {"dead_after": 200_000}
"""What our trainer does for itself: centred features, its learning rate, its wait before a latent counts as dead (the
others' ReLU trainers have no loss for dead latents)."""
RELU_RATE = {"learning_rate": peak_learning_rate(TrainConfig(architecture=ReLU()), D_MODEL)}
"""That of our ReLU, which is higher than 1e-3, the default of the others."""
FITTED_PATCHES = 100_000
"""Sample that baselines are fitted to."""
NMF_SIZES = (32, 64, 96)


class Cell(Protocol):
    """One dictionary: who makes it, how sparse it is meant to be, from which seed."""

    @property
    def label(self) -> str:
        """Names its rows of the table."""
        ...

    @property
    def sparsity(self) -> str:
        """What was asked for."""
        ...

    @property
    def seed(self) -> int:
        """Of the order of the patches, and of what else is random."""
        ...

    def make(self, work: Path, n_patches: int) -> SAE:
        """Train or fit it on the patches of its seed."""
        ...


@dataclass(frozen=True)
class TrainedCell:
    """An SAE that a library trains."""

    name: str
    """Module in `peers`."""
    architecture: str
    setting: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    """Of the Task, with `k` or `l1_coefficient`."""
    seed: int = 0

    @property
    def label(self) -> str:
        """Library, architecture, setting."""
        return f"{NAMES[self.name]} {self.architecture}" + (f", {self.setting}" if self.setting else "")

    @property
    def sparsity(self) -> str:
        """k, or the weight of the L1 penalty."""
        return f"k {self.options['k']}" if "k" in self.options else f"L1 {self.options['l1_coefficient']:g}"

    def make(self, work: Path, n_patches: int) -> SAE:
        """Train in a process of the library's environment."""
        n_steps = n_patches // BATCH_SIZE
        out = work / "saes" / slug(self)
        task = Task(
            action="train",
            patches=str(patches_file(work, self.seed)),
            architecture=self.architecture,
            n_latents=N_LATENTS,
            n_steps=n_steps,
            batch_size=BATCH_SIZE,
            warmup_steps=min(WARMUP_STEPS, n_steps // 5),
            decay_steps=int(DECAY_SHARE * n_steps),
            seed=self.seed,
            threads=1,
            out=str(out),
            **self.options,
        )
        run_task(self.name, task)
        return SAE.from_pretrained(out)


@dataclass(frozen=True)
class BaselineCell:
    """A dictionary that is fitted to a sample."""

    name: str
    n_latents: int
    k: int
    seed: int

    @property
    def label(self) -> str:
        """The baseline."""
        return f"baseline {self.name}"

    @property
    def sparsity(self) -> str:
        """k where it can be chosen, else the size."""
        return f"k {self.k}" if self.name == "random" else f"{self.n_latents} latents"

    def make(self, work: Path, n_patches: int) -> SAE:
        """Fit to the first patches."""
        patches = load_file(patches_file(work, self.seed))[PATCHES][:FITTED_PATCHES]
        return fit_baseline(self.name, patches, self.n_latents, k=self.k, seed=self.seed)


def our_cells() -> Iterator[Cell]:
    """Every architecture that sae-traits trains."""
    for architecture in get_args(Architecture):
        yield from at_all_sparsities(TrainedCell(OURS, architecture.kind))


def peer_cells() -> Iterator[Cell]:
    """The others with their own settings, and with the support that would be unfair to withhold."""
    for name in PEERS:
        yield from at_all_sparsities(TrainedCell(name, "topk", "its own settings"))
        yield from at_all_sparsities(TrainedCell(name, "topk", "supported", SUPPORT | REVIVAL))
        yield from at_all_sparsities(TrainedCell(name, "relu", "supported", SUPPORT))
        yield from at_all_sparsities(TrainedCell(name, "relu", "our learning rate", SUPPORT | RELU_RATE))


def at_all_sparsities(cell: TrainedCell) -> Iterator[Cell]:
    """A cell at three sparsities and all seeds."""
    name, values = ("l1_coefficient", L1_COEFFICIENTS) if cell.architecture == "relu" else ("k", ACTIVE_LATENTS)
    for value, seed in product(values, SEEDS):
        yield replace(cell, options=cell.options | {name: value}, seed=seed)


def baseline_cells() -> Iterator[Cell]:
    """PCA and random directions at the same L0; k-means, of which one latent is active; NMF of three sizes."""
    for seed in SEEDS:
        for k in ACTIVE_LATENTS:
            yield BaselineCell("pca", 2 * k, k, seed)
            yield BaselineCell("random", N_LATENTS, k, seed)
        yield BaselineCell("k_means", N_LATENTS, 1, seed)
        for n_latents in NMF_SIZES:
            yield BaselineCell("nmf", n_latents, n_latents, seed)


def slug(cell: Cell) -> str:
    """Names a cell's files."""
    return re.sub("[^a-z0-9.]+", "-", f"{cell.label} {cell.sparsity} seed {cell.seed}".lower())


def patches_file(work: Path, seed: int) -> Path:
    """The training patches in their order."""
    return work / f"patches-{seed}.safetensors"


def prepare(work: Path, shared: Path, n_patches: int) -> list[FeatureShard]:
    """Extract the features, write the training patches of every seed in their order, and give the held-out features."""
    given = {
        "collection": {"source": str(shared / "data" / "leeds_butterfly" / "metadata.csv")},
        "features": {
            "backbone": {"model": str(shared / "models" / "mobilenet_v2_inat_insect"), "layer": 11, "second_layer": 11},
            "device": "cpu",
        },
    }
    context = Context.create(work / "run", build(RunConfig, given), STEPS)
    with context.writing():
        run_steps(context, ["collect", "extract"])
    store, collection = FeatureStore.open(context.folder.activations), context.collection
    training = rows_of(collection, "train")
    for seed in SEEDS:
        file = patches_file(work, seed)
        if not file.is_file():
            stream = PatchStream(store, training, n_patches=n_patches, batch_size=BATCH_SIZE, seed=seed)
            partial = file.with_suffix(".partial")  # whole or not at all, because a stopped benchmark goes on
            save_file({PATCHES: torch.cat(list(stream))}, partial)
            partial.replace(file)
    return list(store.shards(rows_of(collection, "validation", "test")))


def rows_of(collection: Collection, *splits: Split) -> np.ndarray:
    """Rows of some splits."""
    return np.array([row for row, record in enumerate(collection.images) if record.split in splits])


def measure(sae: SAE, held_out: Sequence[FeatureShard]) -> dict[str, Any]:
    """What the table says of a dictionary."""
    metrics = measure_sae(sae, (batch for shard in held_out for batch in shard.features.split(4096)))
    return metrics.to_dict() | {"monosemanticity": measure_monosemanticity(sae, held_out).to_dict()}


def run_cell(cell: Cell, work: Path, n_patches: int, held_out: Sequence[FeatureShard]) -> dict[str, Any]:
    """Make and measure a dictionary, unless that has been done."""
    file = work / "cells" / f"{slug(cell)}.json"
    if file.is_file():
        return json.loads(file.read_text())
    started = time.perf_counter()
    sae = cell.make(work, n_patches)
    seconds = time.perf_counter() - started
    result = measure(sae, held_out) | {"seconds": seconds}
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.replace(file)
    print(f"{file.stem}: {result['explained_variance']:.4f} at L0 {result['l0']:.1f}", file=sys.stderr, flush=True)
    return result


def report(cells: Sequence[Cell], results: Sequence[dict[str, Any]]) -> list[str]:
    """A row a label and sparsity, the seeds side by side; then ours at the same k beside the others."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell, result in zip(cells, results, strict=True):
        groups.setdefault((cell.label, cell.sparsity), []).append(result)

    def seeds(members: list[dict[str, Any]], form: str, value: Callable[[dict[str, Any]], float]) -> str:
        return ", ".join(format(value(member), form) for member in members)

    rows = [
        [
            *group,
            seeds(members, ".4f", lambda m: m["explained_variance"]),
            seeds(members, ".1f", lambda m: m["l0"]),
            seeds(members, ".1f", lambda m: 100 * m["dead_share"]),
            seeds(members, ".3f", lambda m: m["monosemanticity"]["mean"]),
            seeds(members, ".0f", lambda m: m["seconds"]),
        ]
        for group, members in groups.items()
    ]
    header = ["dictionary", "asked for", "explained variance", "L0", "dead %", "monosemanticity", "seconds"]
    lines = [markdown_table(header, rows), ""]
    explained = {group: statistics.mean(m["explained_variance"] for m in members) for group, members in groups.items()}
    for k in ACTIVE_LATENTS:
        ours = explained.get((f"{NAMES[OURS]} topk", f"k {k}"))
        others = {
            label: value
            for (label, sparsity), value in explained.items()
            if sparsity == f"k {k}" and any(label.startswith(NAMES[peer]) for peer in PEERS)
        }
        if ours is not None and others:
            best = max(others, key=lambda label: others[label])
            lines.append(f"TopK, k {k}: {ours:.4f}, the best other {others[best]:.4f} ({best})")
    return lines


def main() -> None:
    """Make what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/quality_sae"))
    parser.add_argument("--patches", type=int, default=500_000, help="Training patches, with repetition.")
    parser.add_argument("--jobs", type=int, default=2, help="Trainings at the same time, each on one core.")
    parser.add_argument("--only", default="", help="Regular expression: only dictionaries with such file names.")
    arguments = parser.parse_args()
    shared = os.environ.get("SAE_TRAITS_SHARED")
    if not shared:
        print(
            "SAE_TRAITS_SHARED names no folder with data/leeds_butterfly and models/mobilenet_v2_inat_insect: skipped"
        )
        sys.exit(0)
    check_environments()
    # A folder holds one number of patches, so that a table never mixes trainings of different lengths.
    work = arguments.work / f"{arguments.patches}-patches"
    (work / "cells").mkdir(parents=True, exist_ok=True)
    held_out = prepare(work, Path(shared), arguments.patches)
    torch.set_num_threads(1)
    all_cells = (*our_cells(), *peer_cells(), *baseline_cells())
    cells = [cell for cell in all_cells if re.search(arguments.only, slug(cell))]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        results = list(pool.map(lambda cell: run_cell(cell, work, arguments.patches, held_out), cells))
    n_held_out = sum(len(shard.features) for shard in held_out)
    print(describe_machine())
    print(f"{arguments.patches:,} training patches, {N_LATENTS:,} latents, {n_held_out:,} held-out patches")
    if results:
        similarity = results[0]["monosemanticity"]["mean_similarity"]
        print(f"A latent that ignores the image has a monosemanticity of {similarity:.3f}.\n")
    print("\n".join(report(cells, results)))


if __name__ == "__main__":
    main()
