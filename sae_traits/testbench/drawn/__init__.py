"""The drawn world: images of invented species with known parts and known diagnostic traits.

A test bench and a demo: the whole pipeline can be scored against a known truth on any machine in minutes. No claim
about real organisms can be made from it. The pipeline reads the images and metadata.csv; truth.json, the masks and the
part label maps are for scoring only.
"""

import csv
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from sae_traits.errors import CollectionError
from sae_traits.images.note import NOTE_FILE
from sae_traits.images.workers import worker_pool
from sae_traits.logging import track
from sae_traits.testbench.drawn.painter import draw_specimen
from sae_traits.testbench.drawn.world import NOTE, WORLD, Truth, true_world

__all__ = ["Truth", "draw_collection", "part_labels_file"]

METADATA_FILE = "metadata.csv"
IMAGES, MASKS, PARTS = "images", "masks", "parts"
LICENSE = "CC0-1.0"
RIGHTS_HOLDER = "sae-traits, drawn world (invented species)"


def draw_collection(folder: Path, *, seed: int = 0, images_per_species: int = 24, workers: int = 2) -> None:
    """Draw a collection into a folder: images, masks, part label maps, metadata.csv, truth.json and collection.yaml.

    The same arguments give the same bytes, whatever the number of workers, and an image does not depend on how many
    others are drawn.

    What the same call wrote before is written again. The seed, 0 or more, is that of everything that varies between
    individuals; the species are always the same sixteen.

    Raises:
        CollectionError: images_per_species is below 1, or the folder holds images of something else.
    """
    if images_per_species < 1:
        raise CollectionError(f"images_per_species must be at least 1, not {images_per_species}")
    jobs = [(species, number) for species in range(len(WORLD)) for number in range(images_per_species)]
    present = {path.relative_to(folder).as_posix() for path in (folder / IMAGES).rglob("*") if path.is_file()}
    if others := sorted(present - {_image_file(*job) for job in jobs}):  # a user's own, or those of a larger drawing
        raise CollectionError(
            f"{folder} already holds {len(others)} images that would not be drawn, such as {others[0]}; "
            "choose another folder or remove it"
        )
    for kind in (IMAGES, MASKS, PARTS):
        for species in range(len(WORLD)):
            (folder / kind / _species_folder(species)).mkdir(parents=True, exist_ok=True)
    with worker_pool(workers) as pool:
        rows = list(track(pool.map(partial(_draw_one, folder, seed), jobs, chunksize=8), "draw", len(jobs)))
    with (folder / METADATA_FILE).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    true_world(WORLD).save(folder)
    (folder / NOTE_FILE).write_text(yaml.safe_dump({"note": NOTE}, width=1000), encoding="utf-8")  # it is complete


def part_labels_file(image_file: str) -> str:
    """The part label map of an image of a drawn collection, both relative to the collection's folder.

    A label map is of mode L and of the image's size; its values are indices into the part list of truth.json.
    """
    return str(PurePosixPath(PARTS, *PurePosixPath(image_file).parts[1:]))


def _draw_one(folder: Path, seed: int, job: tuple[int, int]) -> dict[str, Any]:
    """Draw and write one image; its row of metadata.csv."""
    species, number = job
    drawing = draw_specimen(WORLD[species], np.random.default_rng([seed, species, number]))
    file = _image_file(species, number)
    mask_file = str(PurePosixPath(MASKS, *PurePosixPath(file).parts[1:]))
    drawing.image.save(folder / file)
    drawing.labels.point([0, *[255] * 255]).save(folder / mask_file)
    drawing.labels.save(folder / part_labels_file(file))
    genus = WORLD[species].genus
    return {
        "file": file,
        "species": WORLD[species].binomial,
        "genus": genus.name,
        "family": genus.family,
        "order": genus.order,
        "license": LICENSE,
        "rights_holder": RIGHTS_HOLDER,
        "mask_file": mask_file,
        "mm_per_pixel": f"{drawing.mm_per_pixel:.6f}",
    }


def _species_folder(species: int) -> str:
    return WORLD[species].binomial.replace(" ", "_")


def _image_file(species: int, number: int) -> str:
    return f"{IMAGES}/{_species_folder(species)}/{number:03d}.png"
