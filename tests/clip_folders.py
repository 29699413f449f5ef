"""Small random CLIPs, saved as folders like those on the Hub, with a tokenizer made on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CONTEXT_LENGTH = 24
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
START, END = "<|startoftext|>", "<|endoftext|>"
_SENTENCES = (
    "a photo of Apis mellifera.",
    "a photo of a moth with brown forewings and a pale band",
    "animalia arthropoda insecta lepidoptera nymphalidae vanessa cardui",
    "long antennae, dark eyes and a striped abdomen",
)


def make_tokenizer(vocab_size: int = 320) -> Tokenizer:
    """Byte-level BPE, so that any text can be spelt; START and END are the two highest ids, as in CLIP's own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        _SENTENCES, trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens([START, END])
    ends = [(token, tokenizer.token_to_id(token)) for token in (START, END)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=ends)
    return tokenizer


def make_clip(
    *, seed: int = 0, image_size: int = 32, embed_dim: int = 16, head_width: int = 16, hidden_act: str = "gelu"
) -> hf.CLIPModel:
    """A CLIP with random weights, large enough that everything in it has an effect on what comes out."""
    tokenizer = make_tokenizer()
    tower: dict[str, Any] = {"num_hidden_layers": 2, "hidden_act": hidden_act}
    text = {"hidden_size": 24, "intermediate_size": 96, "num_attention_heads": 2, "bos_token_id": None}
    text |= {"vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": CONTEXT_LENGTH}
    text |= {"eos_token_id": tokenizer.token_to_id(END), "pad_token_id": 0}
    vision = {"hidden_size": 32, "intermediate_size": 128, "num_attention_heads": 32 // head_width}
    vision |= {"image_size": image_size, "patch_size": 16}
    torch.manual_seed(seed)
    model = hf.CLIPModel(
        hf.CLIPConfig(text_config=text | tower, vision_config=vision | tower, projection_dim=embed_dim)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def make_open_clip_folder(
    folder: Path,
    *,
    seed: int = 0,
    image_size: int = 32,
    embed_dim: int = 16,
    head_width: int = 16,
    quick_gelu: bool = False,
    resize_mode: str = "shortest",
    extra_tensors: dict[str, torch.Tensor] | None = None,
) -> hf.CLIPModel:
    """Write a random CLIP as open_clip does, and give the transformers model that it was made from."""
    folder.mkdir(parents=True, exist_ok=True)
    hidden_act = "quick_gelu" if quick_gelu else "gelu"
    model = make_clip(
        seed=seed, image_size=image_size, embed_dim=embed_dim, head_width=head_width, hidden_act=hidden_act
    )
    save_file(open_clip_tensors(model) | (extra_tensors or {}), folder / "open_clip_model.safetensors")
    vision = {"image_size": image_size, "layers": 2, "width": 32, "head_width": head_width, "patch_size": 16}
    text = {"context_length": CONTEXT_LENGTH, "vocab_size": make_tokenizer().get_vocab_size()}
    text |= {"width": 24, "heads": 2, "layers": 2}
    config = {
        "model_cfg": {"embed_dim": embed_dim, "vision_cfg": vision, "text_cfg": text, "quick_gelu": quick_gelu},
        "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": resize_mode},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    make_tokenizer().save(str(folder / "tokenizer.json"))
    return model


def make_transformers_clip_folder(
    folder: Path, *, seed: int = 0, image_size: int = 32, embed_dim: int = 16
) -> hf.CLIPModel:
    """Write a random CLIP as transformers does, and give it."""
    model = make_clip(seed=seed, image_size=image_size, embed_dim=embed_dim)
    model.save_pretrained(folder)
    _save_tokenizer(folder)
    _save_preprocessor(folder, {"size": {"shortest_edge": image_size}, "do_center_crop": True, "crop_size": image_size})
    return model


def make_siglip_folder(folder: Path, *, seed: int = 0, image_size: int = 32) -> hf.SiglipModel:
    """Write a random SigLIP as transformers does, and give it."""
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    n_tokens = make_tokenizer().get_vocab_size()
    text = {"vocab_size": n_tokens, "max_position_embeddings": CONTEXT_LENGTH, "pad_token_id": 0}
    text |= {"bos_token_id": n_tokens - 2, "eos_token_id": n_tokens - 1}
    vision = {"image_size": image_size, "patch_size": 16}
    torch.manual_seed(seed)
    model = hf.SiglipModel(hf.SiglipConfig(text_config=tower | text, vision_config=tower | vision)).eval()
    model.save_pretrained(folder)
    _save_tokenizer(folder)
    _save_preprocessor(folder, {"size": {"height": image_size, "width": image_size}})
    return model


def open_clip_tensors(model: hf.CLIPModel) -> dict[str, torch.Tensor]:
    """The weights of a CLIP under the names and in the shapes of open_clip."""
    tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    def move(old: str, new: str) -> None:
        for kind in ("weight", "bias"):
            if f"{old}.{kind}" in tensors:
                renamed[f"{new}.{kind}"] = tensors.pop(f"{old}.{kind}")

    renamed = {
        "logit_scale": tensors.pop("logit_scale"),
        "visual.class_embedding": tensors.pop("vision_model.embeddings.class_embedding"),
        "visual.positional_embedding": tensors.pop("vision_model.embeddings.position_embedding.weight"),
        "visual.proj": tensors.pop("visual_projection.weight").T.contiguous(),
        "positional_embedding": tensors.pop("text_model.embeddings.position_embedding.weight"),
        "text_projection": tensors.pop("text_projection.weight").T.contiguous(),
    }
    move("vision_model.embeddings.patch_embedding", "visual.conv1")
    move("vision_model.pre_layrnorm", "visual.ln_pre")
    move("vision_model.post_layernorm", "visual.ln_post")
    move("text_model.embeddings.token_embedding", "token_embedding")
    move("text_model.final_layer_norm", "ln_final")
    for old_tower, new_tower in (("vision_model", "visual.transformer"), ("text_model", "transformer")):
        for layer in range(2):
            old, new = f"{old_tower}.encoder.layers.{layer}", f"{new_tower}.resblocks.{layer}"
            for kind in ("weight", "bias"):
                parts = [tensors.pop(f"{old}.self_attn.{part}_proj.{kind}") for part in "qkv"]
                renamed[f"{new}.attn.in_proj_{kind}"] = torch.cat(parts)
            move(f"{old}.self_attn.out_proj", f"{new}.attn.out_proj")
            move(f"{old}.layer_norm1", f"{new}.ln_1")
            move(f"{old}.layer_norm2", f"{new}.ln_2")
            move(f"{old}.mlp.fc1", f"{new}.mlp.c_fc")
            move(f"{old}.mlp.fc2", f"{new}.mlp.c_proj")
    assert not tensors, sorted(tensors)
    return renamed


def _save_tokenizer(folder: Path) -> None:
    hf.PreTrainedTokenizerFast(
        tokenizer_object=make_tokenizer(), bos_token=START, eos_token=END, model_max_length=CONTEXT_LENGTH
    ).save_pretrained(folder)


def _save_preprocessor(folder: Path, sizes: dict[str, Any]) -> None:
    values = {"do_resize": True, "resample": 3, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
    values |= {"image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(values | sizes))
