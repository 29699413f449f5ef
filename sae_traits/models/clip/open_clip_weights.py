"""A vision transformer CLIP in the format of open_clip -> transformers.CLIPModel, tensor by tensor, nothing left over.

The two hold the same numbers under other names: open_clip keeps query, key and value in one tensor, and its projections
are transposed. BioCLIP, BioCLIP 2, BioCLIP 2.5 and BioCAP are published in this format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from sae_traits.errors import BackboneError, one_line
from sae_traits.features.model_files import ModelFiles, quiet_transformers
from sae_traits.models.clip.open_clip_config import OPEN_CLIP_CONFIG, transformers_config

_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Weights as safetensors, and where there are none as a pickle, of which only tensors are read."""

_NAMES = {
    "logit_scale": "logit_scale",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
    "visual_projection.weight": "visual.proj",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "text_projection.weight": "text_projection",
}
"""Name in transformers -> name in open_clip, outside the blocks."""

_BLOCK = re.compile(r"(vision|text)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_BLOCKS = {"vision": "visual.transformer.resblocks", "text": "transformer.resblocks"}
_NAMES_IN_A_BLOCK = {
    "self_attn.out_proj": "attn.out_proj.",
    "layer_norm1": "ln_1.",
    "layer_norm2": "ln_2.",
    "mlp.fc1": "mlp.c_fc.",
    "mlp.fc2": "mlp.c_proj.",
}
_QUERY_KEY_VALUE = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")

_CAPTION_PROJECTION = "visual.caption_proj"
TRAINING_TENSORS = {
    "caption_projection.weight": _CAPTION_PROJECTION,
    "replay_projection.weight": "visual.continual_proj",
    "logit_scale_caption": "logit_scale_caption",
    "logit_bias": "logit_bias",
    "logit_bias_caption": "logit_bias_caption",
}
"""Our name -> name in open_clip of what a plain CLIP has not: BioCAP's second projection with its scale, BioCLIP 2's,
which served only to replay general images in training, and the offsets of SigLIP's objective. Of these the cosines
depend on BioCAP's projection alone."""


@dataclass(frozen=True)
class Origin:
    """Where in an open_clip checkpoint a tensor of transformers comes from."""

    name: str
    third: int | None = None
    """Of query, key and value, which are one tensor there."""
    transposed: bool = False

    def shape(self, shape: torch.Size) -> list[int]:
        """The shape of the tensor in open_clip, from that in transformers."""
        if self.third is not None:
            return [3 * shape[0], *shape[1:]]
        return list(reversed(shape)) if self.transposed else list(shape)

    def take(self, tensor: Tensor) -> Tensor:
        """The tensor for transformers."""
        if self.third is not None:
            return tensor.chunk(3)[self.third]
        return tensor.t().contiguous() if self.transposed else tensor


def find_weights(files: ModelFiles) -> Path:
    """The weights of a model in the format of open_clip."""
    if (path := files.path(*_FILES)) is None:
        raise BackboneError(
            f"{files.name} has {OPEN_CLIP_CONFIG} but no weights ({' or '.join(_FILES)}); get the whole model"
        )
    return path


def convert_open_clip(
    weights: Mapping[str, Tensor], model_cfg: Mapping[str, Any], eos_id: int, path: Path
) -> tuple[Any, dict[str, Tensor]]:
    """The transformers.CLIPModel in float32, and the tensors of TRAINING_TENSORS that there are, by our names.

    Raises:
        BackboneError: a tensor is missing, left over or of another shape than the config says; the message names it,
            and `path`, where the weights are from.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CLIPModel

    try:
        config = transformers_config(model_cfg, eos_id)
        with torch.device("meta"):
            expected = {name: tensor.shape for name, tensor in CLIPModel(config).state_dict().items()}
    except (StrictDataclassError, ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        raise BackboneError(f"{OPEN_CLIP_CONFIG} beside {path} makes no model: {one_line(error)}") from error
    others = {name: weights[theirs] for name, theirs in TRAINING_TENSORS.items() if theirs in weights}
    weights = {name: tensor for name, tensor in weights.items() if name not in TRAINING_TENSORS.values()}
    origins = {name: origin_of(name) for name in expected}
    for name, origin in origins.items():
        _check(weights, origin.name, origin.shape(expected[name]), path)
    if left_over := weights.keys() - {origin.name for origin in origins.values()}:
        raise BackboneError(
            f"{path} has {len(left_over)} tensors that its config knows nothing of, such as "
            f"{min(left_over)}; the weights and {OPEN_CLIP_CONFIG} must be of the same model"
        )
    converted = {name: origin.take(weights[origin.name]) for name, origin in origins.items()}
    with quiet_transformers():
        model = CLIPModel.from_pretrained(None, config=config, state_dict=converted, dtype=torch.float32)
    for name, tensor in others.items():
        if name.endswith("_projection.weight"):
            _check({TRAINING_TENSORS[name]: tensor}, TRAINING_TENSORS[name], list(weights["visual.proj"].shape), path)
            others[name] = tensor.t().contiguous()
    return model, others


def origin_of(name: str) -> Origin:
    """Where a tensor of a transformers.CLIPModel comes from."""
    if name in _NAMES:
        return Origin(_NAMES[name], transposed=name in ("visual_projection.weight", "text_projection.weight"))
    match = _BLOCK.fullmatch(name)
    assert match is not None, name
    tower, block, module, kind = match.groups()
    prefix = f"{_BLOCKS[tower]}.{block}."
    if module in _QUERY_KEY_VALUE:
        return Origin(f"{prefix}attn.in_proj_{kind}", third=_QUERY_KEY_VALUE.index(module))
    return Origin(f"{prefix}{_NAMES_IN_A_BLOCK[module]}{kind}")


def _check(weights: Mapping[str, Tensor], name: str, shape: list[int], path: Path) -> None:
    if name not in weights:
        raise BackboneError(f"{path} lacks the tensor {name} that {OPEN_CLIP_CONFIG} asks for; get both again")
    actual = list(weights[name].shape)
    if actual != shape:
        raise BackboneError(
            f"{path} does not match its config: {name} is {actual}, and {OPEN_CLIP_CONFIG} says {shape}; "
            "they must be of the same model"
        )


def read_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of the checkpoint in float32, without the wrapping of open_clip's training checkpoints."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            weights: Any = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise BackboneError(f"cannot read {path} ({one_line(error)}); get the file again") from error
    if isinstance(weights, dict):
        weights = weights.get("state_dict", weights)
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise BackboneError(f"{path} holds no tensors by name; give the weights of an open_clip model")
    floats = {name.removeprefix("module."): tensor.float() for name, tensor in weights.items()}
    if "logit_scale" in floats:
        floats["logit_scale"] = floats["logit_scale"].reshape(())  # open_clip has it as a vector of one, too
    return floats
