"""A world without pictures: an image is the sum of the words that describe it, and so is a text."""

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import torch

from sae_traits.schema import (
    Candidate,
    Collection,
    Contrast,
    Description,
    ImageRecord,
    Measurement,
    Region,
    Taxon,
    Trait,
)

WIDTH = 96
COLOURS = ["red", "blue", "green", "white", "black", "yellow", "brown", "orange", "violet", "grey"]
PARTS = ["head", "elytra", "legs", "wings", "thorax"]
PATTERNS = ["spotted", "banded", "plain", "striped", "marbled", "netted"]


@cache
def word_vector(word):
    """The same random direction for a word, everywhere and always."""
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    return np.random.default_rng(seed).normal(size=WIDTH)


class BagOfWords:
    """A text encoder that reads words one by one and cuts off what exceeds its context."""

    def __init__(self, context_length=77):
        self.context_length = context_length
        self.n_encoded = 0

    def count_tokens(self, text):
        return len(text.split()) + 2  # start and end

    def embed_texts(self, texts):
        self.n_encoded += len(texts)
        sums = []
        for text in texts:
            words = [word.strip(".,;").lower() for word in text.split()[: self.context_length - 2]]
            sums.append(np.sum([word_vector(word) for word in words], axis=0))
        found = torch.tensor(np.array(sums), dtype=torch.float32)
        return torch.nn.functional.normalize(found, dim=-1)


class Constant(BagOfWords):
    """An encoder to which all texts are the same."""

    def embed_texts(self, texts):
        return torch.nn.functional.normalize(torch.ones(len(texts), WIDTH), dim=-1)


class Untrained(BagOfWords):
    """An encoder to which every text is a direction of its own."""

    def embed_texts(self, texts):
        found = torch.tensor(np.array([word_vector(f"untrained {text}") for text in texts]), dtype=torch.float32)
        return torch.nn.functional.normalize(found, dim=-1)


def species_name(number):
    return f"Genus{chr(97 + number // 26)} species{chr(97 + number % 26)}"


def make_record(number, species, split, **taxon):
    return ImageRecord(
        image_id=str(number),
        file=f"{number}.png",
        taxon=Taxon(species=species, **taxon),
        split=split,
        width=8,
        height=8,
        sha256="",
    )


def make_trait(row, text, effect=1.0):
    contrast = Contrast(f_species=1, f_reference=0, effect=effect, q_value=0, significant=True, reference_rank="genus")
    return Trait(
        trait_id=f"{row} {text}",
        candidate=Candidate(image=row, latent=0, patches=(0,), peak=1, contrast=contrast),
        region=Region(box=(0, 0, 1, 1), polygons=(), patches=(0,), area_fraction=0),
        description=Description(text=text),
        measurement=Measurement(
            length_px=1, width_px=1, elongation=1, texture_contrast=0, color_lab=(0, 0, 0), color_name="red"
        ),
        describer="toy",
        describer_model="toy@1",
        prompt="1",
    )


def make_world(seed, *, true_traits=True, names_known=False, n_species=20, splits=None, noise=1.0):
    """A collection, one embedding an image `[n_images, WIDTH]`, and the traits of all images.

    Every species has three traits; its images show them with noise. With `true_traits` off, the traits that are written
    down belong to nobody. With `names_known`, images also look like their species' name.
    """
    splits = splits or {"train": 4, "validation": 8, "test": 15}
    generator = np.random.default_rng(seed)
    records, images, traits = [], [], []
    for number in range(n_species):
        name = species_name(number)
        shown, told = (_deal_traits(generator) for _ in range(2))
        told = shown if true_traits else told
        meaning = sum(word_vector(word) for text in shown for word in text.lower().strip(".").split()[1:])
        if names_known:
            meaning = meaning + sum(word_vector(word) for word in name.lower().split())
        for split, count in splits.items():
            for _ in range(count):
                row = len(records)
                records.append(make_record(row, name, split))
                images.append(meaning + noise * np.linalg.norm(meaning) / WIDTH**0.5 * generator.normal(size=WIDTH))
                traits += [make_trait(row, text) for text in told]
    return Collection(Path("toy"), tuple(records)), np.array(images, dtype=np.float32), traits


def _deal_traits(generator):
    parts = generator.choice(PARTS, 3, replace=False)
    return [f"A {generator.choice(PATTERNS)} {generator.choice(COLOURS)} {part}." for part in parts]
