"""Labelled images without pictures: their embeddings are planted, and an encoder knows words."""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
import torch

from sae_traits.config.benchmark import BenchmarkConfig
from sae_traits.evaluation.benchmarks.inputs import EmbeddedImages, Inputs
from sae_traits.evaluation.benchmarks.labels import LabelledRow
from sae_traits.evaluation.measures.class_names import ClassName
from sae_traits.evaluation.prompts import unit_length

WIDTH = 64


class Words:
    """A text encoder to which a text is the sum of its words."""

    context_length = 40

    def count_tokens(self, text):
        return len(text.split()) + 2

    def embed_texts(self, texts):
        found = [meaning(text.split()[: self.context_length - 2]) for text in texts]
        return torch.nn.functional.normalize(torch.tensor(np.array(found), dtype=torch.float32), dim=-1)


def meaning(words):
    """The sum of some words, each a random direction that is the same everywhere."""
    return np.sum([_of_word(word.strip(".,;").lower()) for word in words], axis=0)


@cache
def _of_word(word):
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
    return np.random.default_rng(seed).normal(size=WIDTH)


def class_name(number):
    genus, epithet = f"Genus{'abcdefghij'[number // 3]}", f"species{'abcdefghijklmnopqrst'[number]}"
    return ClassName(label=f"Groupe {number}", genus=genus, epithet=epithet, family=f"Family{number // 6}")


def row(number, label, **options):
    return LabelledRow(file=f"{number}.png", label=label, where=f"row {number}", **options)


def make_inputs(n_classes=6, n_images=8, *, splits=(None,), **options):
    """Images of some classes, in the order of the classes; splits are dealt in turn."""
    config = options.pop("config", BenchmarkConfig(images="toy", **options.pop("asked", {})))
    names = tuple(class_name(number) for number in range(n_classes))
    rows = tuple(
        row(n_images * number + n, name.label, split=splits[n % len(splits)])
        for number, name in enumerate(names)
        for n in range(n_images)
    )
    options = {"shots": config.shots} | options if config.shots else options
    return Inputs(config=config, rows=rows, names=names, units=np.arange(len(rows)), **options)


def see(inputs, texts, noise=0.5, seed=0):
    """A model to which an image looks like the text of its class, with noise."""
    generator = np.random.default_rng(seed)
    of_class = np.stack([meaning(text.split()) for text in texts])[inputs.truth]
    size = noise * np.linalg.norm(of_class, axis=1, keepdims=True) / WIDTH**0.5
    images = of_class + size * generator.normal(size=of_class.shape)
    return EmbeddedImages(name="toy/words", images=unit_length(images.astype(np.float32)), texts=Words())
