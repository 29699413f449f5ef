"""open_clip_config.json: which model, and how its images are prepared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sae_traits.errors import BackboneError
from sae_traits.features.model_files import ModelFiles
from sae_traits.features.preprocessing import Preprocessing
from sae_traits.geometry import Framing, FramingMode, Resample

OPEN_CLIP_CONFIG = "open_clip_config.json"

_SUPPORTED: dict[str, dict[str, tuple[Any, ...]]] = {
    "vision_cfg": {
        "timm_model_name": (None, ""),
        "pool_type": ("tok",),
        "act_kwargs": (None, {}),
        "norm_kwargs": (None, {}),
    },
    "text_cfg": {
        "hf_model_name": (None, ""),
        "tokenizer_kwargs": (None, {}),
        "pool_type": ("argmax",),
        "no_causal_mask": (False,),
        "act_kwargs": (None, {}),
        "norm_kwargs": (None, {}),
    },
}
"""Other architectures, and settings that change what is computed under the same tensor names, with what transformers
computes; the first value is open_clip's default. What changes names is found out when the weights are read."""

_OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
_OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
_MODES: dict[str, FramingMode] = {"shortest": "crop", "squash": "squash", "longest": "letterbox"}
_RESAMPLES: dict[str, Resample] = {"bicubic": "bicubic", "bilinear": "bilinear"}


def read_open_clip_config(files: ModelFiles) -> tuple[dict[str, Any], Preprocessing]:
    """`model_cfg` with open_clip's defaults filled in, and what `preprocess_cfg` means.

    open_clip pads letterboxed images with black; here as everywhere in this toolkit padding is the mean colour.

    Raises:
        BackboneError: it is not a vision transformer CLIP, or has a setting that is not supported.
    """
    values = files.read_json(OPEN_CLIP_CONFIG) or {}
    where = f"{OPEN_CLIP_CONFIG} of {files.name}"
    model = values.get("model_cfg")
    sections = [model.get(name) for name in _SUPPORTED] if isinstance(model, dict) else []
    if not isinstance(model, dict) or "embed_dim" not in model or not all(isinstance(s, dict) for s in sections):
        raise BackboneError(f"{where} is not of a CLIP: model_cfg needs embed_dim, vision_cfg and text_cfg")
    for section, settings in _SUPPORTED.items():
        for name, supported in settings.items():
            if (value := model[section].get(name, supported[0])) not in supported:
                raise BackboneError(
                    f"{where} has {section}.{name} {value!r}, which is not supported; "
                    "choose a vision transformer CLIP without additions, such as imageomics/bioclip"
                )
    vision = {"layers": 12, "width": 768, "head_width": 64, "mlp_ratio": 4.0, "patch_size": 16, "image_size": 224}
    text = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12, "mlp_ratio": 4.0}
    vision |= model["vision_cfg"]
    if not isinstance(vision["layers"], int):
        raise BackboneError(f"{where} is of a ResNet, which is not supported; choose a vision transformer")
    vision |= {name: _side(vision[name], f"vision_cfg.{name}", where) for name in ("image_size", "patch_size")}
    model = model | {"vision_cfg": vision, "text_cfg": text | model["text_cfg"]}
    return model, _read_preprocessing(values.get("preprocess_cfg") or {}, vision["image_size"], where)


def transformers_config(model_cfg: Mapping[str, Any], eos_id: int) -> Any:
    """The transformers.CLIPConfig of a `model_cfg` from `read_open_clip_config`; texts end with the token `eos_id`."""
    from transformers import CLIPConfig

    vision, text = model_cfg["vision_cfg"], model_cfg["text_cfg"]
    hidden_act = "quick_gelu" if model_cfg.get("quick_gelu") else "gelu"
    return CLIPConfig(
        projection_dim=model_cfg["embed_dim"],
        vision_config={
            "hidden_size": vision["width"],
            "intermediate_size": int(vision["width"] * vision["mlp_ratio"]),
            "num_hidden_layers": vision["layers"],
            "num_attention_heads": vision["width"] // vision["head_width"],
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "hidden_act": hidden_act,
        },
        text_config={
            "hidden_size": text["width"],
            "intermediate_size": int(text["width"] * text["mlp_ratio"]),
            "num_hidden_layers": text["layers"],
            "num_attention_heads": text["heads"],
            "vocab_size": text["vocab_size"],
            "max_position_embeddings": text["context_length"],
            "eos_token_id": eos_id,
            "pad_token_id": 0,
            "bos_token_id": None,  # only generation asks for it, and the default is of CLIP's own vocabulary
            "hidden_act": hidden_act,
        },
    )


def _read_preprocessing(values: Mapping[str, Any], image_size: int, where: str) -> Preprocessing:
    size = _side(values.get("size") or image_size, "preprocess_cfg.size", where)
    if size != image_size:
        raise BackboneError(
            f"{where} prepares images of {size} pixels for a model of {image_size}; correct one of them"
        )
    mode = _MODES.get(values.get("resize_mode") or "shortest")
    resample = _RESAMPLES.get(values.get("interpolation") or "bicubic")
    if mode is None or resample is None:
        raise BackboneError(
            f"{where} has resize_mode {values.get('resize_mode')!r} and interpolation {values.get('interpolation')!r}; "
            f"known are {', '.join(_MODES)}, and {', '.join(_RESAMPLES)}"
        )
    framing = Framing(mode=mode, size=(size, size), shortest_side=size if mode == "crop" else None, resample=resample)
    mean, std = (tuple(values.get(name) or default) for name, default in (("mean", _OPENAI_MEAN), ("std", _OPENAI_STD)))
    if len(mean) != 3 or len(std) != 3:
        raise BackboneError(f"{where} must give three numbers for mean and for std, for red, green and blue")
    return Preprocessing(framing=framing, mean=mean, std=std)


def _side(value: Any, name: str, where: str) -> int:
    """The side of a square that is written as one number or as two."""
    sides = set(value) if isinstance(value, list | tuple) else {value}
    if len(sides) != 1 or not isinstance(side := sides.pop(), int):
        raise BackboneError(f"{where} has {name} {value!r}; only squares are supported")
    return side
