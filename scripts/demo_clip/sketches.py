"""Drawn images to learn from: small images, and what the describer `measured` says of regions of each.

The regions are patches of the grid on which the demo's backbone works, of the sizes that its latents fire on: mostly a
few patches of a part that tells the species, sometimes a whole part, sometimes anything in the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from demo_clip.species import MAIN_AND_SECOND, training_species
from sae_traits.describers.measured import MeasuredDescriber
from sae_traits.features.texture import texture_info
from sae_traits.geometry import Framing, PatchGrid
from sae_traits.images.workers import worker_pool
from sae_traits.logging import track
from sae_traits.testbench.drawn.painter import SIZE, Drawing, draw_specimen
from sae_traits.testbench.drawn.world import PARTS, DrawnSpecies
from sae_traits.traits.measures import measure
from sae_traits.traits.regions import make_region

BLOBS = 8
"""Random regions per image, besides its two telling parts."""
BLOB_SIZES, BLOB_SIZE_SHARES = ((1, 1), (2, 3), (4, 7), (8, 14)), (0.45, 0.2, 0.25, 0.1)
"""Smallest and largest number of patches, and how often: about what the latents of a demo run fire on."""
BLOB_PLACE_SHARES = (0.45, 0.25, 0.15, 0.15)
"""How often a blob begins on the main part, on the second part, on the animal, anywhere in the picture."""
ON_PART = 0.5
"""A patch belongs to a part when at least this share of it does."""


@dataclass(frozen=True)
class Sketch:
    """One image as the CLIP sees it."""

    pixels: NDArray[np.uint8]
    """`[side, side, 3]`."""
    sentences: tuple[str, ...]
    """What `measured` says: of the main part, of the second part (where they cover a patch), then of the blobs."""


@dataclass(frozen=True)
class Sketches:
    """Images of many species, the same number of each."""

    species: tuple[DrawnSpecies, ...]
    pixels: NDArray[np.uint8]
    """`[n_species, n_images, side, side, 3]`."""
    sentences: tuple[tuple[tuple[str, ...], ...], ...]
    """Of each image of each species."""


def sketch_species(seed: int, n_species: int, n_images: int, framing: Framing, *, workers: int = 2) -> Sketches:
    """Draw training species.

    Args:
        seed: of species and images.
        n_species: species to invent.
        n_images: images of each.
        framing: how images become the model's input.
        workers: processes that draw.
    """
    species = tuple(training_species(np.random.default_rng([seed, 0, index])) for index in range(n_species))
    jobs = [(seed, index, number) for index in range(n_species) for number in range(n_images)]
    draw = partial(_sketch_one, species, framing)
    with worker_pool(workers) as pool:
        sketches = list(track(pool.map(draw, jobs, chunksize=8), "sketch", len(jobs)))
    side = framing.size[0]
    pixels = np.stack([sketch.pixels for sketch in sketches]).reshape(n_species, n_images, side, side, 3)
    sentences = [sketch.sentences for sketch in sketches]
    by_species = tuple(tuple(sentences[i * n_images : (i + 1) * n_images]) for i in range(n_species))
    return Sketches(species, pixels, by_species)


def sketch(species: DrawnSpecies, framing: Framing, rng: np.random.Generator) -> Sketch:
    """Draw one image, and let `measured` speak of regions of it."""
    drawing = draw_specimen(species, rng)
    patch_grid = texture_info().grid((SIZE, SIZE))
    regions = sketch_regions(drawing, species, patch_grid, rng)
    image = np.asarray(drawing.image)
    grid = framing.grid((SIZE, SIZE), rows=1, columns=1)
    pixels = np.asarray(grid.frame(drawing.image, padding=(0, 0, 0)))
    return Sketch(pixels, tuple(say(image, patches, patch_grid) for patches in regions))


def say(image: NDArray[np.uint8], patches: Sequence[int], grid: PatchGrid) -> str:
    """What `measured` says of some patches of an image `[height, width, 3]`."""
    region = make_region(patches, grid)
    description = MeasuredDescriber().look(image, region, measure(image, region)).description
    assert description is not None  # `measured` always has words
    return description.text


def sketch_regions(
    drawing: Drawing, species: DrawnSpecies, grid: PatchGrid, rng: np.random.Generator
) -> list[list[int]]:
    """Patches of the regions to speak of: the telling parts in sight, then BLOBS random ones."""
    labels = np.asarray(drawing.labels)
    telling = [grid.patch_means(labels == PARTS.index(part)) >= ON_PART for part in MAIN_AND_SECOND[species.genus.plan]]
    everywhere = np.ones(grid.n_patches, dtype=bool)
    places = (*telling, grid.patch_means(labels > 0) >= ON_PART, everywhere)
    regions = [np.flatnonzero(part).tolist() for part in telling if part.any()]
    for _ in range(BLOBS):
        place = places[rng.choice(len(places), p=BLOB_PLACE_SHARES)]
        min_size, max_size = BLOB_SIZES[rng.choice(len(BLOB_SIZES), p=BLOB_SIZE_SHARES)]
        n_patches = int(rng.integers(min_size, max_size + 1))
        # Latents that fire at an edge do not stop there: a third of the blobs may leave their part.
        free = everywhere if rng.random() < 1 / 3 or not place.any() else place
        first = int(rng.choice(np.flatnonzero(place if place.any() else everywhere)))
        regions.append(grow(first, n_patches, free.reshape(grid.rows, grid.columns), rng))
    return regions


def grow(first: int, n_patches: int, free: NDArray[np.bool_], rng: np.random.Generator) -> list[int]:
    """A random connected group of patches around the first, all of them free `[rows, columns]`; corners touch.

    Returns:
        At most `n_patches` patches in ascending order, fewer where no free neighbour is left.
    """
    rows, columns = free.shape
    taken, border = {first}, {first}
    while len(taken) < n_patches:
        border = {
            y * columns + x
            for patch in taken
            for y in range(max(0, patch // columns - 1), min(rows, patch // columns + 2))
            for x in range(max(0, patch % columns - 1), min(columns, patch % columns + 2))
            if free[y, x]
        } - taken
        if not border:
            break
        taken.add(int(rng.choice(sorted(border))))
    return sorted(taken)


def _sketch_one(species: tuple[DrawnSpecies, ...], framing: Framing, job: tuple[int, int, int]) -> Sketch:
    seed, index, number = job
    return sketch(species[index], framing, np.random.default_rng([seed, 1, index, number]))
