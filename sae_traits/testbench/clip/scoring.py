"""What a CLIP of the drawn world is worth: zero-shot accuracy on the demo's species, which it has never seen.

Every condition classifies the same images: by names alone, by names with traits, by traits alone, and by names with the
traits of another species. A class is the mean of the unit embeddings of its texts. Individuals of a species are alike,
so intervals are bootstrapped over species: sixteen groups, hence wide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from sae_traits.evaluation.statistics import Interval, bootstrap_interval
from sae_traits.evaluation.text import as_phrase
from sae_traits.features.texture import texture_info
from sae_traits.testbench.clip.captions import in_words
from sae_traits.testbench.clip.model import input_framing
from sae_traits.testbench.clip.sketches import ON_PART, say
from sae_traits.testbench.clip.training import embed_images, embed_texts, normalise
from sae_traits.testbench.drawn.painter import SIZE, Drawing, draw_specimen
from sae_traits.testbench.drawn.world import PARTS, WORLD, DrawnSpecies, true_world

if TYPE_CHECKING:
    from transformers import CLIPModel, PreTrainedTokenizerFast

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

    pixels: NDArray[np.uint8]
    """`[n_images, side, side, 3]`."""
    species: NDArray[np.intp]
    """Index into WORLD of each image `[n_images]`."""
    traits: Mapping[Wording, Sequence[Sequence[str]]]
    """Texts of each species of WORLD."""


def draw_trial(seed: int, *, n_train: int = 17, n_test: int = 7) -> Trial:
    """Draw images as `draw_collection` does: traits from the first `n_train` of a species, images from the next."""
    framing = input_framing().grid((SIZE, SIZE), rows=1, columns=1)
    pixels, said, words = [], [], []
    for index, species in enumerate(WORLD):
        drawings = [draw_specimen(species, np.random.default_rng([seed, index, k])) for k in range(n_train + n_test)]
        pixels += [np.asarray(framing.frame(drawing.image)) for drawing in drawings[n_train:]]
        phrases = [as_phrase(text) for drawing in drawings[:n_train] for text in _said_of(drawing, species)]
        said.append([phrase for phrase, _ in Counter(phrases).most_common(N_TRAITS)])
        rng = np.random.default_rng([seed, index])
        words.append([in_words(species, rng) for _ in range(N_TRAITS)])
    return Trial(np.stack(pixels), np.repeat(np.arange(len(WORLD)), n_test), {"measured": said, "words": words})


def score(model: CLIPModel, tokenizer: PreTrainedTokenizerFast, trial: Trial, *, seed: int = 0) -> list[Accuracy]:
    """Accuracy of every condition for both wordings; the seed deals other species' traits and ties."""
    with torch.inference_mode():
        images = embed_images(model, normalise(trial.pixels))
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
            classes = embed_classes(model, tokenizer, texts[condition])
            right = predict(images, classes, rng) == trial.species
            rows.append(Accuracy(wording, condition, bootstrap_interval(right, groups=trial.species, seed=seed)))
    return rows


def embed_classes(model: CLIPModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[Sequence[str]]) -> torch.Tensor:
    """The unit mean of the unit embeddings of each class's texts `[n_classes, width]`."""
    means = []
    with torch.inference_mode():
        for of_class in texts:
            means.append(embed_texts(model, tokenizer, of_class).mean(dim=0))
    return functional.normalize(torch.stack(means), dim=1)


def predict(images: torch.Tensor, classes: torch.Tensor, rng: np.random.Generator) -> NDArray[np.intp]:
    """The class nearest to each image `[n_images]`, ties broken at random."""
    order = rng.permutation(len(classes))
    return order[(images @ classes[torch.from_numpy(order)].T).argmax(dim=1).numpy()]


def _said_of(drawing: Drawing, species: DrawnSpecies) -> list[str]:
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
