"""A CLIP as a folder: in the layout of transformers, or in that of open_clip; the numbers are the same.

What they depend on goes along and is never changed: the kind of GELU, mean and standard deviation, framing, tokenizer.
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
from sae_traits.features.preprocessing import Preprocessing
from sae_traits.geometry import FramingMode
from sae_traits.models.clip.heads import write_heads
from sae_traits.models.clip.open_clip_config import OPEN_CLIP_CONFIG
from sae_traits.models.clip.open_clip_weights import to_open_clip
from sae_traits.models.clip.tokens import save_for_transformers

TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "spiece.model", "tokenizer.model"),
)
_PILLOW_CODES = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
_OPEN_CLIP_MODES: dict[FramingMode, str] = {"crop": "shortest", "squash": "squash", "letterbox": "longest"}


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
    _write_json(folder / "preprocessor_config.json", _preprocessor_config(preprocessing))
    if base.config == OPEN_CLIP_CONFIG:
        save_for_transformers(base, folder)
    else:
        _copy_tokenizer(base, folder)


def save_open_clip(
    model: Any, others: Mapping[str, Tensor], preprocessing: Preprocessing, base: ModelFiles, folder: Path
) -> None:
    """Write a CLIP in the layout of open_clip; arguments as of `save_transformers`.

    Raises:
        BackboneError: it is no CLIP of open_clip's kind, such as a SigLIP.
    """
    from safetensors.torch import save

    config = model.config
    if config.model_type != "clip":
        raise BackboneError(
            f"a model of the type {config.model_type} has no tensors under open_clip's names; keep the layout of "
            "transformers"
        )
    tensors = {name: t.contiguous() for name, t in to_open_clip(model.state_dict(), others).items()}
    (folder / "open_clip_model.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
    _write_json(folder / OPEN_CLIP_CONFIG, {"model_cfg": model_cfg(config, others)} | _preprocess_cfg(preprocessing))
    _copy_tokenizer(base, folder)


def model_cfg(config: Any, others: Mapping[str, Tensor]) -> dict[str, Any]:
    """open_clip's description of a transformers.CLIPConfig; the forks of BioCAP and BioCLIP 2 read what is besides."""
    vision, text = config.vision_config, config.text_config
    acts = {vision.hidden_act, text.hidden_act}
    if len(acts) > 1 or not acts <= {"gelu", "quick_gelu"}:
        raise BackboneError(f"open_clip has no model with the activations {', '.join(sorted(acts))}")
    cfg: dict[str, Any] = {
        "embed_dim": config.projection_dim,
        "vision_cfg": {
            "image_size": vision.image_size,
            "layers": vision.num_hidden_layers,
            "width": vision.hidden_size,
            "head_width": vision.hidden_size // vision.num_attention_heads,
            "mlp_ratio": vision.intermediate_size / vision.hidden_size,
            "patch_size": vision.patch_size,
        },
        "text_cfg": {
            "context_length": text.max_position_embeddings,
            "vocab_size": text.vocab_size,
            "width": text.hidden_size,
            "heads": text.num_attention_heads,
            "layers": text.num_hidden_layers,
            "mlp_ratio": text.intermediate_size / text.hidden_size,
        },
    }
    if acts == {"quick_gelu"}:
        cfg["quick_gelu"] = True
    if "caption_projection.weight" in others:
        cfg["vision_cfg"]["dual_projector"] = True
    if "replay_projection.weight" in others:
        cfg["vision_cfg"]["is_continual"] = True
    return cfg


def _preprocess_cfg(preprocessing: Preprocessing) -> dict[str, Any]:
    framing = preprocessing.framing
    if framing.resample not in ("bicubic", "bilinear") or framing.shortest_side not in (None, max(framing.size)):
        raise BackboneError(
            f"open_clip cannot say how this model's images are prepared ({framing}); keep the layout of transformers"
        )
    return {
        "preprocess_cfg": {
            "size": framing.size[0],
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "interpolation": framing.resample,
            "resize_mode": _OPEN_CLIP_MODES[framing.mode],
        }
    }


def _preprocessor_config(preprocessing: Preprocessing) -> dict[str, Any]:
    framing = preprocessing.framing
    (width, height) = framing.size
    if framing.mode == "letterbox":
        raise BackboneError(
            "transformers has no processor that letterboxes images as this model does; keep the layout of open_clip"
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
        "resample": _PILLOW_CODES[framing.resample],
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


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
