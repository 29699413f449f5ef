"""The CLIP that a training starts from, with the heads and frozen parts that its configuration asks for."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from typing import Any

from sae_traits.config.finetune import FinetuneConfig
from sae_traits.contrastive.model import ContrastiveModel
from sae_traits.errors import ConfigError
from sae_traits.models.clip.model import CLIPParts

SIGLIP_SCALE, SIGLIP_OFFSET = 10.0, -10.0
"""Where SigLIP's scale and offset start (Zhai et al. 2023, section 3.2)."""
_TOWERS = {
    "vision": ("clip.vision_model.", "clip.visual_projection.", "caption_projection.", "replay_projection."),
    "text": ("clip.text_model.", "clip.text_projection."),
}


def trainable_model(parts: CLIPParts, config: FinetuneConfig) -> ContrastiveModel:
    """The model with its heads, all that is to be trained unfrozen.

    Raises:
        ConfigError: the model lacks a head that it should have, or cannot have one.
    """
    base = config.base
    model = ContrastiveModel(parts.model, parts.others)
    wants_projections = base.caption_head != "none" or config.pairs.replay is not None
    if wants_projections and parts.model.config.model_type != "clip":
        raise ConfigError(
            f"{parts.files.name} is a {parts.model.config.model_type}, which has no projection of images to have a "
            "second of; leave out --caption-head and --replay"
        )
    if base.caption_head == "own" and model.caption_projection is None:
        raise ConfigError(
            f"{parts.files.name} has no caption head of its own; choose --caption-head new to give it a copy of its "
            "first projection, as BioCAP began"
        )
    model.requires_grad_(True)
    if base.caption_head != "none":
        model.add_caption_head()
    if config.pairs.replay is not None:
        model.add_replay_head()
    if config.schedule.objective == "siglip":
        model.begin_sigmoid(SIGLIP_SCALE, SIGLIP_OFFSET, of_captions=base.caption_head != "none")
    idle = [] if base.caption_head != "none" else ["caption_projection.", "logit_scale_caption", "logit_bias_caption"]
    idle += [] if config.pairs.replay is not None else ["replay_projection."]
    for name, parameter in model.named_parameters():
        if name.startswith(tuple(idle)):
            parameter.requires_grad_(False)
        if any(name.startswith(_TOWERS[tower]) for tower in base.freeze):
            parameter.requires_grad_(False)
    if base.lora_rank is not None:
        add_low_rank(model, base.lora_rank, [tower for tower in _TOWERS if tower not in base.freeze])
    if base.gradient_checkpointing:
        compute_layers_twice(model)
    return model


def compute_layers_twice(model: ContrastiveModel) -> None:
    """Keep the input of each layer alone for the backward pass, which computes the layer again."""
    with warnings.catch_warnings():
        # transformers renamed it in 5.24, and we take older ones.
        warnings.simplefilter("ignore", FutureWarning)
        model.clip.gradient_checkpointing_enable({"use_reentrant": False})


def add_low_rank(model: ContrastiveModel, rank: int, towers: Sequence[str]) -> None:
    """Train low-rank additions to the attention of some towers instead of these; heads are trained as before.

    Source: Hu et al. 2022, section 4.2 (queries and values); peft.
    """
    if importlib.util.find_spec("peft") is None:
        raise ConfigError("--lora-rank needs peft; run `pip install 'sae-traits[lora]'`")
    from peft import LoraConfig, inject_adapter_in_model  # pyright: ignore[reportMissingImports]

    for tower in towers:
        lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=["q_proj", "v_proj"])
        inject_adapter_in_model(lora, model.clip.get_submodule(f"{tower}_model"))


def merge_low_rank(model: ContrastiveModel) -> ContrastiveModel:
    """The model without additions of low rank: they become part of the weights that they were added to."""
    if not any("lora_" in name for name, _ in model.named_parameters()):
        return model
    from peft.tuners.lora import LoraLayer  # pyright: ignore[reportMissingImports]

    for name, module in list(model.clip.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent: Any = model.clip.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], module.get_base_layer())
    return model
