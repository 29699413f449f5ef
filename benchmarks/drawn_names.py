"""What thirty names of latents are worth on the drawn world: how many rows get a part by them, and how many are right.

The thirty latents with the most regions in training images are named by the part on which most of these regions lie, as
an expert would name them who looks at them; those that lie on the background get no name. Their names go through
`sae-traits name`, and the rows of the released dataset are compared with the truth. The run is changed: give a copy.

    python benchmarks/drawn_names.py RUN
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from tables import markdown_table

from sae_traits.cli import main as sae_traits
from sae_traits.release.loading import load_traits
from sae_traits.schema import Collection, ImageRecord, Region
from sae_traits.testbench.drawn import Truth, part_labels_file
from sae_traits.traits.table import read_traits

N_NAMES = 30
BACKGROUND = 0


def main() -> None:
    """Name latents of a finished demo, and count."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    collection = Collection.load(run / "images.parquet")
    truth = Truth.load(collection.root)
    lies_on: dict[str, int] = {}
    seen: dict[int, Counter[int]] = defaultdict(Counter)
    for trait in read_traits(run / "traits" / "traits.parquet"):
        record = collection.images[trait.candidate.image]
        lies_on[trait.trait_id] = part_of(collection, record, trait.region)
        if record.split == "train" and trait.candidate.latent is not None:
            seen[trait.candidate.latent][lies_on[trait.trait_id]] += 1
    looked_at = sorted(seen, key=lambda latent: (-seen[latent].total(), latent))[:N_NAMES]
    names = {latent: seen[latent].most_common(1)[0][0] for latent in looked_at}
    with (run / "thirty.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["latent", "name"])
        writer.writerows((latent, truth.parts[part]) for latent, part in names.items() if part != BACKGROUND)
    assert sae_traits(["name", str(run), str(run / "thirty.csv")]) == 0
    lines = []
    for split, rows in load_traits(run).items():
        named = [(row["part"], lies_on[row["trait_id"]]) for row in rows if row["part_source"] == "named"]
        right = sum(truth.parts[part] == name for name, part in named)
        off = sum(part == BACKGROUND for _, part in named)
        lines.append([str(split), f"{len(rows):,}", f"{len(named):,}", f"{right:,}", f"{off:,}"])
    print(f"{sum(part != BACKGROUND for part in names.values())} of {len(names)} latents named; the others: background")
    print(markdown_table(["split", "rows", "with a part", "right", "on the background"], lines))


def part_of(collection: Collection, record: ImageRecord, region: Region) -> int:
    """The part that has most of a region's outline."""
    with Image.open(collection.root / part_labels_file(record.file)) as image:
        labels = np.asarray(image)
    mask = Image.new("1", (record.width, record.height))
    for ring in region.polygons:
        ImageDraw.Draw(mask).polygon(list(ring), fill=1)
    return int(np.bincount(labels[np.asarray(mask)], minlength=1).argmax())


if __name__ == "__main__":
    main()
