"""The recipes of `sae-traits finetune`, 100 steps each on photographs of butterflies: losses by step, and a figure.

A small CLIP of random weights (96 pixels, 1.5 million parameters) stands for OpenAI's and LAION's, from which
`biocap-captions` and `bioclip2-hierarchical` begin; `bioclip-traits` goes on from what `bioclip2-hierarchical` came
to, as the trait paper goes on from BioCLIP. What is replayed are drawings with captions. Steps are of 64 pairs with
ten of warm-up; all else is the recipes'. It shows that they run and that they learn, not what the published sizes
come to.

    sae-traits run metadata.csv --backbone MODEL --out RUN; sae-traits caption RUN
    OMP_NUM_THREADS=1 python benchmarks/leeds_recipes.py RUN metadata.csv FOLDER --figure docs/images/recipes.png
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from drawn_pairs import WorldSize, draw_world, general_rows, write_shard
from tables import describe_machine, markdown_table

from demo_clip.model import new_model, save_clip, train_tokenizer
from sae_traits.cli import main as sae_traits
from sae_traits.config.finetune import PAIR_TEXTS, PairsConfig
from sae_traits.contrastive.folder import MODEL, RECORD
from sae_traits.contrastive.samples import read_samples
from sae_traits.contrastive.texts import text_type_of_step
from sae_traits.models.clip.model import ONLY_FOR_KEY

N_STEPS, BATCH_SIZE, REPLAYED, WARMUP_STEPS = 100, 64, 16, 10
AT_THE_ENDS = 10
"""Steps whose mean loss stands in the table."""
N_DRAWINGS = 300
WIDTH, VISION_LAYERS, TEXT_LAYERS, CONTEXT_LENGTH = 128, 4, 2, 77
COLOURS: dict[str, str] = dict(
    zip(PAIR_TEXTS, ("#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#E69F00", "#000000", "#D55E00"), strict=True)
)
"""Of Okabe & Ito's palette, which colour-blind readers can tell apart."""


@dataclass(frozen=True)
class Training:
    """A recipe's training, as its training.json says."""

    recipe: str
    losses: tuple[float, ...]
    """Of every step."""
    types: tuple[str, ...]
    """What the pictures of each step were told by."""
    accuracies: tuple[float, ...]
    """On validation photographs by name, before and while training."""
    chance: float
    """The loss of a model that tells no pair of a step from another; pairs that are replayed are told apart besides."""
    seconds: float
    """Of the processor; NaN where it was trained before."""


def main() -> None:
    """Train what is not trained, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run on the photographs, with captions")
    parser.add_argument("names", type=Path, help="a table with the columns species and common_name")
    parser.add_argument("folder", type=Path, help="where models and losses are kept")
    parser.add_argument("--figure", type=Path, help="loss by step, as a PNG")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    model = make_model(options.run, options.names, options.folder)
    world = draw_world(options.folder, WorldSize(n_general=N_DRAWINGS, n_general_test=1, n_seen=1), seed=0)
    drawings = write_shard(options.folder / "drawings.tar", general_rows(world.general, seed=0))
    names = ["--common-names", str(options.names)]
    replay = [*names, "--replay", str(drawings), "--replay-batch-size", str(REPLAYED)]
    trainings = [
        train(options.run, options.folder, "bioclip2-hierarchical", model, replay),
        train(options.run, options.folder, "bioclip-traits", options.folder / "bioclip2-hierarchical" / MODEL, []),
        train(options.run, options.folder, "biocap-captions", model, [*names, "--without-text", "drop"]),
    ]
    print(describe_machine(), table(trainings), sep="\n\n")
    if options.figure is not None:
        draw(trainings, options.figure)


def make_model(run: Path, names: Path, folder: Path) -> Path:
    """A small CLIP of random weights, with a tokenizer made of the run's texts."""
    out = folder / "random"
    if not out.is_dir():
        torch.manual_seed(0)
        pairs = PairsConfig(data=str(run), text_types=PAIR_TEXTS, without_text="drop", common_names=str(names))
        samples = read_samples(pairs)
        tokenizer = train_tokenizer([text for sample in samples for texts in sample.texts.values() for text in texts])
        layers = {"vision_layers": VISION_LAYERS, "text_layers": TEXT_LAYERS, "context_length": CONTEXT_LENGTH}
        model = new_model(len(tokenizer), width=WIDTH, **layers)
        delattr(model.config, ONLY_FOR_KEY)  # it has not seen a drawing yet
        save_clip(model, tokenizer, out, torch.float32)
    return out


def train(run: Path, folder: Path, recipe: str, model: Path, more: Sequence[str]) -> Training:
    """Train by a recipe for N_STEPS steps, unless that is done, and read what was written."""
    out, started = folder / recipe, time.process_time()
    is_trained = (out / RECORD).is_file()
    if not is_trained:
        types = ("trait",) if recipe == "bioclip-traits" else ("caption",) if recipe == "biocap-captions" else ("sci",)
        n_pairs = len(read_samples(PairsConfig(data=str(run), text_types=types, without_text="drop")))
        epochs = N_STEPS / (n_pairs // BATCH_SIZE)
        sizes = {"batch-size": BATCH_SIZE, "warmup-steps": WARMUP_STEPS, "epochs": epochs, "workers": 0}
        given = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
        given += ["--recipe", recipe, "--data", str(run), "--model", str(model), "--out", str(out), *more]
        assert sae_traits(["finetune", *given]) == 0
    seconds = float("nan") if is_trained else time.process_time() - started
    return read_training(recipe, json.loads((out / RECORD).read_text(encoding="utf-8")), seconds)


def read_training(recipe: str, record: dict[str, Any], seconds: float) -> Training:
    """What a training.json says of its steps."""
    pairs = record["config"]["pairs"]
    points = [point for point in record["curve"] if "loss" in point]
    types = [text_type_of_step(pairs["text_types"], pairs["text_weights"], point["step"] - 1) for point in points]
    right = [point["validation_accuracy"] for point in record["curve"] if "validation_accuracy" in point]
    sizes = (record["config"]["schedule"]["batch_size"], pairs["replay_batch_size"])
    chance = sum(math.log(size) for size in sizes if size)
    return Training(recipe, tuple(point["loss"] for point in points), tuple(types), tuple(right), chance, seconds)


def table(trainings: Sequence[Training]) -> str:
    """Losses at both ends, all texts and by type."""
    rows = []
    for training in trainings:
        losses, types = np.array(training.losses), np.array(training.types)
        parts = {"all": np.full(len(losses), True)} | {kind: types == kind for kind in dict.fromkeys(training.types)}
        for kind, chosen in parts.items() if len(parts) > 2 else [("all", parts["all"])]:
            half = max(1, min(AT_THE_ENDS, int(chosen.sum()) // 2))
            of = losses[chosen]
            row = [
                training.recipe,
                kind,
                str(len(of)),
                f"{training.chance:.3f}",
                f"{of[:half].mean():.3f} ({half})",
                f"{of[-half:].mean():.3f}",
            ]
            ends = training.accuracies[:1] + training.accuracies[-1:]
            seconds = "" if np.isnan(training.seconds) else f"{training.seconds:.0f}"
            rows.append(row + ([" → ".join(f"{right:.1%}" for right in ends), seconds] if kind == "all" else ["", ""]))
    header = [
        "recipe",
        "texts",
        "steps",
        "loss of chance",
        "loss, first steps",
        "last steps",
        "validation by name",
        "seconds of one core",
    ]
    return markdown_table(header, rows)


def draw(trainings: Sequence[Training], path: Path) -> None:
    """Draw the loss of every step, in the colour of its texts."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.3), layout="constrained")
    for number, (training, axes) in enumerate(zip(trainings, figure.subplots(1, len(trainings)), strict=True)):
        steps, losses, types = (
            np.arange(1, len(training.losses) + 1),
            np.array(training.losses),
            np.array(training.types),
        )
        axes.plot(steps, losses, color="#999999", linewidth=0.6)
        for kind in [kind for kind in PAIR_TEXTS if kind in training.types]:
            chosen = types == kind
            axes.plot(steps[chosen], losses[chosen], "o", color=COLOURS[kind], markersize=2.5, label=kind)
        axes.axhline(training.chance, color="black", linestyle="--", linewidth=0.8, label="chance")
        axes.set_title(training.recipe, fontsize=10)
        axes.set_xlabel("step")
        axes.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=4)
        axes.spines[["top", "right"]].set_visible(False)
        if not number:
            axes.set_ylabel("loss")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
