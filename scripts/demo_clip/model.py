"""The demo's CLIP as a folder that transformers reads: tokenizer, architecture, preprocessing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sae_traits.geometry import Framing
from sae_traits.models.clip.model import ONLY_FOR_KEY
from sae_traits.testbench.drawn.world import NOTE

if TYPE_CHECKING:
    import torch
    from transformers import CLIPModel, PreTrainedTokenizerFast

N_TOKENS = 1000
"""Size of the vocabulary, 256 bytes and three special tokens included."""
CONTEXT_LENGTH = 77
SIDE, PATCH = 96, 16
"""Of the model's input, in pixels."""
MEAN = STD = 0.5
"""Of every channel."""
PAD, END, START = "<|pad|>", "<|endoftext|>", "<|startoftext|>"
"""In the order of their ids. For transformers an end-of-text id of 2 stands for an old mistake, so START has that."""
PAD_ID, END_ID, START_ID = 0, 1, 2
_BICUBIC = 3


def input_framing() -> Framing:
    """How an image becomes the model's input, as preprocessor_config.json says."""
    return Framing(mode="squash", size=(SIDE, SIDE), resample="bicubic")


def train_tokenizer(texts: Iterable[str], n_tokens: int = N_TOKENS) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of lower-cased text: any word can be spelt, so that nothing is unknown to it."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])  # pyright: ignore
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)  # pyright: ignore
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=n_tokens, special_tokens=[PAD, END, START], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    ends = [(token, tokenizer.token_to_id(token)) for token in (START, END)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=ends)  # pyright: ignore
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
        padding_side="right",
        model_max_length=CONTEXT_LENGTH,
    )


def new_model(
    n_tokens: int, *, width: int, vision_layers: int, text_layers: int, context_length: int = CONTEXT_LENGTH
) -> CLIPModel:
    """A CLIP with random weights; seed torch before.

    Args:
        n_tokens: size of the vocabulary.
        width: of both towers and of the embeddings, a multiple of 32.
        vision_layers: transformer layers of the image tower.
        text_layers: transformer layers of the text tower.
        context_length: tokens of a text at most.
    """
    from transformers import CLIPConfig, CLIPModel

    tower = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": width // 32}
    ids = {"pad_token_id": PAD_ID, "eos_token_id": END_ID, "bos_token_id": START_ID}
    config = CLIPConfig(
        text_config=tower
        | ids
        | {"vocab_size": n_tokens, "max_position_embeddings": context_length, "num_hidden_layers": text_layers}
        | {"hidden_act": "gelu", "projection_dim": width},
        vision_config=tower
        | {"image_size": SIDE, "patch_size": PATCH, "num_hidden_layers": vision_layers}
        | {"hidden_act": "gelu", "projection_dim": width},
        projection_dim=width,
    )
    setattr(config, ONLY_FOR_KEY, NOTE)
    return CLIPModel(config)


def save_clip(model: CLIPModel, tokenizer: PreTrainedTokenizerFast, folder: Path, dtype: torch.dtype) -> None:
    """Write the folder: config.json, model.safetensors in a precision, tokenizer and preprocessing."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    weights = {
        name: tensor.to(dtype).contiguous() if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    (folder / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))
    tokenizer.save_pretrained(folder)
    preprocessing = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"height": SIDE, "width": SIDE},
        "resample": _BICUBIC,
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [MEAN] * 3,
        "image_std": [STD] * 3,
        "do_convert_rgb": True,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2) + "\n", encoding="utf-8")


def halve_weights(trained: Path, folder: Path) -> None:
    """Write a CLIP that `save_clip` and a training made into a folder, in half precision."""
    import torch
    from transformers import CLIPModel, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(trained)
    save_clip(CLIPModel.from_pretrained(trained, dtype=torch.float32), tokenizer, folder, torch.float16)
