"""A BIOSCAN-5M of a few rows: the real columns, layout and kinds of names."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image

COLUMNS = (
    *("processid", "sampleid", "taxon", "phylum", "class", "order", "family", "subfamily", "genus", "species"),
    *("dna_bin", "dna_barcode", "country", "province_state", "coord-lat", "coord-lon", "image_measurement_value"),
    *("area_fraction", "scale_factor", "inferred_ranks", "split", "index_bioscan_1M_insect", "chunk"),
)
FLY = {"phylum": "Arthropoda", "class": "Insecta", "order": "Diptera", "inferred_ranks": "0"}


def row(process_id: str, split: str, species: str = "", family: str = "Phoridae", chunk: str = "", **cells: str):
    """A row of the table; the genus is the species' first word."""
    named = {"processid": process_id, "split": split, "species": species, "family": family, "chunk": chunk}
    return FLY | named | {"genus": species.partition(" ")[0], "dna_barcode": "ACGT" * 165} | cells


def write_metadata(root: Path, rows: Iterable[Mapping[str, str]]) -> Path:
    """The metadata table below the folder bioscan5m."""
    path = root / "metadata/csv/BIOSCAN_5M_Insect_Dataset_metadata.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_images(root: Path, files: Iterable[str], package: str = "cropped_256") -> None:
    """Images of a package, such as train/0/AAA1-20.jpg, each of another colour."""
    for number, file in enumerate(files):
        path = root / "images" / package / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 8), (20 * number % 256, 40, 100)).save(path)


def small(root: Path) -> Path:
    """Two species in three partitions, and one row of every kind that is left out."""
    named = [
        row("AAA1-20", "train", "Megaselia scalaris", chunk="0"),
        row("AAA2-20", "train", "Megaselia scalaris", chunk="1e"),
        row("AAA3-20", "val", "Megaselia scalaris"),
        row("AAA4-20", "test", "Megaselia scalaris", inferred_ranks="3"),
        row("BBB1-21", "train", "Sciara hemerobioides", family="Sciaridae", chunk="0"),
        row("BBB2-21", "test", "Sciara hemerobioides", family="Sciaridae"),
    ]
    write_metadata(
        root,
        [
            *named,
            row("CCC1-22", "key_unseen", "Megaselia sp. 3YDA"),
            row("CCC2-22", "val_unseen", "Megaselia sp. 3YDA"),
            row("CCC3-22", "test_unseen", "Megaselia sp. 3YDA"),
            row("CCC4-22", "other_heldout", "phoridMalaise01 sp. 1", chunk="3"),
            row("DDD1-22", "pretrain", chunk="00"),
            row("DDD2-22", "pretrain", chunk="ff", genus="unassigned Phoridae"),
        ],
    )
    write_images(root, [f"{r['split']}/{r['chunk'] + '/' if r['chunk'] else ''}{r['processid']}.jpg" for r in named])
    return root
