"""BIOSCAN-5M's metadata table, in full length, listed and narrowed; time and peak memory.

A synthetic table of 5,150,850 rows with the real columns, the real sizes of the partitions, a barcode of 658 letters
a row, 22,622 species names of unequal frequency: 4 GB. What is measured is listing, the step before images are opened:
the table is streamed, rows are chosen, and each row's image is looked for on disk. With `--images` every labelled image
exists as an empty file (343,333 files); without, none does, so each is reported as missing.

    python benchmarks/bench_bioscan.py [--folder DIR] [--rows 5150850] [--images]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tables import describe_machine, markdown_table

from sae_traits.config import CollectionConfig
from sae_traits.images import fingerprint, list_source
from sae_traits.images.bioscan import METADATA_FILE
from sae_traits.logging import track

HEADER = (
    "processid,sampleid,taxon,phylum,class,order,family,subfamily,genus,species,dna_bin,dna_barcode,country,"
    "province_state,coord-lat,coord-lon,image_measurement_value,area_fraction,scale_factor,inferred_ranks,split,"
    "index_bioscan_1M_insect,chunk"
)
PARTITIONS = {
    "pretrain": 4_677_756,
    "train": 289_203,
    "val": 14_757,
    "test": 39_373,
    "key_unseen": 36_465,
    "val_unseen": 8_819,
    "test_unseen": 7_887,
    "other_heldout": 76_590,
}
"""Rows of each; all but pretrain, 473,094, have a species."""
CHUNK_DIGITS = {"pretrain": 2, "train": 1, "other_heldout": 1}
N_SPECIES, SPECIES_A_GENUS, GENERA_A_FAMILY = 22_622, 3, 8
BLOCK = 50_000


def write_table(root: Path, n_rows: int) -> None:
    """The table, its partitions mixed as in the real one; written in blocks."""
    path = root / METADATA_FILE
    path.parent.mkdir(parents=True)
    rng = np.random.default_rng(0)
    names, sizes = list(PARTITIONS), np.array(list(PARTITIONS.values()))
    partition = rng.permutation(np.repeat(np.arange(len(names)), sizes))[:n_rows]
    letters = [f"{n:06d}".translate(str.maketrans("0123456789", "abcdefghij")) for n in range(N_SPECIES)]
    barcodes = ["".join(row) for row in rng.choice(list("ACGT"), (200, 658))]
    with path.open("w", encoding="ascii") as file:
        file.write(HEADER + "\n")
        for start in track(range(0, n_rows, BLOCK), "write", -(-n_rows // BLOCK), "block"):
            block = partition[start : start + BLOCK]
            species = np.minimum(rng.zipf(1.3, len(block)), N_SPECIES) - 1
            digits = rng.integers(0, 256, len(block))
            lines = []
            for offset, (part, number, digit) in enumerate(zip(block, species, digits, strict=True)):
                lines.append(line(start + offset, names[part], int(number), int(digit), letters, barcodes))
            file.write("".join(lines))


def line(row: int, split: str, species: int, digit: int, letters: list[str], barcodes: list[str]) -> str:
    """One row: names down to the rank that its partition knows."""
    genus = species // SPECIES_A_GENUS
    family, genus_name = f"Family{genus // GENERA_A_FAMILY}idae", f"G{letters[genus]}"
    epithet = letters[species] if split in ("train", "val", "test") else f"sp. {species}XYZ"
    binomial = f"{genus_name} {epithet}"
    genus_name, binomial = ("", "") if split == "pretrain" else (genus_name, binomial)
    chunk = f"{digit:02x}"[-CHUNK_DIGITS[split] :] if split in CHUNK_DIGITS else ""
    names = f"{binomial or family},Arthropoda,Insecta,Diptera,{family},,{genus_name},{binomial}"
    place = "Canada,Ontario,43.5,-80.2"
    size = f"{20000 + row % 9999}.0,0.21,1.7"
    dna = f"BOLD:AAA{row % 10000:04d},{barcodes[row % len(barcodes)]}"
    return f"SYN{row:07d}-22,SYN-{row:07d},{names},{dna},{place},{size},{row % 50 // 49},{split},,{chunk}\n"


def make_images(root: Path) -> int:
    """An empty file for every image that listing looks for."""
    missing = [problem.file for problem in list_source(CollectionConfig(source=str(root))).problems]
    images = root / "images/cropped_256"
    for file in missing:
        if file.endswith(".jpg"):
            path = images / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return len(missing)


def measure(root: Path, options: dict[str, object], *, with_fingerprint: bool) -> None:
    """In a process of its own: print seconds, processor seconds, peak memory and counts."""
    started, busy = time.perf_counter(), time.process_time()
    config = CollectionConfig(source=str(root), **options)  # type: ignore[arg-type]
    listing = list_source(config)
    if with_fingerprint:
        fingerprint(config, listing)
    seconds = time.perf_counter() - started
    # Not ru_maxrss: a process inherits the peak of the one that started it.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) / 2**20
    print(json.dumps([seconds, time.process_time() - busy, peak, len(listing.rows), len(listing.problems)]))


QUESTIONS: dict[str, tuple[dict[str, object], bool]] = {
    "all labelled images": ({}, False),
    "all labelled images, and their fingerprint": ({}, True),
    "--per-species 5": ({"per_species": 5}, False),
    "--family Family3idae": ({"family": "Family3idae"}, False),
    "--family Family3idae --per-species 20": ({"family": "Family3idae", "per_species": 20}, False),
    "--split val": ({"split": ("val",)}, False),
}


def main() -> None:
    """Write the table, ask every question in a process of its own, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keeps the table, and reads it when it is there")
    parser.add_argument("--rows", type=int, default=sum(PARTITIONS.values()))
    parser.add_argument("--images", action="store_true", help="make an empty file for each labelled image")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = (arguments.folder or Path(temporary)) / "bioscan5m"
        if arguments.measure:
            options, with_fingerprint = QUESTIONS[arguments.measure]
            measure(root, options, with_fingerprint=with_fingerprint)
            return
        if not (root / METADATA_FILE).is_file():
            write_table(root, arguments.rows)
        (root / "images/cropped_256").mkdir(parents=True, exist_ok=True)
        if arguments.images:
            make_images(root)
        rows = []
        for question in QUESTIONS:
            command = [sys.executable, __file__, "--folder", str(root.parent), "--measure", question]
            found = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds, busy, peak, n_rows, n_problems = json.loads(found.stdout)
            rows.append([question, f"{seconds:.1f}", f"{busy:.1f}", f"{peak:.2f}", f"{n_rows:,}", f"{n_problems:,}"])
        size = (root / METADATA_FILE).stat().st_size / 1e9
        print(f"{describe_machine()}\n\n{arguments.rows:,} rows, {size:.1f} GB\n")
        print(markdown_table(["listing", "s", "s of CPU", "peak RSS, GB", "images", "problems"], rows))


if __name__ == "__main__":
    main()
