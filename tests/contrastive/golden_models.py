"""The golden set of contrastive training, and our model from its open_clip tensors."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sae_traits.contrastive.model import ContrastiveModel
from sae_traits.models.clip.open_clip_weights import TRAINING_TENSORS, convert_open_clip, origin_of

GOLDEN = Path(os.environ.get("SAE_TRAITS_SHARED", "")) / "golden" / "contrastive_and_evaluation"
needs_golden = pytest.mark.skipif(
    "SAE_TRAITS_SHARED" not in os.environ or not GOLDEN.is_dir(), reason="the golden set is not on this machine"
)
DEFAULTS = {
    "vision_cfg": {"layers": 12, "width": 768, "head_width": 64, "mlp_ratio": 4.0, "patch_size": 16, "image_size": 224},
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 512,
        "heads": 8,
        "layers": 12,
        "mlp_ratio": 4.0,
    },
}


def read(folder, name):
    """The settings and the tensors of a part of the golden set."""
    file = GOLDEN / folder / name
    return json.loads(file.with_suffix(".json").read_text()), load_file(file.with_suffix(".safetensors"))


def model_of(settings, tensors, prefix, dtype=torch.float32):
    """Our model of the open_clip tensors whose names begin with `prefix`; the last id of the vocabulary ends texts."""
    weights = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    config = settings["model"] | {name: DEFAULTS[name] | settings["model"][name] for name in DEFAULTS}
    clip, others = convert_open_clip(weights, config, config["text_cfg"]["vocab_size"] - 1, GOLDEN)
    return ContrastiveModel(clip, others).to(dtype)


def to_open_clip(state, others):
    """What `convert_open_clip` was given, from the state of the transformers.CLIPModel and the other tensors."""
    found, thirds = {}, {}
    for name, tensor in state.items():
        origin = origin_of(name)
        if origin.third is not None:
            thirds.setdefault(origin.name, {})[origin.third] = tensor
        else:
            found[origin.name] = tensor.t().contiguous() if origin.transposed else tensor.contiguous()
    found |= {name: torch.cat([parts[third] for third in range(3)]) for name, parts in thirds.items()}
    for name, tensor in others.items():
        found[TRAINING_TENSORS[name]] = tensor.t().contiguous() if name.endswith("_projection.weight") else tensor
    return found


def open_clip_names(model):
    """The weights of our model under open_clip's names."""
    return to_open_clip(model.clip.state_dict(), model.others())


def open_clip_gradients(model):
    """The gradients of our model under open_clip's names; a parameter without one is left out."""
    of_clip = {name: p.grad for name, p in model.clip.named_parameters() if p.grad is not None}
    own = {name: p.grad for name, p in model.named_parameters() if not name.startswith("clip.") and p.grad is not None}
    return to_open_clip(of_clip, own)
