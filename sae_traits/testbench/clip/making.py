"""Make the demo's CLIP from nothing but a seed: draw, train, save, measure on species that it has not seen, say so."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sae_traits.logging import say
from sae_traits.testbench.clip import DRAWN_KEY
from sae_traits.testbench.clip.model import CONTEXT_LENGTH, PATCH, SIDE, input_framing, load_saved, save_clip
from sae_traits.testbench.clip.scoring import Accuracy, draw_trial, score
from sae_traits.testbench.clip.sketches import BLOBS, sketch_species
from sae_traits.testbench.clip.training import TrainingSettings, train
from sae_traits.testbench.drawn.world import WORLD

TRIAL_SEEDS = (0, 1, 2)
"""Drawings of the demo's species that the card gives figures for."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that the weights depend on, besides the code."""

    settings: TrainingSettings
    n_species: int = 2500
    n_images: int = 2
    """Of each species."""

    @property
    def command(self) -> str:
        """What makes the same again."""
        return (
            f"python scripts/train_demo_clip.py --seed {self.settings.seed} --n-steps {self.settings.n_steps} "
            f"--n-species {self.n_species} --n-images {self.n_images}"
        )


def make_clip(folder: Path, recipe: Recipe, *, workers: int = 2, cache: Path | None = None) -> list[list[Accuracy]]:
    """Draw, train and save a CLIP with its card.

    Args:
        folder: where the model goes.
        recipe: what to make.
        workers: processes that draw.
        cache: folder that keeps the drawings between calls.

    Returns:
        Accuracies on the demo's species, one list a seed of TRIAL_SEEDS.
    """
    started = time.monotonic()
    sketches = sketch_species(
        recipe.settings.seed, recipe.n_species, recipe.n_images, input_framing(), workers=workers, cache=cache
    )
    drawn = time.monotonic()
    trained = train(sketches, recipe.settings)
    save_clip(trained.model, trained.tokenizer, folder)
    say(f"drawn in {(drawn - started) / 60:.1f} min, trained in {trained.seconds / 60:.1f} min")
    return describe_clip(folder, recipe, minutes=trained.seconds / 60)


def describe_clip(folder: Path, recipe: Recipe, *, minutes: float) -> list[list[Accuracy]]:
    """Measure a saved CLIP, as whoever loads it gets it, and write its card.

    Args:
        folder: of the CLIP.
        recipe: how it was made.
        minutes: how long it was trained, without drawing.
    """
    model, tokenizer = load_saved(folder)
    accuracies = [score(model, tokenizer, draw_trial(seed), seed=seed) for seed in TRIAL_SEEDS]
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    card = clip_card(recipe, accuracies, minutes=minutes, n_parameters=n_parameters, n_tokens=len(tokenizer))
    (folder / "README.md").write_text(card, encoding="utf-8")
    return accuracies


def clip_card(
    recipe: Recipe,
    accuracies: Sequence[Sequence[Accuracy]],
    *,
    minutes: float,
    n_parameters: int,
    n_tokens: int,
) -> str:
    """README.md of the CLIP."""
    settings = recipe.settings
    return f"""---
license: mit
library_name: transformers
tags: [clip, synthetic, sae-traits]
---

# A CLIP of a drawn world

**This model has only ever seen drawings of invented insects. It knows nothing about real organisms, and its answers
about a photograph mean nothing.** It is part of sae-traits so that `make demo` can end with a zero-shot table without a
download. `config.json` says `{DRAWN_KEY}: true`, and sae-traits refuses the model for collections that are not drawn.

## What it is

A `transformers.CLIPModel` of {n_parameters / 1e6:.1f} million parameters, stored in half precision: images of {SIDE} x
{SIDE} pixels in patches of {PATCH}, {settings.vision_layers} and {settings.text_layers} layers of width
{settings.width}, {CONTEXT_LENGTH} tokens of context, a byte-level BPE vocabulary of {n_tokens} tokens trained on its
captions, so that any name can be spelt.

## How it was made

`{recipe.command}`

{recipe.n_species} invented species, {recipe.n_images} drawings of each, {settings.n_steps} steps of
{settings.batch_size} images with {settings.captions_per_image} captions each, contrastive loss of CLIP; {minutes:.0f}
minutes of training on a shared two-core machine, besides some minutes of drawing. Captions mix the true traits in
words, sentences of the describer `measured` about the two telling parts and {BLOBS} random regions of a drawing, and
names. Names are dealt anew to every caption: they carry nothing.

## What it has not seen

The {len(WORLD)} species of the demo, and their names. Held out are both looks of each: the main part (elytra,
forewings, abdomen) with its colour and pattern, and the colours of main part and second part (pronotum, hindwings,
thorax) together. No training species has any of these looks; every single colour, pattern and shape does occur.

## Measured

Top-1 accuracy on 7 drawings of each of the {len(WORLD)} species (chance {1 / len(WORLD):.3f}), 95 % bootstrap intervals
over species. `measured`: sentences about the diagnostic parts of 17 other drawings; `words`: the true traits in words.

{_table(accuracies)}

The name-only row is luck: a class is as likely to get its own images as any other's, and images of a species move
together, so a single drawing may lie some points off chance.
"""


def _table(accuracies: Sequence[Sequence[Accuracy]]) -> str:
    header = " | ".join(f"drawing {seed}" for seed in TRIAL_SEEDS)
    lines = [f"| texts | condition | {header} |", "| --- | --- |" + " --- |" * len(TRIAL_SEEDS)]
    for rows in zip(*accuracies, strict=True):
        lines.append(f"| {rows[0].wording} | {rows[0].condition} | " + " | ".join(str(r.top1) for r in rows) + " |")
    return "\n".join(lines)
