"""Drawn species that a CLIP has seen, and others that it has not, as pictures with texts for `sae-traits finetune`.

Three groups of invented species: `general` ones, which a base model learns from; `seen` ones, on which it is trained
further; `unseen` ones. No look of an unseen species (scripts/demo_clip/species.py says what a look is) belongs to a
species of another group, or to another unseen one, so that nothing that tells it apart was ever learnt as a whole.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from demo_clip.captions import in_words
from demo_clip.model import input_framing
from demo_clip.sketches import Sketches, sketch
from demo_clip.species import Look, looks, training_species
from sae_traits.evaluation.text import as_phrase
from sae_traits.io import whole_file
from sae_traits.logging import track
from sae_traits.testbench.drawn.painter import SIZE, draw_specimen
from sae_traits.testbench.drawn.world import WORLD, DrawnSpecies

N_TRAITS = 5
"""Sentences that are kept of a picture: of its telling parts, then of random regions; and of a species."""
N_GENERAL_TEXTS = 3
"""Captions of each general picture."""
Row = tuple[NDArray[np.uint8], Mapping[str, str]]
"""A picture `[side, side, 3]`, and its texts by the keys of shards."""


@dataclass(frozen=True)
class World:
    """Pictures of species, and what the describer `measured` says of them."""

    general: Sketches
    """To learn from before; without sentences."""
    general_test: Sketches
    """Other species of the same kind, to ask what is still known."""
    seen: Sketches
    unseen: Sketches


@dataclass(frozen=True, kw_only=True)
class WorldSize:
    """How many species and pictures of each."""

    n_general: int = 1500
    n_general_test: int = 150
    n_seen: int = 160
    n_seen_images: int = 6
    n_invented: int = 24
    """Unseen species besides the sixteen of the demo."""
    n_unseen_images: int = 12


def draw_world(folder: Path, size: WorldSize, seed: int) -> World:
    """Draw a world, or read what the same call drew before into the folder."""
    unseen, taken = _unseen_species(size.n_invented, seed)
    others = [
        species_without([seed, 2, index], taken) for index in range(size.n_general + size.n_general_test + size.n_seen)
    ]
    general, rest = others[: size.n_general], others[size.n_general :]
    groups = {
        "general": (general, 1, plain_picture),
        "general_test": (rest[: size.n_general_test], 1, plain_picture),
        "seen": (rest[size.n_general_test :], size.n_seen_images, told_picture),
        "unseen": (unseen, size.n_unseen_images, told_picture),
    }
    drawn = {}
    for number, (name, (species, n_images, picture)) in enumerate(groups.items()):
        path = folder / f"{name}.npz"
        if not path.is_file():
            draw = partial(picture, seed=[seed, 3, number])
            jobs = [(one, index, image) for index, one in enumerate(species) for image in range(n_images)]
            pictures = [draw(*job) for job in track(jobs, f"draw {name}", len(jobs))]
            with whole_file(path) as file:
                pixels = np.stack([pixels for pixels, _ in pictures])
                np.savez(file, pixels=pixels, sentences=json.dumps([sentences for _, sentences in pictures]))
        drawn[name] = _read(path, species, n_images)
    return World(**drawn)


def _read(path: Path, species: Sequence[DrawnSpecies], n_images: int) -> Sketches:
    with np.load(path) as saved:
        pixels, sentences = saved["pixels"], json.loads(str(saved["sentences"]))
    said = [tuple(of_image) for of_image in sentences]
    of_species = tuple(tuple(said[i * n_images : (i + 1) * n_images]) for i in range(len(species)))
    return Sketches(tuple(species), pixels.reshape(len(species), n_images, *pixels.shape[1:]), of_species)


def _unseen_species(n_invented: int, seed: int) -> tuple[list[DrawnSpecies], frozenset[Look]]:
    """The demo's species and invented ones, no two alike; and all their looks."""
    unseen, taken = list(WORLD), frozenset(look for species in WORLD for look in looks(species))
    for index in range(n_invented):
        unseen.append(species_without([seed, 1, index], taken))
        taken |= looks(unseen[-1])
    return unseen, taken


def species_without(seed: Sequence[int], taken: frozenset[Look]) -> DrawnSpecies:
    """Invent a species that has none of some looks."""
    rng = np.random.default_rng(seed)
    while looks(species := training_species(rng)) & taken:
        pass
    return species


def plain_picture(
    species: DrawnSpecies, index: int, image: int, *, seed: Sequence[int]
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """A picture as the model sees it, and no sentence."""
    drawing = draw_specimen(species, np.random.default_rng([*seed, index, image]))
    grid = input_framing().grid((SIZE, SIZE), rows=1, columns=1)
    return np.asarray(grid.frame(drawing.image, padding=(0, 0, 0))), ()


def told_picture(
    species: DrawnSpecies, index: int, image: int, *, seed: Sequence[int]
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """A picture as the model sees it, and what `measured` says of its regions."""
    told = sketch(species, input_framing(), np.random.default_rng([*seed, index, image]))
    return told.pixels, told.sentences[:N_TRAITS]


def traits_of(sketches: Sketches, n_images: int) -> list[tuple[str, ...]]:
    """What is said most often of the first `n_images` pictures of each species, at most N_TRAITS phrases."""
    counts = [
        Counter(as_phrase(text) for image in images[:n_images] for text in image) for images in sketches.sentences
    ]
    return [tuple(phrase for phrase, _ in count.most_common(N_TRAITS)) for count in counts]


def general_rows(sketches: Sketches, seed: int) -> Iterator[Row]:
    """General pictures with captions in words, one in three of which begins with a name."""
    rng = np.random.default_rng([seed, 4])
    for species, images in zip(sketches.species, sketches.pixels, strict=True):
        for pixels in images:
            for number in range(N_GENERAL_TEXTS):
                words = in_words(species, rng)
                caption = f"a photo of {species.binomial}, {words}." if number % 2 else words
                yield pixels, {"caption.txt": caption}


def seen_rows(sketches: Sketches, n_images: int, speaker: Sequence[int]) -> Iterator[Row]:
    """A row per picture and trait: names, a trait (`txt`) and a caption, the same pictures in the same order always.

    Args:
        sketches: of species with sentences.
        n_images: of each species.
        speaker: the species whose sentences a species gets `[n_species]`; its own, or another.
    """
    for index, species in enumerate(sketches.species):
        for image in range(n_images):
            said = [as_phrase(text) for text in sketches.sentences[speaker[index]][image]]
            caption = f"{species.binomial} with {said[0]} and {said[1]}"
            for trait in said:
                genus = {"genus": species.genus.name, "family": species.genus.family, "order": species.genus.order}
                taxon = json.dumps({"species": species.binomial} | genus)
                yield sketches.pixels[index, image], {"txt": trait, "caption.txt": caption, "json": taxon}


def deal(n: int, seed: int) -> NDArray[np.intp]:
    """Another one for each of n, each once `[n]`."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(n)
        if (order != np.arange(n)).all():
            return order


def write_shard(path: Path, rows: Iterable[Row]) -> Path:
    """Write rows as a WebDataset shard, unless it is there."""
    if path.is_file():
        return path
    with whole_file(path) as file, tarfile.open(fileobj=file, mode="w") as tar:
        for number, (pixels, texts) in enumerate(rows):
            image = io.BytesIO()
            Image.fromarray(pixels).save(image, "png")
            for key, content in (
                {"png": image.getvalue()} | {key: text.encode() for key, text in texts.items()}
            ).items():
                member = tarfile.TarInfo(f"{number:06d}.{key}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path
