"""Parts of the drawn world: fewer species and fewer images of each, so that a test runs no more than it needs."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

from sae_traits.testbench.drawn import part_labels_file


def some_of(whole: Path, folder: Path, *, n_species: int, images_per_species: int) -> Path:
    """Copy the first images of the first species of a drawn collection, with masks, parts and truth."""
    folder.mkdir(parents=True)
    with (whole / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    species, n_copied, kept = list(dict.fromkeys(row["species"] for row in rows))[:n_species], Counter(), []
    for row in rows:
        if row["species"] in species and n_copied[row["species"]] < images_per_species:
            n_copied[row["species"]] += 1
            kept.append(row)
    for row in kept:
        for name in (row["file"], row["mask_file"], part_labels_file(row["file"])):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(whole / name, folder / name)
    for name in ("truth.json", "collection.yaml"):
        shutil.copy2(whole / name, folder / name)
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
    return folder
