"""Train the demo's CLIP: `sae-traits finetune` on drawings with captions, from a CLIP of random weights.

Every step has one image of each of many species. A caption is made of what was said of any image of the species, as in
the demo, where traits of training images meet images of test images. A caption may be true of several images of a step:
the loss then learns their odds, which is what zero-shot classification asks for.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from PIL import Image

from demo_clip.captions import CaptionWriter
from demo_clip.model import new_model, save_clip, train_tokenizer
from demo_clip.sketches import Sketches
from sae_traits.config.finetune import BaseModelConfig, FinetuneConfig, OptimiserConfig, PairsConfig, ScheduleConfig
from sae_traits.contrastive.trainer import Finetuned, finetune


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How large a CLIP, and how it is trained."""

    seed: int = 0
    n_steps: int = 600
    batch_size: int = 256
    """Species per step, one image of each."""
    captions_per_image: int = 8
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    weight_decay: float = 0.05
    width: int = 128
    vision_layers: int = 4
    text_layers: int = 2
    n_tokenizer_captions: int = 20_000
    workers: int = 1
    """Processes that open images."""


def train(sketches: Sketches, settings: TrainingSettings, folder: Path) -> Finetuned:
    """Train tokenizer and model from random weights; on one machine the same settings give the same model.

    Args:
        sketches: images and what is said of them.
        settings: sizes and rates.
        folder: gets the pairs, the CLIP of random weights, and what the training leaves.

    Raises:
        ConfigError: there are fewer species than a batch needs.
    """
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng([settings.seed, 2])
    writer = CaptionWriter(settings.seed)
    indices = rng.integers(len(sketches.species), size=settings.n_tokenizer_captions)
    tokenizer = train_tokenizer(_caption(writer, sketches, int(index), rng) for index in indices)
    layers = {"vision_layers": settings.vision_layers, "text_layers": settings.text_layers}
    new, pairs = folder / "new", folder / "pairs.tar"
    save_clip(new_model(len(tokenizer), width=settings.width, **layers), tokenizer, new, torch.float32)
    write_pairs(pairs, sketches, writer, settings.captions_per_image, rng)
    n_pairs = settings.captions_per_image * sketches.pixels.shape[0] * sketches.pixels.shape[1]
    config = FinetuneConfig(
        pairs=PairsConfig(
            data=str(pairs), text_types=("caption",), sampling="distinct", min_crop=1.0, workers=settings.workers
        ),
        base=BaseModelConfig(model=str(new)),
        schedule=ScheduleConfig(
            batch_size=settings.batch_size,
            epochs=settings.n_steps / max(1, n_pairs // settings.batch_size),
            evaluations=0,
            seed=settings.seed,
        ),
        optimiser=OptimiserConfig(
            learning_rate=settings.learning_rate,
            warmup_steps=settings.warmup_steps,
            weight_decay=settings.weight_decay,
            max_gradient_norm=1.0,
        ),
    )
    return finetune(config, folder / "trained", accelerator=Accelerator(cpu=True))


def write_pairs(
    path: Path, sketches: Sketches, writer: CaptionWriter, captions_per_image: int, rng: np.random.Generator
) -> None:
    """Write a WebDataset shard of images, each time seen a little differently, with captions and species."""
    with tarfile.open(path, "w") as tar:
        for number, (index, pixels) in enumerate(_views(sketches, captions_per_image, rng)):
            image = io.BytesIO()
            Image.fromarray(pixels).save(image, "png")
            species = sketches.species[index].binomial
            texts = {"caption.txt": _caption(writer, sketches, index, rng), "scientific_name.txt": species}
            parts = {"png": image.getvalue()} | {key: text.encode() for key, text in texts.items()}
            for key, content in parts.items():
                member = tarfile.TarInfo(f"{number:06d}.{key}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _views(
    sketches: Sketches, views_per_image: int, rng: np.random.Generator
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Index of a species, and an image of it `[side, side, 3]`."""
    for index, images in enumerate(sketches.pixels):
        for image in images:
            for _ in range(views_per_image):
                yield index, augment(image, rng)


def augment(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """An image mirrored, moved by a few pixels and lit differently, at random `[side, side, 3]`."""
    down, right = rng.integers(-5, 6, size=2)
    turned = image[:, ::-1] if rng.random() < 0.5 else image
    rows = np.clip(np.arange(len(image)) + down, 0, len(image) - 1)
    columns = np.clip(np.arange(image.shape[1]) + right, 0, image.shape[1] - 1)
    return np.minimum(turned[rows][:, columns] * rng.uniform(0.92, 1.08), 255).astype(np.uint8)


def _caption(writer: CaptionWriter, sketches: Sketches, index: int, rng: np.random.Generator) -> str:
    images = sketches.sentences[index]
    return writer.caption(sketches.species[index], images[rng.integers(len(images))], rng)
