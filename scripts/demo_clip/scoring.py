"""What a CLIP of the drawn world is worth: zero-shot accuracy on the demo's species, which it has never seen.

Every condition classifies the same images: by names alone, by names with traits, by traits alone, and by names with the
traits of another species. A class is the mean of the unit embeddings of its texts. Individuals of a species are alike,
so intervals are bootstrapped over species: sixteen groups, hence wide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from demo_clip.captions import in_words
from demo_clip.sketches import ON_PART, say
from sae_traits.evaluation.statistics import Interval, bootstrap_interval
from sae_traits.evaluation.text import as_phrase
from sae_traits.features.texture import texture_info
from sae_traits.models.clip.model import CLIP
from sae_traits.testbench.drawn.painter import SIZE, Drawing, draw_specimen
from sae_traits.testbench.drawn.world import PARTS, WORLD, DrawnSpecies, true_world

CONDITIONS = ("name only", "name + traits", "traits only", "name + another species' traits")
N_TRAITS = 5
"""Of a species, the most widely shared ones."""
Wording = str
"""`measured`: sentences about the diagnostic parts of training images; `words`: the true traits in words."""


@dataclass(frozen=True)
class Accuracy:
    """Top-1 accuracy of one condition, with a 95 % bootstrap interval over species."""

    wording: Wording
    condition: str
    top1: Interval


@dataclass(frozen=True)
class Trial:
    """Images of the demo's species, and what is said of images that are not among them."""

    images: tuple[Image.Image, ...]
    species: NDArray[np.intp]
    """Index into WORLD of each image `[n_images]`."""
    traits: Mapping[Wording, Sequence[Sequence[str]]]
    """Texts of each species of WORLD."""


def draw_trial(seed: int, *, n_train: int = 17, n_test: int = 7) -> Trial:
    """Draw images as `draw_collection` does: traits from the first `n_train` of a species, images from the next."""
    images, measured, words = [], [], []
    for index, species in enumerate(WORLD):
        drawings = [draw_specimen(species, np.random.default_rng([seed, index, k])) for k in range(n_train + n_test)]
        images += [drawing.image for drawing in drawings[n_train:]]
        phrases = [as_phrase(text) for drawing in drawings[:n_train] for text in _sentences_of(drawing, species)]
        measured.append([phrase for phrase, _ in Counter(phrases).most_common(N_TRAITS)])
        rng = np.random.default_rng([seed, index])
        words.append([in_words(species, rng) for _ in range(N_TRAITS)])
    return Trial(tuple(images), np.repeat(np.arange(len(WORLD)), n_test), {"measured": measured, "words": words})


def score(clip: CLIP, trial: Trial, *, seed: int = 0) -> list[Accuracy]:
    """Accuracy of every condition for both wordings; the seed deals other species' traits and ties."""
    images = clip.embed_images(torch.stack([clip.prepare(image) for image in trial.images]))
    rng = np.random.default_rng(seed)
    names = [species.binomial for species in WORLD]
    other = _derangement(len(WORLD), rng)
    rows = []
    for wording, traits in trial.traits.items():
        texts = {
            "name only": [[name] for name in names],
            "name + traits": _joined(names, traits),
            "traits only": traits,
            "name + another species' traits": _joined(names, [traits[int(index)] for index in other]),
        }
        for condition in CONDITIONS:
            classes = embed_classes(clip, texts[condition])
            right = predict(images, classes, rng) == trial.species
            rows.append(Accuracy(wording, condition, bootstrap_interval(right, groups=trial.species, seed=seed)))
    return rows


def embed_classes(clip: CLIP, texts: Sequence[Sequence[str]]) -> torch.Tensor:
    """The unit mean of the unit embeddings of each class's texts `[n_classes, embed_dim]`."""
    return functional.normalize(torch.stack([clip.embed_texts(of_class).mean(dim=0) for of_class in texts]), dim=1)


def predict(images: torch.Tensor, classes: torch.Tensor, rng: np.random.Generator) -> NDArray[np.intp]:
    """The class nearest to each image `[n_images]`, ties broken at random."""
    order = rng.permutation(len(classes))
    return order[(images @ classes[torch.from_numpy(order)].T).argmax(dim=1).numpy()]


def _sentences_of(drawing: Drawing, species: DrawnSpecies) -> list[str]:
    """What `measured` says of the diagnostic parts of an image, as far as they cover a patch."""
    image, labels = np.asarray(drawing.image), np.asarray(drawing.labels)
    grid = texture_info().grid((SIZE, SIZE))
    parts = dict.fromkeys(trait.part for trait in true_world(WORLD).of(species.binomial).diagnostic)
    regions = [np.flatnonzero(grid.patch_means(labels == PARTS.index(part)) >= ON_PART) for part in parts]
    return [say(image, patches.tolist(), grid) for patches in regions if len(patches)]


def _joined(names: Sequence[str], traits: Iterable[Sequence[str]]) -> list[list[str]]:
    return [[f"{name}, {trait}" for trait in of_class] for name, of_class in zip(names, traits, strict=True)]


def _derangement(n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """A random order in which nothing stays in its place."""
    while True:
        order = rng.permutation(n)
        if (order != np.arange(n)).all():
            return order
