"""A CLIP as a folder in the layout of transformers.

What the numbers depend on goes along and is never changed: the kind of GELU, mean and standard deviation, framing,
tokenizer.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sae_traits.errors import BackboneError
from sae_traits.features.model_files import ModelFiles, quiet_transformers
from sae_traits.features.preprocessing import PILLOW_CODES, Preprocessing
from sae_traits.models.clip.heads import write_heads
from sae_traits.models.clip.open_clip_config import OPEN_CLIP_CONFIG
from sae_traits.models.clip.tokens import save_for_transformers

TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "spiece.model", "tokenizer.model"),
)


def save_transformers(
    model: Any, others: Mapping[str, Tensor], preprocessing: Preprocessing, base: ModelFiles, folder: Path
) -> None:
    """Write a CLIP in the layout of transformers: config, weights, further heads, preprocessing and tokenizer.

    Args:
        model: of transformers.
        others: further projections and scales by name, as in TRAINING_TENSORS.
        preprocessing: of its images.
        base: the model that it was made from, whose tokenizer it has.
        folder: exists.
    """
    with quiet_transformers():
        model.save_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)  # safetensors writes files that nobody else can read
    write_heads(others, folder)
    config = json.dumps(preprocessor_config(preprocessing), indent=2)
    (folder / "preprocessor_config.json").write_text(config + "\n", encoding="utf-8")
    if base.config == OPEN_CLIP_CONFIG:
        save_for_transformers(base, folder)
    else:
        _copy_tokenizer(base, folder)


def preprocessor_config(preprocessing: Preprocessing) -> dict[str, Any]:
    """The content of a preprocessor_config.json; a BackboneError where transformers cannot prepare images so."""
    framing = preprocessing.framing
    (width, height) = framing.size
    if framing.mode == "letterbox":
        raise BackboneError(
            "transformers has no processor that letterboxes images as this model does, so a training could not be "
            "saved; choose another --model"
        )
    size: dict[str, Any] = {"size": {"height": height, "width": width}, "do_center_crop": False}
    if framing.mode == "crop":
        size = {
            "size": {"shortest_edge": framing.shortest_side},
            "do_center_crop": True,
            "crop_size": {"height": height, "width": width},
        }
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        **size,
        "resample": PILLOW_CODES[framing.resample],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
        "do_convert_rgb": True,
    }


def _copy_tokenizer(base: ModelFiles, folder: Path) -> None:
    for file in TOKENIZER_FILES:
        if (path := base.path(file, f"tokenizer/{file}")) is not None:
            shutil.copyfile(path, folder / file)
