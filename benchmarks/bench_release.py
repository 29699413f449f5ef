"""A release of the paper's size: 80,000 traits of 19,000 images of 256 x 256 pixels, made up and written as JPEG.

Each step runs in a process of its own, whose time, processor time and peak memory are printed: reading the collection
(which finds near-identical images), writing the dataset with its images and by reference, putting the images in again,
and the first row of a stream. Then the release is put on a Hub on this machine (tests/hub), and what one column of all
rows takes is counted: groups of rows, reads of pyarrow, and requests that the real clients make of that Hub. Some ten
minutes and 3 GB of disk:

    python benchmarks/bench_release.py [--images 19000] [--rows 80000] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from bench_table_reads import CountedFile
from PIL import Image
from tables import describe_machine, markdown_table

from sae_traits.config.collection import CollectionConfig
from sae_traits.config.release import ReleaseConfig
from sae_traits.geometry import Framing
from sae_traits.images import read_collection
from sae_traits.images.near_identical import HASH_BYTES, near_identical_groups
from sae_traits.release.dataset import write_dataset
from sae_traits.release.dataset_card import write_dataset_card
from sae_traits.release.facts import DatasetFacts, Provenance
from sae_traits.release.rehydrate import rehydrate
from sae_traits.release.tables import Images
from sae_traits.schema import (
    Attribute,
    BackboneInfo,
    Candidate,
    ChosenLatent,
    Collection,
    Contrast,
    Description,
    Measurement,
    Region,
    Trait,
)

N_SPECIES = 700
SIDE = 256
N_LATENTS = 24_576
CONTRAST = Contrast(f_species=0.8, f_reference=0.1, effect=2.5, q_value=0.01, significant=True, reference_rank="genus")
PROVENANCE = Provenance(
    backbone=BackboneInfo(
        backbone="made up",
        revision="1",
        layer=0,
        d_model=32,
        rows=16,
        columns=16,
        patch=14,
        framing=Framing(mode="squash", size=(224, 224)),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
    dictionary_metrics={},
    contrast={},
    describer="measured",
    describer_model="made up",
    prompt="made up",
    n_problems=0,
    command="python benchmarks/bench_release.py",
)
FACTS = DatasetFacts(title="Made up", sae="org/sae@0123", longest_side=SIDE, provenance=PROVENANCE)
FIRST_ROW = """
import sys, time
import datasets, torch  # datasets imports torch, where there is one, for its first stream
started = time.perf_counter(), time.process_time()
row = next(iter(datasets.load_dataset(sys.argv[1], "default", split="train", streaming=True)))
assert row["image"].size == (256, 256), row
print(time.perf_counter() - started[0], time.process_time() - started[1])
"""

UPLOAD = """
import sys
from huggingface_hub import HfApi
HfApi().create_repo("museum/release", repo_type="dataset")
HfApi().upload_folder(repo_id="museum/release", repo_type="dataset", folder_path=sys.argv[1])
"""
READ_COLUMN = """
import sys
from datasets import load_dataset
splits = load_dataset("museum/release", sys.argv[1], columns=[sys.argv[2]], streaming=True)
print(sum(1 for rows in splits.values() for _ in rows))
"""
COLUMN = "text"
TESTS = Path(__file__).resolve().parents[1] / "tests"


def species_folder(number: int) -> str:
    """Genus and species in letters, as a label needs them; 26 species a genus."""
    letters = "".join(chr(97 + number // 26**place % 26) for place in range(3))
    return f"Genus{letters[1:]}_species{letters}"


def draw_image(root: Path, number: int) -> None:
    """Something with outlines and grain, some 20 KB as JPEG."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 255, (10, 10, 3)).astype(np.uint8)).resize(
        (SIDE, SIDE), Image.Resampling.BICUBIC
    )
    pixels = np.asarray(coarse).astype(np.int16) + rng.integers(-4, 4, (SIDE, SIDE, 1))
    path = root / species_folder(number % N_SPECIES) / f"{number:06d}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=85)


def read(root: Path, saved: Path) -> None:
    """Read the collection as a run does, and keep it."""
    collection = read_collection(CollectionConfig(source=str(root)), workers=2)
    assert not collection.problems
    collection.save(saved)


def make_traits(collection: Collection, n_rows: int) -> list[Trait]:
    """Traits of all images in turn, each with a sentence and a region of some patches."""
    rng = np.random.default_rng(0)
    share = n_rows / len(collection.images)
    traits = []
    for row, record in enumerate(collection.images):
        for number in range(int(share * (row + 1)) - int(share * row)):
            x, y, width, height = rng.uniform(10, 100, 4).tolist()
            outline = tuple(rng.uniform(0, SIDE, 24).tolist())
            latent = int(rng.integers(N_LATENTS))
            traits.append(
                Trait(
                    trait_id=f"{record.image_id}-{number}",
                    candidate=Candidate(image=row, latent=latent, patches=(1,), peak=1.5, contrast=CONTRAST),
                    region=Region(box=(x, y, width, height), polygons=(outline,), patches=(1,), area_fraction=0.05),
                    description=Description(
                        text=f"The region is mostly dark brown, with {latent % 9} paler bands that run across it.",
                        attributes=(Attribute("colour", "dark brown"), Attribute("pattern", "banded")),
                    ),
                    measurement=Measurement(
                        length_px=width,
                        width_px=height,
                        elongation=width / height,
                        texture_contrast=3.0,
                        color_lab=(50.0, 10.0, -40.0),
                        color_name="brown",
                    ),
                    describer="measured",
                    describer_model="made up",
                    prompt="made up",
                )
            )
    return traits


def write(saved: Path, folder: Path, n_rows: int, images: Images) -> None:
    """Write the dataset."""
    collection = Collection.load(saved)
    latents = [
        ChosenLatent(species=name, latent=7, threshold=0.4, contrast=CONTRAST, n_fired=3, n_individuals=4)
        for name in sorted({record.species for record in collection.images})
    ]
    config = ReleaseConfig(images=images)
    traits = make_traits(collection, n_rows)
    summary = write_dataset(folder, collection, traits, latents, sae=FACTS.sae, config=config, workers=2)
    write_dataset_card(folder, summary, FACTS)


def put_in(referred: Path, folder: Path, root: Path) -> None:
    """Put the images in from the folder of originals."""
    done = rehydrate(referred, folder, photographs=root, connections=1, workers=2)
    assert not done.missing


def group(n: int) -> None:
    """Find the near-identical of so many random hashes, a hundredth of them copies."""
    hashes = np.random.default_rng(0).integers(0, 256, (n, HASH_BYTES), dtype=np.uint8)
    hashes[-n // 100 :] = hashes[: n // 100 + (n % 100 > 0)]
    assert len(np.unique(near_identical_groups([row.tobytes() for row in hashes]))) == n - len(hashes[-n // 100 :])


def cpu_seconds() -> float:
    """Of this process, and of those that it started and that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measure(work: Callable[[], None]) -> list[str]:
    """Minutes, processor seconds with those of the processes that it starts, and peak memory of this process."""
    started, busy = time.perf_counter(), cpu_seconds()
    work()
    minutes, busy = (time.perf_counter() - started) / 60, cpu_seconds() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return [f"{minutes:.1f}", f"{busy:.0f}", f"{peak:.2f}"]


def size_of(folder: Path) -> str:
    """Megabytes and Parquet files of a dataset."""
    files = list(folder.rglob("*.parquet"))
    return f"{sum(path.stat().st_size for path in files) / 1e6:,.0f} MB in {len(files)} files"


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two folders hold the same Parquet files."""
    contents = [{p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.parquet")} for folder in (one, other)]
    return contents[0] == contents[1]


def first_row_seconds(folder: Path) -> tuple[float, float]:
    """Seconds and processor seconds to the first row of a stream, without imports; the fastest of three processes."""
    command = [sys.executable, "-c", FIRST_ROW, str(folder)]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(3)]
    seconds, busy = min(tuple(map(float, run.split())) for run in runs)
    return seconds, busy


def column_of_files(folder: Path, config: str) -> list[str]:
    """Files and groups of rows of a config, and reads and megabytes of one column of all rows."""
    files = sorted((folder / "data" / config).glob("*.parquet"))
    n_groups, n_reads, n_bytes = 0, 0, 0
    for path in files:
        n_groups += pq.read_metadata(path).num_row_groups
        file = CountedFile(path)
        pq.ParquetFile(file, pre_buffer=False).read(columns=[COLUMN])
        file.close()
        n_reads, n_bytes = n_reads + file.n_reads, n_bytes + file.n_bytes
    n_all = sum(path.stat().st_size for path in files)
    return [config, str(len(files)), f"{n_all / 1e6:,.0f}", str(n_groups), str(n_reads), f"{n_bytes / 1e6:.1f}"]


def column_over_the_hub(folder: Path, configs: tuple[str, ...], n_rows: int) -> dict[str, int]:
    """Config -> requests for parts of files with which load_dataset reads one column of all rows from a Hub."""
    sys.path.insert(0, str(TESTS))
    from hub.loopback import running_hub, subprocess_environment

    n_requests = {}
    with tempfile.TemporaryDirectory() as work, running_hub(Path(work, "hub")) as hub:
        environment = subprocess_environment(hub, Path(work, "home"))
        subprocess.run([sys.executable, "-c", UPLOAD, str(folder)], env=environment, check=True)
        for config in configs:
            hub.requests.clear()
            command = [sys.executable, "-c", READ_COLUMN, config, COLUMN]
            done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            assert int(done.stdout) == n_rows, done.stdout
            n_requests[config] = sum(line.startswith("GET ") and line.endswith(".parquet") for line in hub.requests)
    return n_requests


def main() -> None:
    """Draw, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=19_000)
    parser.add_argument("--rows", type=int, default=80_000)
    parser.add_argument("--folder", type=Path, help="keeps the drawn images, and uses them when they are there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        root, saved = folder / f"images-{arguments.images}", folder / "images.parquet"
        embedded, referred, rehydrated = folder / "embedded", folder / "referred", folder / "rehydrated"
        if not root.is_dir():
            with multiprocessing.Pool() as pool:
                pool.map(partial(draw_image, root), range(arguments.images), chunksize=100)
        steps: dict[str, tuple[Callable[[], None], Path | None]] = {
            "read the collection, near-identical images found": (partial(read, root, saved), None),
            "dataset with images": (partial(write, saved, embedded, arguments.rows, "embed"), embedded),
            "dataset by reference": (partial(write, saved, referred, arguments.rows, "reference"), referred),
            "rehydrate it from a folder": (partial(put_in, referred, rehydrated, root), rehydrated),
            "near-identical among 100,000 random hashes": (partial(group, 100_000), None),
        }
        print(describe_machine())
        print(f"\n{arguments.rows:,} traits of {arguments.images:,} images of {SIDE} x {SIDE} pixels\n", flush=True)
        rows = []
        # A process each, so that one's peak memory is not the other's; spawned, so that nothing is inherited.
        # Not of a multiprocessing.Pool, whose processes may have none of their own, as reading many images has.
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
            for name, (work, made) in steps.items():
                rows.append([name, *pool.submit(measure, work).result(), size_of(made) if made else ""])
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        print(markdown_table(["", "minutes", "s of CPU", "peak RSS, GB", "Parquet"], rows))
        print(f"\nrehydrated equals embedded, byte for byte: {same_bytes(embedded, rehydrated)}")
        seconds, busy = first_row_seconds(embedded)
        print(f"first row of load_dataset(..., streaming=True), after imports: {seconds:.2f} s, {busy:.2f} s of CPU")
        configs = ("default", "traits")
        n_requests = column_over_the_hub(embedded, configs, arguments.rows)
        print(f"\nthe column {COLUMN} of all rows of the dataset with images\n")
        header = ["config", "files", "MB", "groups of rows", "reads", "MB read", "requests of load_dataset"]
        print(markdown_table(header, [[*column_of_files(embedded, name), str(n_requests[name])] for name in configs]))


if __name__ == "__main__":
    main()
