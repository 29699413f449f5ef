"""Steps in shards at a million specimens: what every shard reads first, what it makes, and what merging takes.

No images: specimens of invented species, random features of four patches, an SAE of 256 latents, a made-up answer
per specimen. So it measures what belongs to shards (reading the table of images, marks, checksums, joining), and
neither backbones nor describers. Each phase is a process of its own, whose time and peak memory are printed:

    python benchmarks/bench_shards.py [--specimens 1000000] [--shards 16] [--folder DIR]
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_contrast import taxon
from tables import describe_machine, markdown_table

from sae_traits import SAE, SAEConfig
from sae_traits.config import SAERegions
from sae_traits.features.store import FeatureShard, FeatureStore, ShardEntry, write_index, write_shard
from sae_traits.features.texture import texture_info
from sae_traits.io import hash_of_file
from sae_traits.runs.folder import RunFolder
from sae_traits.runs.record import Counts, Steps
from sae_traits.runs.sharding import Part, Shard, ShardedStep, do_sharded
from sae_traits.schema import Collection, ImageRecord
from sae_traits.traits.chosen import ChosenLatents, read_chosen, write_chosen
from sae_traits.traits.codes import Codes
from sae_traits.traits.encode import encode_parts, join_parts, training_weights
from sae_traits.traits.ledger import CallIdentity, Ledger, Outcome
from sae_traits.traits.plan import plan_regions

D_MODEL, N_LATENTS, K, PATCHES, UNIT = 16, 256, 4, 4, 5_000
N_SPECIES = 10_000
INFO = texture_info()


def draw(run: Path, n: int) -> str:
    """Write the table of images and the features."""
    run.mkdir(parents=True, exist_ok=True)
    taxa = [taxon(species) for species in range(N_SPECIES)]
    records = [
        ImageRecord(
            image_id=f"{row:08d}", individual_id=f"{row:08d}", file=f"{row:08d}.jpg", taxon=taxa[row % N_SPECIES],
            split=("train", "train", "validation", "test")[row // N_SPECIES % 4], width=256, height=256,
            sha256=hashlib.sha256(str(row).encode()).hexdigest(),
        )
        for row in range(n)
    ]  # fmt: skip
    Collection(run, tuple(records)).save(RunFolder(run).images)
    folder = RunFolder(run).activations
    folder.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    species = torch.randn(N_SPECIES, D_MODEL, generator=generator)
    entries = []
    for number, start in enumerate(range(0, n, UNIT)):
        rows = np.arange(start, min(start + UNIT, n))
        offsets = np.arange(len(rows) + 1) * PATCHES
        patches = np.tile(np.arange(PATCHES, dtype=np.int32), len(rows))
        noise = torch.randn(len(patches), D_MODEL, generator=generator)
        features = species[torch.from_numpy(np.repeat(rows % N_SPECIES, PATCHES))] + noise
        path = folder / f"shard-{number:05d}.safetensors"
        write_shard(path, FeatureShard(rows, offsets, patches, features), "drawn")
        entry = ShardEntry(
            file=path.name, first_image=start, n_images=len(rows), n_patches=len(patches),
            bytes=path.stat().st_size, sha256=hash_of_file(path),
        )  # fmt: skip
        entries.append(entry)
    write_index(folder, INFO, "drawn", "float32", entries)
    config = SAEConfig(architecture="topk", d_model=D_MODEL, n_latents=N_LATENTS, k=K)
    SAE.from_config(config, seed=0).save_pretrained(RunFolder(run).sae)
    return f"{n:,} specimens, {len(entries)} feature shards"


def start_shard(run: Path, shard: Shard) -> str:
    """What every process of a shard does before its own work."""
    collection = Collection.load(RunFolder(run).images)
    collection.digest("image_id", "sha256", "width", "height")
    collection.digest("taxon", "individual_id", "split", "mm_per_pixel")
    rows = shard.rows(FeatureStore.open(RunFolder(run).activations).units)
    return f"shard {shard}: images {rows.start:,} to {rows.stop:,}"


def encode(run: Path, part: Part) -> str:
    """A part of the step `encode`, as the step does it."""
    folder = RunFolder(run)
    sae, store = SAE.from_pretrained(folder.sae), FeatureStore.open(folder.activations)
    thresholds = np.full(N_LATENTS, 1.0, np.float32)

    def shard(part: Shard) -> Iterator[Path]:
        yield from encode_parts(sae, store, thresholds, folder.codes, part.share_of(len(store.units)), made_of="drawn")

    def join(files: Mapping[str, list[Any]]) -> Counts:
        weights = training_weights(Collection.load(folder.images).images)
        codes = join_parts(folder.codes, len(store.units), thresholds, weights, (store.info.rows, store.info.columns))
        return {"n_parts": len(codes.parts)}

    step = ShardedStep(name="encode", inputs={}, outputs=[folder.codes], whole=dict, shard=shard, join=join)
    do_sharded(Steps(folder.steps, {"encode": ()}), folder, part, step)
    return f"{sum(path.stat().st_size for path in folder.codes.glob('*.parquet')) / 1e6:,.0f} MB of codes"


def choose(run: Path) -> str:
    """The preparation of the step `annotate`."""
    folder = RunFolder(run)
    plan = plan_regions(SAERegions(), Collection.load(folder.images), INFO, codes=Codes.open(folder.codes))
    assert isinstance(plan.chosen, ChosenLatents)
    folder.chosen_for_shards.parent.mkdir(parents=True, exist_ok=True)
    write_chosen(folder.chosen_for_shards, plan.chosen)
    return f"{len(plan.chosen.contrasts.latent):,} latents of {len(plan.chosen):,} species"


def plan_shard(run: Path, shard: Shard) -> str:
    """The regions of one shard."""
    folder = RunFolder(run)
    collection, units = Collection.load(folder.images), FeatureStore.open(folder.activations).units
    codes, chosen = Codes.open(folder.codes).only(shard.share_of(len(units))), read_chosen(folder.chosen_for_shards)
    plan = plan_regions(SAERegions(), collection, INFO, codes=codes, chosen=chosen).only(shard.rows(units))
    n_regions = sum(len(pairs) for _, pairs in plan.candidates())
    return f"{n_regions:,} regions of {len(shard.rows(units)):,} images"


def answer(run: Path, n: int, n_shards: int) -> str:
    """Ledgers of all shards, with an answer per specimen; not part of what is measured."""
    for number in range(1, n_shards + 1):
        rows = Shard(number, n_shards).share_of(n)
        keys = [hashlib.sha256(str(row).encode()).hexdigest() for row in rows]
        with Ledger(RunFolder(run).shards("annotate") / f"{number}" / "ledger.sqlite") as ledger:
            calls = (CallIdentity(key=k, trait_id=k, describer="measured", model="m", prompt="p") for k in keys)
            ledger.begin(calls, {f"r{k}": {"x": 1} for k in keys})
            description = {"text": "A dark brown patch with a pale edge, three times as long as wide.", "part": None}
            ledger.record(Outcome(key=k, state="ok", raw="", description=description) for k in keys)
    return f"{n:,} answers in {n_shards} ledgers"


def take_over(run: Path) -> str:
    """Merging of all ledgers."""
    path = run / "traits" / "ledger.sqlite"
    with Ledger(path) as ledger:
        for other in sorted(RunFolder(run).shards("annotate").glob("*/ledger.sqlite")):
            ledger.take_over(other)
    return f"{path.stat().st_size / 1e6:,.0f} MB"


def measure(name: str, work: Callable[..., str], *arguments: Any) -> list[str]:
    """One row of the table."""
    torch.set_num_threads(2)
    busy, start = time.process_time(), time.perf_counter()
    said = work(*arguments)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return [name, f"{busy:.1f}", f"{seconds:.1f}", f"{peak:.2f}", said]


def main() -> None:
    """Draw, measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--specimens", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    n, count = arguments.specimens, arguments.shards
    with tempfile.TemporaryDirectory() as temporary:
        run = arguments.folder or Path(temporary) / "run"
        phases: list[tuple[Any, ...]] = [
            ("drawing (not of shards)", draw, run, n),
            ("start of any shard: table of images, its rows", start_shard, run, Shard(count, count)),
            *((f"encode --shard {i}/{count}", encode, run, Shard(i, count)) for i in range(1, count + 1)),
            ("merge of encode", encode, run, "merge"),
            ("annotate --prepare: contrast", choose, run),
            (f"regions of shard 1/{count}", plan_shard, run, Shard(1, count)),
            ("answers (not of shards)", answer, run, n, count),
            ("merge of annotate: ledgers", take_over, run),
        ]
        print(describe_machine(), flush=True)
        # A process each, so that one's peak memory is not the other's; spawned, so that nothing is inherited.
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            rows = []
            for phase in phases:
                rows.append(pool.apply(measure, phase))
                print(" | ".join(rows[-1]), flush=True)
        print(markdown_table(["phase", "s of CPU", "s", "peak RSS, GB", "what came of it"], rows))


if __name__ == "__main__":
    main()
