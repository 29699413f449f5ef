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
from collections.abc import Mapping
from dataclasses import astuple, dataclass
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


@dataclass(frozen=True)
class Counted:
    """What names came to in a split."""

    split: str
    n_rows: int
    n_named: int
    """With a name for their part."""
    n_right: int
    """Whose name is that of the part that has most of the outline."""
    n_background: int


def main() -> None:
    """Name latents of a finished demo, and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    collection = Collection.load(run / "images.parquet")
    parts = parts_of_regions(run, collection)
    names = true_names(run, collection, parts)
    table = write_names(run / "thirty.csv", names)
    assert sae_traits(["name", str(run), str(table)]) == 0
    print(f"{len(names)} of {N_NAMES} latents named; the others lie on the background")
    lines = [[str(value) for value in astuple(one)] for one in count(run, parts)]
    print(markdown_table(["split", "rows", "with a part", "right", "on the background"], lines))


def parts_of_regions(run: Path, collection: Collection) -> dict[str, str | None]:
    """Trait -> the part on which its region lies; None for the background."""
    parts = Truth.load(collection.root).parts
    lies_on = {}
    for trait in read_traits(run / "traits" / "traits.parquet"):
        part = part_of(collection, collection.images[trait.candidate.image], trait.region)
        lies_on[trait.trait_id] = None if part == BACKGROUND else parts[part]
    return lies_on


def true_names(run: Path, collection: Collection, parts: Mapping[str, str | None]) -> dict[int, str]:
    """Names of the latents with the most regions in training images, without those that lie on the background."""
    seen: dict[int, Counter[str | None]] = defaultdict(Counter)
    for trait in read_traits(run / "traits" / "traits.parquet"):
        if collection.images[trait.candidate.image].split == "train" and trait.candidate.latent is not None:
            seen[trait.candidate.latent][parts[trait.trait_id]] += 1
    looked_at = sorted(seen, key=lambda latent: (-seen[latent].total(), latent))[:N_NAMES]
    names = {latent: seen[latent].most_common(1)[0][0] for latent in looked_at}
    return {latent: name for latent, name in names.items() if name is not None}


def write_names(path: Path, names: Mapping[int, str]) -> Path:
    """Write names as a table for `sae-traits name`."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["latent", "name"])
        writer.writerows(names.items())
    return path


def count(run: Path, parts: Mapping[str, str | None]) -> list[Counted]:
    """Compare the names that rows of the released dataset have with the parts on which they lie."""
    found = []
    for split, rows in load_traits(run).items():
        columns = (rows[name] for name in ("trait_id", "part", "part_source"))
        named = [(part, parts[trait]) for trait, part, source in zip(*columns, strict=True) if source == "named"]
        right, off = sum(name == part for name, part in named), sum(part is None for _, part in named)
        found.append(Counted(str(split), len(rows), len(named), right, off))
    return found


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
