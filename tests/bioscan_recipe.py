"""What `bioscan-traits.yaml` is tried with: a small drawn BIOSCAN-5M, and a tiny DINOv2 of random weights."""

from __future__ import annotations

import json
import runpy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import Dinov2Config, Dinov2Model

from sae_traits.testbench.drawn.painter import draw_specimen
from sae_traits.testbench.drawn.world import WORLD

RECIPE = Path(__file__).parents[1] / "recipes" / "bioscan-traits.yaml"
# Not imported: the folder has the name of a module of the standard library.
_tiny_bioscan = runpy.run_path(str(Path(__file__).parent / "images" / "tiny_bioscan.py"))
SIDE, PATCH, D_MODEL = 112, 14, 32
SIZES = ["--n-latents", "128", "--n-patches", "40000", "--batch-size", "512", "--warmup-steps", "5"]
"""All that is smaller than in the recipe, besides the backbone."""


def draw_bioscan(root: Path, *, n_species: int, images_per_species: int) -> Path:
    """A folder bioscan5m with drawn species: the first image of each in `test`, the second in `val`."""
    rows = [_tiny_bioscan["row"]("NONAME1-26", "pretrain")]
    rows.append(_tiny_bioscan["row"]("NONAME2-26", "key_unseen", "Megaselia sp. 3YDA"))
    for index, species in enumerate(WORLD[:n_species]):
        for number in range(images_per_species):
            split = {0: "test", 1: "val"}.get(number, "train")
            process_id, chunk = f"DRAWN{index:02d}{number:02d}-26", "1e" if split == "train" else ""
            image = root / "images" / "cropped_256" / split / chunk / f"{process_id}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            draw_specimen(species, np.random.default_rng([index, number])).image.save(image, quality=92)
            genus = species.genus
            rows.append(
                _tiny_bioscan["row"](
                    process_id, split, species.binomial, chunk=chunk, family=genus.family, order=genus.order
                )
            )
    _tiny_bioscan["write_metadata"](root, rows)
    return root


def make_dinov2(folder: Path) -> Path:
    """A DINOv2 of twelve blocks, as the base model has; its random weights are large, so that latents pass 0.9."""
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=D_MODEL,
        num_hidden_layers=12,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=SIDE,
        patch_size=PATCH,
        initializer_range=0.3,
    )
    Dinov2Model(config).save_pretrained(folder)
    preprocessor = {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 128},
        "crop_size": {"height": SIDE, "width": SIDE},
        "do_center_crop": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "resample": 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


def recipe_command(source: Path, backbone: Path, out: Path, base_url: str) -> Sequence[str]:
    """`run` with the recipe, its sizes made small, its model behind `base_url`."""
    small = ["--backbone", str(backbone), *SIZES, "--workers", "0", "--describer-workers", "1"]
    return ["run", str(source), "--config", str(RECIPE), "--out", str(out), "--base-url", base_url, *small]
