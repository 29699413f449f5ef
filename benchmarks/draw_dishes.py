"""Put the organisms of a collection, cut out along their masks, small and at any angle onto drawn dishes.

Photographs of specimens on a plain dish differ at their edges (rim, table) from their middles, most of which is dish.
Each species' dishes have a tint of their own, as if it had been photographed in one session. The table that is written
names the new masks, so that regions can be scored:

    python benchmarks/draw_dishes.py TABLE OUT [--per-species N] [--seed S] [--without-rim] [--dirty]
    python benchmarks/quality_background.py --backbone MODEL --layer 11 --folder RUNS OUT/metadata.csv
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from sae_traits.config import CollectionConfig
from sae_traits.images import read_collection
from sae_traits.images.decode import open_image, open_mask
from sae_traits.schema import Collection, ImageRecord

SIDE = 480
RADIUS, ORGANISM = (0.47, 0.55), (0.18, 0.32)
"""Of the dish, and longest side of the organism: shares of the photograph's side."""
LIGHT, DARK, RIM = (215.0, 215.0, 215.0), (70.0, 65.0, 60.0), (235.0, 235.0, 240.0)
TEXTURE, N_GLARES, N_CRUMBS, N_FIBRES = (3.0, 9.0), 2, 25, 6
"""Of dirty dishes: standard deviation of the texture, of 255, and how many there are of the rest on average."""
TINT, GRAIN, JITTER = 6.0, 3.0, 45.0
"""Standard deviations: of a species' tint, half as much again of each dish's, and of each pixel, of 255; and of the
organism's place, in pixels."""


def cut_out(collection: Collection, record: ImageRecord) -> tuple[Image.Image, Image.Image] | None:
    """An organism and its mask, as large as it; None where it has no mask."""
    path = collection.mask_path(record)
    if path is None:
        return None
    photograph, mask = open_image(collection.path(record)), Image.fromarray(open_mask(path))
    box = mask.getbbox()
    return (photograph.crop(box), mask.crop(box).convert("L")) if box else None


def draw_dish(
    tint: np.ndarray, generator: np.random.Generator, *, has_rim: bool = True, is_dirty: bool = False
) -> Image.Image:
    """An empty dish on something dark, a little out of the middle and darker towards its rim, or its ground alone.

    A dirty one has a texture as of paper or agar, a glare of a lamp, and crumbs and fibres.
    """
    y, x = np.mgrid[:SIDE, :SIDE]
    centre, radius = SIDE / 2 + generator.normal(0, SIDE / 40, 2), SIDE * generator.uniform(*RADIUS)
    distance = np.hypot(x - centre[0], y - centre[1])
    pixels = np.array(LIGHT) + tint + generator.normal(0, TINT / 2, 3) - 25 * ((distance / radius) ** 2)[..., None]
    if is_dirty:
        pixels += _dirt(x, y, generator)
    if has_rim:
        pixels[distance > radius] = np.array(DARK) + tint
        pixels[np.abs(distance - radius) < SIDE / 80] = RIM
    pixels += generator.normal(0, GRAIN, (SIDE, SIDE, 1))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.8))


def _dirt(x: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """What lies on a dish besides the organism, to be added to its pixels `[SIDE, SIDE, 1]`."""
    texture = ndimage.gaussian_filter(generator.normal(0, 1, (SIDE, SIDE)), generator.uniform(2, 5))
    dirt = generator.uniform(*TEXTURE) * texture / texture.std()
    for _ in range(generator.poisson(N_GLARES)):
        left, top = generator.uniform(0, SIDE, 2)
        dirt += 60 * np.exp(-np.hypot(x - left, y - top) / generator.uniform(8, 25))
    drawn = Image.new("L", (SIDE, SIDE))
    pen = ImageDraw.Draw(drawn)
    for _ in range(generator.poisson(N_CRUMBS)):
        left, top, radius = *generator.uniform(0, SIDE, 2), generator.uniform(1, 4)
        pen.ellipse((left - radius, top - radius, left + radius, top + radius), fill=int(generator.uniform(60, 160)))
    for _ in range(generator.poisson(N_FIBRES)):
        ends = generator.uniform(0, SIDE, 2)
        pen.line([*ends, *(ends + generator.normal(0, 40, 2))], fill=int(generator.uniform(60, 160)), width=2)
    return (dirt - np.asarray(drawn, dtype=np.float64))[..., None]


def lay_down(
    organism: Image.Image, mask: Image.Image, dish: Image.Image, generator: np.random.Generator
) -> tuple[Image.Image, Image.Image]:
    """The dish with the organism on it, and the mask of that photograph."""
    scale = generator.uniform(*ORGANISM) * SIDE / max(organism.size)
    size = (max(8, round(organism.width * scale)), max(8, round(organism.height * scale)))
    angle = generator.uniform(0, 360)
    organism, mask = (
        image.resize(size, Image.Resampling.LANCZOS).rotate(angle, expand=True, resample=Image.Resampling.BICUBIC)
        for image in (organism, mask)
    )
    x, y = (round((SIDE - side) / 2 + generator.normal(0, JITTER)) for side in organism.size)
    placed = Image.new("L", dish.size)
    placed.paste(mask, (x, y))
    dish.paste(organism, (x, y), mask.filter(ImageFilter.GaussianBlur(0.6)))
    return dish, placed


def draw_collection(
    collection: Collection,
    folder: Path,
    per_species: int,
    *,
    seed: int = 0,
    has_rim: bool = True,
    is_dirty: bool = False,
) -> Path:
    """Write the photographs, their masks and the table that names both."""
    generator = np.random.default_rng(seed)
    of_species: dict[str, list[ImageRecord]] = defaultdict(list)
    for record in collection.images:
        if record.mask_file and record.taxon.species:
            of_species[record.taxon.species].append(record)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for species, records in sorted(of_species.items()):
        tint = generator.normal(0, TINT, 3)
        for number in generator.permutation(len(records))[:per_species].tolist():
            if (cut := cut_out(collection, records[number])) is None:
                continue
            dish = draw_dish(tint, generator, has_rim=has_rim, is_dirty=is_dirty)
            photograph, mask = lay_down(*cut, dish, generator)
            file, mask_file = f"images/{len(rows):05d}.jpg", f"images/{len(rows):05d}_mask.png"
            photograph.save(folder / file, quality=92)
            mask.save(folder / mask_file)
            taxon = records[number].taxon
            rows.append([file, mask_file, species, taxon.family or "", taxon.order or ""])
    table = folder / "metadata.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["file", "mask_file", "species", "family", "order"], *rows])
    return table


def main() -> None:
    """Draw the photographs of a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, metavar="TABLE")
    parser.add_argument("folder", type=Path, metavar="OUT")
    parser.add_argument("--per-species", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without-rim", action="store_true", help="ground up to the photograph's edges")
    parser.add_argument("--dirty", action="store_true", help="texture, glare, crumbs and fibres on the ground")
    given = parser.parse_args()
    collection = read_collection(CollectionConfig(source=str(given.table)))
    kind = {"has_rim": not given.without_rim, "is_dirty": given.dirty}
    print(draw_collection(collection, given.folder, given.per_species, seed=given.seed, **kind))


if __name__ == "__main__":
    main()
