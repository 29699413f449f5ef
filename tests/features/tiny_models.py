"""Small random models of many kinds, saved as folders like those on the Hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers as hf

SIDE = 56
_TRANSFORMER: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": SIDE,
    "patch_size": 14,
}
_TEXT: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 99,
    "max_position_embeddings": 16,
}
_STAGES: dict[str, Any] = {"hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1]}


@dataclass(frozen=True)
class Kind:
    """One architecture, and what is known about its tokens."""

    config: Callable[[], Any]
    block: str
    """Class name of the modules between two hidden states."""
    n_prefix: int = 0


KINDS = {
    "dinov2": Kind(lambda: hf.Dinov2Config(**_TRANSFORMER), "Dinov2Layer", 1),
    "dinov2-registers": Kind(
        lambda: hf.Dinov2WithRegistersConfig(**_TRANSFORMER, num_register_tokens=3), "Dinov2WithRegistersLayer", 4
    ),
    "dinov3": Kind(lambda: hf.DINOv3ViTConfig(**_TRANSFORMER, num_register_tokens=4), "DINOv3ViTLayer", 5),
    "clip": Kind(
        lambda: hf.CLIPConfig(text_config=_TEXT, vision_config=_TRANSFORMER, projection_dim=8), "CLIPEncoderLayer", 1
    ),
    "siglip": Kind(lambda: hf.SiglipConfig(text_config=_TEXT, vision_config=_TRANSFORMER), "SiglipEncoderLayer", 0),
    "vit": Kind(lambda: hf.ViTConfig(**_TRANSFORMER), "ViTLayer", 1),
    "mobilenet": Kind(  # whose own range of random weights leaves features of 1e-14, which any others are close to
        lambda: hf.MobileNetV2Config(image_size=SIDE, depth_multiplier=0.35, initializer_range=0.25),
        "MobileNetV2InvertedResidual",
    ),
    "convnext": Kind(lambda: hf.ConvNextConfig(**_STAGES), "ConvNextStage"),
    "resnet": Kind(lambda: hf.ResNetConfig(embedding_size=8, layer_type="basic", **_STAGES), "ResNetStage"),
}

PREPROCESSOR: dict[str, Any] = {
    "image_processor_type": "BitImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 64},
    "do_center_crop": True,
    "crop_size": {"height": SIDE, "width": SIDE},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
}


def save_model(kind: str, folder: Path, seed: int = 0) -> Path:
    """Save a random model of one of KINDS, with its preprocessor_config.json."""
    torch.manual_seed(seed)
    hf.AutoModel.from_config(KINDS[kind].config()).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return folder


def reference_states(folder: Path, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """All hidden states of the whole vision model, from transformers alone."""
    model = hf.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return getattr(model, "vision_model", model)(pixel_values=pixels, output_hidden_states=True).hidden_states
