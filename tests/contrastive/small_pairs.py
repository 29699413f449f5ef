"""Small collections of coloured squares with names and captions, and a small CLIP to train on them."""

import csv
import io
import tarfile

import numpy as np
from clip_folders import make_open_clip_folder, make_transformers_clip_folder
from PIL import Image

from sae_traits.config.finetune import BaseModelConfig, FinetuneConfig, OptimiserConfig, PairsConfig, ScheduleConfig

COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200), "yellow": (200, 200, 30)}
SPECIES = dict(zip(COLOURS, ("Rubra rubra", "Viridia viridis", "Caerulea caerula", "Flava flava"), strict=True))


def make_table(folder, n_per_species=8, *, without_caption=(), licenses=("CC0-1.0",)):
    """A table of images, each species in a colour of its own; the last two of each are for validation."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for colour, species in SPECIES.items():
        for number in range(n_per_species):
            pixels = np.clip(np.array(COLOURS[colour]) + rng.normal(0, 25, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{colour}-{number}.png")
            rows.append(
                {
                    "file": f"{colour}-{number}.png",
                    "species": species,
                    "split": "validation" if number >= n_per_species - 2 else "train",
                    "license": licenses[number % len(licenses)],
                    "caption": "" if number in without_caption else f"A {colour} square, number {number}.",
                }
            )
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "metadata.csv"


def make_shard(path, samples):
    """WebDataset samples as a tar file: name -> key -> content."""
    with tarfile.open(path, "w") as tar:
        for name, members in samples.items():
            for key, content in members.items():
                data = content if isinstance(content, bytes) else content.encode()
                member = tarfile.TarInfo(f"{name}.{key}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


def make_model(folder, layout="open_clip", **options):
    """A small random CLIP as a folder."""
    (make_open_clip_folder if layout == "open_clip" else make_transformers_clip_folder)(folder, **options)
    return folder


def config_of(data, model, *, pairs=None, base=None, schedule=None, optimiser=None):
    """A configuration of a short training in this process."""
    return FinetuneConfig(
        pairs=PairsConfig(**{"data": str(data), "workers": 0} | (pairs or {})),
        base=BaseModelConfig(**{"model": str(model)} | (base or {})),
        schedule=ScheduleConfig(**{"batch_size": 8, "epochs": 2, "evaluations": 1} | (schedule or {})),
        optimiser=OptimiserConfig(**{"learning_rate": 1e-3} | (optimiser or {})),
    )
