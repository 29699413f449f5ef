"""The contrast over the codes of a million images, and beside it Algorithm 1 written as the paper prints it.

Synthetic codes with a planted truth: every latent has a base rate, and every species has some latents of its own that
fire far more often in it than in its genus. Written as Parquet parts like those of a run, then read, counted and
contrasted, each in a process of its own, whose peak memory is printed. A million images take some ten minutes on
two cores, most of it to draw them, and 2 GB of disk:

    python benchmarks/bench_contrast.py [--images 1000000] [--species 10000] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tables import describe_machine, markdown_table

from sae_traits.logging import track
from sae_traits.schema import Taxon
from sae_traits.traits.chosen import ChosenLatents, choose_latents
from sae_traits.traits.codes import CODE_SCHEMA, INDEX_FILE, THRESHOLDS_FILE, Codes
from sae_traits.traits.contrast import paper_contrast, specimen_contrast
from sae_traits.traits.species_counts import SpeciesCounts, count_firings

N_LATENTS = 24_576
FIRED = 50
"""Latents that fire in an image."""
PATCHES = (1, 4)
"""Patches at which a latent fires, from the first to before the last."""
OWN = 8
"""Planted latents of a species."""
OWN_RATE = 0.5
"""Share of a species' images in which each of them fires."""
SPECIES_A_GENUS, GENERA_A_FAMILY, FAMILIES_AN_ORDER = 5, 8, 10
PART = 10_000
"""Images a part."""
PAPER_SPECIMENS = 2_000
MINIMUM_FREQUENCY = 1e-3
"""t_freq: at 3e-3, the paper's, firings spread over 24,576 latents pass for some species only."""


def taxon(species: int) -> Taxon:
    """Species 0 to 4 make genus 0, genera 0 to 7 family 0 …; names sort like numbers."""
    genus = species // SPECIES_A_GENUS
    family = genus // GENERA_A_FAMILY
    return Taxon(
        order=f"Order{family // FAMILIES_AN_ORDER:03}",
        family=f"Family{family:04}",
        genus=f"Genus{genus:05}",
        species=f"Genus{genus:05} species{species:05}",
    )


def own_latents(species: int) -> np.ndarray:
    """The planted latents of a species `[OWN]`."""
    return np.random.default_rng([1, species]).choice(N_LATENTS, OWN, replace=False)


def draw(folder: Path, n_images: int, n_species: int) -> None:
    """Write codes as a run does; image i is of species i % n_species."""
    folder.mkdir(parents=True, exist_ok=True)
    rates = 1 / (10 + np.random.default_rng(0).permutation(N_LATENTS))
    edges = np.cumsum(rates) / rates.sum()
    own = np.stack([own_latents(species) for species in range(n_species)])
    parts = []
    for start in track(range(0, n_images, PART), "draw", -(-n_images // PART), "part"):
        rng = np.random.default_rng([2, start])
        rows = np.arange(start, min(start + PART, n_images))
        latents = np.searchsorted(edges, rng.random((len(rows), FIRED)))
        planted = rng.random((len(rows), OWN)) < OWN_RATE
        latents[:, :OWN] = np.where(planted, own[rows % n_species], latents[:, :OWN])
        record, latent = np.divmod(np.unique(np.repeat(rows, FIRED) * N_LATENTS + latents.ravel()), N_LATENTS)
        n_patches = rng.integers(*PATCHES, len(latent))
        patch = np.concatenate([np.arange(PATCHES[1] - 1)] * len(latent)).reshape(len(latent), -1)
        fired = np.arange(PATCHES[1] - 1) < n_patches[:, None]
        columns = [np.repeat(record, n_patches), np.repeat(latent, n_patches), patch[fired], np.ones(fired.sum())]
        arrays = [pa.array(c).cast(f.type) for c, f in zip(columns, CODE_SCHEMA, strict=True)]
        name = f"part-{start // PART:05d}.parquet"
        pq.write_table(pa.Table.from_arrays(arrays, schema=CODE_SCHEMA), folder / name, compression="zstd")
        parts.append(name)
    pq.write_table(pa.table({"threshold": pa.array(np.full(N_LATENTS, 0.5, np.float32))}), folder / THRESHOLDS_FILE)
    (folder / INDEX_FILE).write_text(
        json.dumps({"n_images": n_images, "n_latents": N_LATENTS, "parts": parts}), encoding="utf-8"
    )


def individuals(n_images: int) -> list[str]:
    """Every image is of an individual of its own."""
    return [str(row) for row in range(n_images)]


def read_counts(folder: Path, n_species: int) -> tuple[Codes, SpeciesCounts]:
    """The codes, and the firings of every species, as `plan_regions` counts them."""
    codes = Codes.open(folder)
    names = [taxon(species) for species in range(n_species)]
    taxa = [names[row % n_species] for row in range(codes.n_images)]
    return codes, count_firings(codes.firing_counts(), taxa, individuals(codes.n_images), N_LATENTS)


def choose(method: str, folder: Path, n_species: int) -> tuple[ChosenLatents, float]:
    """What a method chooses, and the seconds that counting took."""
    start = time.perf_counter()
    codes, counts = read_counts(folder, n_species)
    counted = time.perf_counter() - start
    found = specimen_contrast(counts) if method == "specimen" else paper_contrast(counts, MINIMUM_FREQUENCY)
    return choose_latents(found, codes.thresholds), counted


def measure(method: str, folder: Path, n_species: int) -> list[str]:
    """One row of the table: time, peak memory of this process, and how much of the planted truth was chosen."""
    start = time.perf_counter()
    chosen, counted = choose(method, folder, n_species)
    seconds, busy = time.perf_counter() - start, time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    rows, index = chosen.contrasts, {name: row for row, name in enumerate(chosen.contrasts.species)}
    planted = []
    for species in range(0, n_species, max(1, n_species // 500)):
        row = index[str(taxon(species).species)]
        planted.append(np.isin(own_latents(species), rows.latent[rows.offsets[row] : rows.offsets[row + 1]]).mean())
    return [
        method, f"{seconds:.0f}", f"{counted:.0f}", f"{busy:.0f}", f"{peak:.2f}", f"{len(rows.latent):,}",
        f"{np.mean(planted):.3f}",
    ]  # fmt: skip


Images = Sequence[tuple[str, str, dict[int, list[int]]]]
"""Species, genus and the fired patches of each latent, an image each."""


def algorithm_1(images: Images, minimum_frequency: float, *, sum_once: bool) -> dict[int, dict[int, list[int]]]:
    """Algorithm 1 as the paper prints it: loops over images, latents and patches, with dictionaries of counts.

    Args:
        images: what fired.
        minimum_frequency: t_freq.
        sum_once: take the sum over all latents of a species and of a genus once, not for every latent of every image
            as the paper's formula and its published pipeline do.

    Returns:
        For every image the latents that are kept, with their patches.
    """
    species_counts: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    genus_counts: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for species, genus, fired in images:
        for latent, patches in fired.items():
            for _ in patches:
                species_counts[species][latent] += 1
                genus_counts[genus][latent] += 1
    sums = {id(counts): sum(counts.values()) for group in (species_counts, genus_counts) for counts in group.values()}

    def frequency(counts: dict[int, int], latent: int) -> float:
        return counts[latent] / (sums[id(counts)] if sum_once else sum(counts.values()))

    kept: dict[int, dict[int, list[int]]] = {}
    for number, (species, genus, fired) in enumerate(images):
        for latent, patches in fired.items():
            f_species = frequency(species_counts[species], latent)
            f_genus = frequency(genus_counts[genus], latent)
            if f_species > minimum_frequency and f_genus > minimum_frequency and f_species > f_genus:
                kept.setdefault(number, {})[latent] = patches
    return kept


def compare_with_the_loops(folder: Path, n_species: int) -> tuple[dict[str, float], int]:
    """Seconds of the loops and of ours, and how many (image, latent) pairs both keep.

    Raises:
        AssertionError: they do not keep the same.
    """
    names = [taxon(species) for species in range(n_species)]
    images = []
    for codes in Codes.open(folder).images():
        own = names[codes.image % n_species]
        fired = {latent: patches.tolist() for latent, patches, _ in codes.groups()}
        images.append((str(own.species), str(own.genus), fired))
    codes = Codes.open(folder)
    taxa = [names[row % n_species] for row in range(codes.n_images)]
    parts = list(codes.firing_counts())

    def ours() -> ChosenLatents:
        counts = count_firings(parts, taxa, individuals(codes.n_images), N_LATENTS)
        return choose_latents(paper_contrast(counts, MINIMUM_FREQUENCY), codes.thresholds)

    chosen = ours()
    kept = algorithm_1(images, MINIMUM_FREQUENCY, sum_once=False)
    same = {
        number: picked
        for number, (species, _, fired) in enumerate(images)
        if (picked := {z: patches for z, patches in fired.items() if z in chosen.get(species, {})})
    }
    assert same == kept, "Algorithm 1 and its loops keep different latents"
    seconds = {
        "loops, as printed": best_of(lambda: algorithm_1(images, MINIMUM_FREQUENCY, sum_once=False), times=1),
        "loops, sums taken once": best_of(lambda: algorithm_1(images, MINIMUM_FREQUENCY, sum_once=True)),
        "ours": best_of(ours),
        "ours, codes read from Parquet": best_of(lambda: choose("paper", folder, n_species)),
    }
    return seconds, sum(map(len, kept.values()))


def best_of(work: Callable[[], Any], times: int = 5) -> float:
    """Seconds of the fastest of some runs."""

    def runs() -> Iterator[float]:
        for _ in range(times):
            start = time.perf_counter()
            work()
            yield time.perf_counter() - start

    return min(runs())


def main() -> None:
    """Draw, measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--species", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="keeps the drawn codes, and reads them when they are there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        many, few = folder / f"codes-{arguments.images}", folder / f"codes-{PAPER_SPECIMENS}"
        n_few = max(2, arguments.species * PAPER_SPECIMENS // arguments.images)
        sizes = (many, arguments.images, arguments.species), (few, PAPER_SPECIMENS, n_few)
        for path, n_images, n_species in sizes:
            if not (path / INDEX_FILE).is_file():
                draw(path, n_images, n_species)
        print(describe_machine())
        print(f"\n{arguments.images:,} images, {arguments.species:,} species, {FIRED} of {N_LATENTS:,} latents\n")
        # A process each, so that one's peak memory is not the other's; spawned, so that nothing is inherited.
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            rows = [pool.apply(measure, (method, many, arguments.species)) for method in ("specimen", "paper")]
        header = [
            "contrast",
            "s",
            "counting",
            "s of CPU",
            "peak RSS, GB",
            "rows chosen",
            "planted ones chosen",
        ]
        print(markdown_table(header, rows), flush=True)
        seconds, n_kept = compare_with_the_loops(few, n_few)
        print(f"\nAlgorithm 1, {PAPER_SPECIMENS:,} images, {n_few} species; all keep the same {n_kept:,} pairs\n")
        slowest = max(seconds.values())
        rows = [[name, f"{taken:.4f}", f"{slowest / taken:.0f}"] for name, taken in seconds.items()]
        print(markdown_table(["", "s", "times as fast as the printed loops"], rows))


if __name__ == "__main__":
    main()
