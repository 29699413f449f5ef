"""An atlas of the paper's size: 80,000 made-up traits of 19,000 images of 500 x 375 pixels, 500 species, 1,500 latents.

The command `sae-traits atlas` runs in a process of its own, whose time, processor time and peak memory are printed,
with what it wrote and what a browser fetches for the first page. Where playwright and Chromium are at hand (`make
test-browser`), 50 searches are typed, and the time until their results are in the page is measured. Some ten minutes
and 2 GB of disk:

    python benchmarks/bench_atlas.py [--images 19000] [--rows 80000] [--folder DIR]
"""

from __future__ import annotations

import argparse
import io
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from tables import describe_machine, markdown_table

from sae_traits.release import tables
from sae_traits.release.dataset import write_rows
from sae_traits.release.rows import ImageRows
from sae_traits.schema import (
    Attribute,
    Candidate,
    ChosenLatent,
    Contrast,
    Description,
    ImageRecord,
    Measurement,
    Region,
    Taxon,
    Trait,
)

N_SPECIES, N_LATENTS, N_PICTURES, SIZE = 500, 1_500, 60, (500, 375)
IMAGES_PER_SEGMENT = 1_000
SAE = "org/sae@0123"
CONTRAST = Contrast(f_species=0.8, f_reference=0.1, effect=2.5, q_value=0.01, significant=True, reference_rank="genus")
PARTS = ("fore wing", "hind wing", "thorax", "abdomen", "antenna", "leg", "head", "proboscis")
COLOURS = ("black", "orange", "pale yellow", "rufous", "dark brown", "white", "grey", "metallic blue", "olive", "pink")
PATTERNS = ("plain", "banded", "spotted", "mottled", "edged", "veined", "speckled")
N_SEARCHES = 50


def main() -> None:
    """Make the release, build its atlas, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=19_000)
    parser.add_argument("--rows", type=int, default=80_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        dataset, site = folder / "dataset", folder / "atlas"
        if not dataset.is_dir():
            write_rows(dataset, rows(options.images, options.rows), latents(), "embed", n_images=options.images)
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [sys.executable, "-m", "sae_traits.cli", "atlas", str(dataset), "--out", str(site)]
        subprocess.run(command, check=True)
        seconds, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
        files = [path for path in site.rglob("*") if path.is_file()]
        print(describe_machine())
        print(
            markdown_table(
                ["", "value"],
                [
                    ["seconds", f"{seconds:.0f}"],
                    ["seconds of the processor", f"{processor:.0f}"],
                    ["peak memory", f"{used.ru_maxrss / 1024:.0f} MB"],
                    ["files", f"{len(files):,}"],
                    ["bytes in all", f"{sum(path.stat().st_size for path in files) / 1e6:.0f} MB"],
                    ["first page with all its pictures", f"{first_page(site) / 1e3:.0f} kB"],
                    ["data of the search", f"{(site / 'data' / 'search.js').stat().st_size / 1e6:.1f} MB"],
                    *searches(site),
                ],
            )
        )


def rows(n_images: int, n_traits: int) -> Iterator[ImageRows]:
    """The rows of every image, whose species and latents go together."""
    rng = np.random.default_rng(0)
    pictures = [jpeg(rng) for _ in range(N_PICTURES)]
    counts = np.full(n_images, n_traits // n_images)
    counts[: n_traits - counts.sum()] += 1
    for number, n in enumerate(rng.permutation(counts)):
        species = number % N_SPECIES
        record = ImageRecord(
            image_id=f"{number:06d}-{number * 2654435761 % 2**32:08x}",
            file=f"images/{number:06d}.jpg",
            taxon=Taxon(
                family=f"Family{species // 50}idae",
                genus=f"Genus{species // 5}",
                species=f"Genus{species // 5} s{species}",
            ),
            split="train" if number < 0.8 * n_images else "test",
            width=SIZE[0],
            height=SIZE[1],
            sha256=f"{number:064x}",
            license="CC BY 4.0",
            rights_holder=f"Photographer {number % 900}",
            source_url=f"https://photographs.example/{number}",
        )
        traits = [trait_of(record, number, (3 * species + i) % N_LATENTS, rng) for i in range(n)]
        row = tables.image_row(record, traits, SAE)
        row["image"] = {"bytes": pictures[number % N_PICTURES], "path": f"{number:06d}.jpg"}
        yield ImageRows(record.split, f"{number // IMAGES_PER_SEGMENT:012x}", row, (), None)


def trait_of(record: ImageRecord, number: int, latent: int, rng: np.random.Generator) -> Trait:
    """A trait with an outline of 24 points, and a sentence of its own."""
    centre, radius = rng.uniform(0.25, 0.75, 2) * SIZE, rng.uniform(20, 70)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = centre + radius * rng.uniform(0.7, 1.1, (24, 1)) * np.stack([np.cos(angles), np.sin(angles)], 1)
    low, high = ring.min(0), ring.max(0)
    part, colour, other, pattern = (str(rng.choice(words)) for words in (PARTS, COLOURS, COLOURS, PATTERNS))
    return Trait(
        trait_id=f"{record.image_id}-{latent}",
        candidate=Candidate(image=number, latent=latent, patches=(1,), peak=float(rng.gamma(4)), contrast=CONTRAST),
        region=Region(
            box=(*low.tolist(), *(high - low).tolist()),
            polygons=(tuple(ring.ravel().tolist()),),
            patches=(1,),
            area_fraction=0.05,
        ),
        description=Description(
            text=f"The {part} is {colour}, {pattern} with {other} towards its margin, and {rng.integers(2, 60)} marks.",
            part=part,
            attributes=(Attribute("colour", colour), Attribute("pattern", pattern), Attribute("colour", other)),
        ),
        measurement=Measurement(
            length_px=80.0,
            width_px=40.0,
            elongation=2.0,
            texture_contrast=3.0,
            color_lab=(50.0, 10.0, -40.0),
            color_name="blue",
        ),
        describer="server",
        describer_model="made-up@1",
        prompt="1 sha256:0123",
    )


def latents() -> Iterator[dict[str, object]]:
    """Five latents for every species."""
    for species in range(N_SPECIES):
        for i in range(5):
            chosen = ChosenLatent(
                species=f"Genus{species // 5} s{species}",
                latent=(3 * species + i) % N_LATENTS,
                threshold=0.4,
                contrast=CONTRAST,
                n_fired=20,
                n_individuals=30,
            )
            yield tables.latent_row(chosen, SAE)


def jpeg(rng: np.random.Generator) -> bytes:
    """A photograph, as far as bytes and time go: smooth shapes and some grain."""
    small = Image.fromarray(rng.integers(0, 255, (24, 32, 3)).astype(np.uint8)).resize(SIZE, Image.Resampling.BICUBIC)
    grain = rng.normal(0, 5, (SIZE[1], SIZE[0], 1))
    buffer = io.BytesIO()
    Image.fromarray((np.asarray(small) + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def first_page(site: Path) -> int:
    """Bytes of index.html and of everything that it shows, all pictures included."""
    names = ["index.html", "atlas.css", "atlas.js", "data/latents.js"]
    text = (site / "index.html").read_text(encoding="utf-8")
    names += [part.partition('"')[0] for part in text.split('<img src="')[1:]]
    return sum((site / name).stat().st_size for name in names)


def searches(site: Path) -> list[list[str]]:
    """How long 50 searches take in a browser, from the key press until the results are in the page."""
    try:
        from playwright.sync_api import sync_playwright  # pyright: ignore[reportMissingImports]
    except ImportError:
        return [["searches", "not measured: playwright is not installed"]]
    rng = np.random.default_rng(1)
    words = [*PARTS, *COLOURS, *PATTERNS, "genus7", "s33", "marks", "family3idae", "zzz"]
    queries = [" ".join(map(str, rng.choice(words, rng.integers(1, 4), replace=False))) for _ in range(N_SEARCHES)]
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{site.as_uri()}/index.html")
        page.wait_for_function("document.querySelector('.search').hidden === false")
        shown = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
        loaded = page.evaluate(FIRST)
        times = page.evaluate(TYPED, queries)
        browser.close()
    return [
        ["first page, until all of it is loaded", f"{shown:.0f} ms"],
        ["search, median of 50", f"{np.median(times):.0f} ms"],
        ["search, worst of 50", f"{max(times):.0f} ms"],
        ["first search, which loads the data", f"{loaded:.0f} ms"],
    ]


FIRST = """async () => {
    const began = performance.now();
    await atlas.find("wing");
    return performance.now() - began;
}"""
TYPED = """async (queries) => {
    const input = document.getElementById("query"), times = [];
    for (const query of queries) {
        input.value = query;
        const began = performance.now();
        input.dispatchEvent(new Event("input"));
        while (!document.querySelector("#results h2")?.textContent.includes(query)) await null;
        times.push(performance.now() - began);
    }
    return times;
}"""

if __name__ == "__main__":
    main()
