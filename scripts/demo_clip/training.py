"""Train the demo's CLIP: images against captions of their species, by the symmetric contrastive loss of CLIP.

Every batch holds one image of each of many species. Its captions are made of what was said of any image of the
species, as in the demo, where traits of training images meet images of test images. A caption may be true of
several images of a batch: the loss then learns their odds, which is what zero-shot classification asks for.

Source: Radford et al. 2021, figure 3.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from demo_clip.captions import CaptionWriter
from demo_clip.model import CONTEXT_LENGTH, MEAN, PAD_ID, STD, new_model, train_tokenizer
from demo_clip.sketches import Sketches
from sae_traits.errors import ConfigError
from sae_traits.logging import track

if TYPE_CHECKING:
    from transformers import CLIPModel, PreTrainedTokenizerFast

MAXIMUM_SCALE = math.log(100)
"""Of the logarithm of the scale of the logits, as in CLIP."""
TEXTS_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How large a CLIP, and how it is trained."""

    seed: int = 0
    n_steps: int = 600
    batch_size: int = 128
    """Species per step, one image of each."""
    captions_per_image: int = 2
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    weight_decay: float = 0.05
    width: int = 128
    vision_layers: int = 4
    text_layers: int = 2
    n_tokenizer_captions: int = 20_000


@dataclass(frozen=True)
class Trained:
    """A trained CLIP and how it went."""

    model: CLIPModel
    tokenizer: PreTrainedTokenizerFast
    losses: tuple[float, ...]
    """Of every step."""
    seconds: float


def train(sketches: Sketches, settings: TrainingSettings) -> Trained:
    """Train tokenizer and model from random weights; on one machine the same settings give the same model.

    Raises:
        ConfigError: there are fewer species than a batch needs.
    """
    if settings.batch_size > len(sketches.species):
        raise ConfigError(f"a batch of {settings.batch_size} needs as many species, not {len(sketches.species)}")
    started = time.monotonic()
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng([settings.seed, 2])
    writer = CaptionWriter(settings.seed)
    indices = rng.integers(len(sketches.species), size=settings.n_tokenizer_captions)
    tokenizer = train_tokenizer(_caption(writer, sketches, int(index), rng) for index in indices)
    model = new_model(
        len(tokenizer), width=settings.width, vision_layers=settings.vision_layers, text_layers=settings.text_layers
    ).train()
    optimizer = _optimizer(model, settings)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _learning_rate(step, settings))
    losses: list[float] = []
    for _ in track(range(settings.n_steps), "train", settings.n_steps, "step"):
        chosen = rng.permutation(len(sketches.species))[: settings.batch_size]
        images = augment(sketches.pixels[chosen, rng.integers(sketches.pixels.shape[1], size=len(chosen))], rng)
        captions = [
            _caption(writer, sketches, int(index), rng) for _ in range(settings.captions_per_image) for index in chosen
        ]
        texts = embed_texts(model, tokenizer, captions)
        loss = contrastive_loss(embed_images(model, images), texts, model.logit_scale.exp())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, MAXIMUM_SCALE)
        losses.append(loss.item())
    return Trained(model.eval(), tokenizer, tuple(losses), time.monotonic() - started)


def contrastive_loss(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The symmetric loss of CLIP, averaged over several captions per image.

    Args:
        images: unit embeddings `[n, width]`.
        texts: unit embeddings of the captions, all first captions, then all second ones … `[k * n, width]`.
        scale: factor of the cosines.
    """
    logits = scale * texts @ images.T
    targets = torch.arange(len(images))
    blocks = logits.split(len(images))
    both = [functional.cross_entropy(block, targets) + functional.cross_entropy(block.T, targets) for block in blocks]
    return torch.stack(both).mean() / 2


def augment(pixels: NDArray[np.uint8], rng: np.random.Generator) -> torch.Tensor:
    """Images mirrored, moved by a few pixels and lit differently, at random `[n, 3, side, side]`, normalised.

    Args:
        pixels: `[n, side, side, 3]`; not changed.
        rng: of the augmentation.
    """
    moved = np.empty_like(pixels)
    for index, image in enumerate(pixels):
        down, right = rng.integers(-5, 6, size=2)
        turned = image[:, ::-1] if rng.random() < 0.5 else image
        rows = np.clip(np.arange(len(image)) + down, 0, len(image) - 1)
        moved[index] = turned[rows][:, np.clip(np.arange(image.shape[1]) + right, 0, image.shape[1] - 1)]
    light = rng.uniform(0.92, 1.08, size=(len(pixels), 1, 1, 1)).astype(np.float32)
    return normalise(np.minimum(moved * light, 255))


def normalise(pixels: NDArray[np.uint8] | NDArray[np.float32]) -> torch.Tensor:
    """Pixels of 0 to 255 `[n, side, side, 3]` as the model's input `[n, 3, side, side]`."""
    values = (pixels.astype(np.float32) / 255 - MEAN) / STD
    return torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))


def embed_images(model: CLIPModel, images: torch.Tensor) -> torch.Tensor:
    """Unit embeddings `[n, width]` of normalised images `[n, 3, side, side]`."""
    return functional.normalize(model.visual_projection(model.vision_model(pixel_values=images).pooler_output), dim=1)


def embed_texts(model: CLIPModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> torch.Tensor:
    """Unit embeddings `[n, width]`; what is too long loses its end, not the end-of-text token.

    Texts of about the same length go together, which halves the work. Padding lies behind the end of a text, where the
    causal mask keeps it from mattering.
    """
    tokens = tokenizer(list(texts), truncation=True, max_length=CONTEXT_LENGTH)["input_ids"]
    order = np.argsort([len(ids) for ids in tokens], kind="stable")
    parts = []
    for start in range(0, len(order), TEXTS_AT_ONCE):
        chosen = [torch.tensor(tokens[index]) for index in order[start : start + TEXTS_AT_ONCE]]
        padded = torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True, padding_value=PAD_ID)
        parts.append(model.text_model(input_ids=padded).pooler_output)
    embeddings = torch.cat(parts)[torch.from_numpy(np.argsort(order))]
    return functional.normalize(model.text_projection(embeddings), dim=1)


def _caption(writer: CaptionWriter, sketches: Sketches, index: int, rng: np.random.Generator) -> str:
    images = sketches.sentences[index]
    return writer.caption(sketches.species[index], images[rng.integers(len(images))], rng)


def _optimizer(model: CLIPModel, settings: TrainingSettings) -> torch.optim.Optimizer:
    """AdamW, without decay of biases, norms, embeddings of positions and the scale."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=True)


def _learning_rate(step: int, settings: TrainingSettings) -> float:
    """Share of the peak rate: linear warm-up, then half a cosine down to a fiftieth."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1, settings.n_steps - settings.warmup_steps)
    return 0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2
