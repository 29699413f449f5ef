"""Chat models of random weights, made here: they babble, take pictures, and load in a second.

`python tiny_models.py FOLDER` makes the Qwen2.5-VL, in an environment with torchvision, which its processor needs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

_TURN = "{% for message in messages %}{{ message['role'] }}: {% for part in message['content'] %}"
_TEXT = "{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
_END = _TEXT + "{% if add_generation_prompt %}assistant: {% endif %}"
_QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


def make_llava(folder: Path) -> Path:
    """A LLaVA of 16 dimensions over bytes; it needs no torchvision."""
    tokenizer = _byte_tokenizer(["<pad>", "</s>", "<image>"], image_token="<image>")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = hf.CLIPVisionConfig(**sizes, image_size=28, patch_size=14)
    text = hf.LlamaConfig(
        **sizes, vocab_size=len(tokenizer), num_key_value_heads=2, max_position_embeddings=4096,
        bos_token_id=0, eos_token_id=1, pad_token_id=0, initializer_range=0.5,
    )  # fmt: skip
    torch.manual_seed(0)
    config = hf.LlavaConfig(vision_config=vision, text_config=text, image_token_id=2, vision_feature_layer=-1)
    image_processor = hf.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = hf.LlavaProcessor(
        image_processor=image_processor, tokenizer=tokenizer, patch_size=14,
        chat_template=_TURN + "{% if part['type'] == 'image' %}<image>" + _END,
        vision_feature_select_strategy="default", num_additional_image_tokens=1,
    )  # fmt: skip
    return _save(folder, hf.LlavaForConditionalGeneration(config), processor)


def make_qwen(folder: Path) -> Path:
    """A Qwen2.5-VL of 64 dimensions over bytes, which vLLM runs: its heads are 32 wide."""
    special = ["<|endoftext|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = _byte_tokenizer(special, image_token="<|image_pad|>", video_token="<|video_pad|>")
    vision = {
        "depth": 2, "hidden_size": 64, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64,
        "patch_size": 14, "spatial_merge_size": 2, "window_size": 56, "fullatt_block_indexes": [1],
    }  # fmt: skip
    text = {
        "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "vocab_size": len(tokenizer), "max_position_embeddings": 4096,
        "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0, "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "type": "default", "mrope_section": [4, 6, 6], "rope_theta": 1e6},
    }  # fmt: skip
    torch.manual_seed(0)
    config = hf.Qwen2_5_VLConfig(
        vision_config=vision, text_config=text, image_token_id=4, video_token_id=5, vision_start_token_id=2,
        vision_end_token_id=3,
    )  # fmt: skip
    # At most 64 patches of a picture, so that 16 tokens stand for it.
    limits: dict[str, Any] = {"size": {"shortest_edge": 28 * 28, "longest_edge": 64 * 14 * 14}}
    processor = hf.Qwen2_5_VLProcessor(
        image_processor=hf.Qwen2VLImageProcessor(**limits), video_processor=hf.Qwen2VLVideoProcessor(**limits),
        tokenizer=tokenizer, chat_template=_TURN + "{% if 'image' in part['type'] %}" + _QWEN_IMAGE + _END,
    )  # fmt: skip
    return _save(folder, hf.Qwen2_5_VLForConditionalGeneration(config), processor)


def _byte_tokenizer(special: list[str], **named: str) -> hf.PreTrainedTokenizerFast:
    """A tokenizer over bytes, after some special tokens: the padding first, the end of an answer second."""
    vocabulary = {token: i for i, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    bytes_ = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_.decoder = decoders.ByteLevel()
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=bytes_, pad_token=special[0], eos_token=special[1], extra_special_tokens=named
    )


def _save(folder: Path, model: Any, processor: Any) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    print(make_qwen(Path(sys.argv[1])))
