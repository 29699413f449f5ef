"""Text -> token ids, as a CLIP was trained to read them."""

from __future__ import annotations

import html
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sae_traits.errors import BackboneError, one_line
from sae_traits.features.model_files import ModelFiles

_STRAIGHT_QUOTES = str.maketrans({"‘": "'", "’": "'", "‚": "'", "‛": "'", "“": '"', "”": '"', "„": '"', "‟": '"'})


@dataclass(frozen=True)
class TextTokenizer:
    """Token ids of texts, truncated to the context length and padded to it."""

    encode: Callable[[str], list[int]]
    """Ids of one text, with what begins and ends it, however long."""
    context_length: int
    """Tokens that the text tower sees at most, begin and end included."""
    pad_id: int
    highest_id: int
    """Of the vocabulary."""

    @property
    def eos_id(self) -> int:
        """What ends every text."""
        return self.encode("")[-1]

    def count(self, text: str) -> int:
        """Tokens of a text, begin and end included; more than `context_length` are truncated."""
        return len(self.encode(text))

    def ids(self, texts: Sequence[str]) -> Tensor:
        """Token ids int64 `[n_texts, context_length]`; what is truncated keeps its end token."""
        ids = torch.full((len(texts), self.context_length), self.pad_id)
        for row, text in zip(ids, texts, strict=True):
            encoded = self.encode(text)
            if len(encoded) > self.context_length:
                encoded = [*encoded[: self.context_length - 1], encoded[-1]]
            row[: len(encoded)] = torch.tensor(encoded)
        return ids


def clean_text(text: str) -> str:
    """Text as open_clip's tokenizer sees it: HTML entities resolved, quotes straight, white space single.

    open_clip also has ftfy repair text that was decoded in the wrong encoding, which is not done here.
    """
    return " ".join(html.unescape(html.unescape(text)).translate(_STRAIGHT_QUOTES).split())


def open_clip_tokenizer(files: ModelFiles, context_length: int) -> TextTokenizer:
    """The tokenizer in a folder of open_clip or in its subfolder `tokenizer`: tokenizer.json, or vocabulary and merges.

    Raises:
        BackboneError: it is missing, or does not fit how open_clip finds the end of a text.
    """
    tokenizer = _read_open_clip_tokenizer(files)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    highest_id = max(tokenizer.get_vocab(with_added_tokens=True).values())

    def encode(text: str) -> list[int]:
        return tokenizer.encode(clean_text(text)).ids

    ends = encode("")
    if len(ends) != 2 or ends[1] != highest_id:
        raise BackboneError(
            f"the tokenizer of {files.name} makes {ends} of an empty text; open_clip needs a begin and an end token, "
            f"the end being the highest id of the vocabulary ({highest_id}), since it takes the text's features there"
        )
    return TextTokenizer(encode, context_length, pad_id=0, highest_id=highest_id)


def transformers_tokenizer(files: ModelFiles, text_config: Any) -> TextTokenizer:
    """The tokenizer of a folder of transformers."""
    from transformers import AutoTokenizer

    named = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model")
    if files.path(*named) is None:
        raise BackboneError(f"{files.name} has no tokenizer ({', '.join(named)}); copy it from where the model is from")
    # Without sentencepiece transformers would fall back to tokenizer.json, which keeps the punctuation in silence.
    declared = files.read_json("tokenizer_config.json") or {}
    name = str(declared.get("tokenizer_class"))
    if name == "SiglipTokenizer" and importlib.util.find_spec("sentencepiece") is None:
        raise BackboneError(f"the tokenizer of {files.name} needs sentencepiece; run `pip install sentencepiece`")
    try:
        tokenizer = AutoTokenizer.from_pretrained(files.name, revision=files.commit, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise BackboneError(f"cannot load the tokenizer of {files.name}: {one_line(error)}") from error

    lowered = wants_small_letters(declared, text_config.model_type)

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text.lower() if lowered else text, verbose=False)

    if not encode(""):
        raise BackboneError(f"the tokenizer of {files.name} adds no end token; take the one it was trained with")
    pad_id = text_config.pad_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    highest_id = max(tokenizer.get_vocab().values())
    return TextTokenizer(encode, text_config.max_position_embeddings, pad_id or 0, highest_id)


def save_for_transformers(files: ModelFiles, folder: Path) -> None:
    """Write the tokenizer of a folder of open_clip such that transformers reads texts as open_clip does.

    Only HTML entities stay as they are: no tokenizer of transformers resolves them.
    """
    from tokenizers import Regex, normalizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = _read_open_clip_tokenizer(files)
    quotes = [normalizers.Replace(chr(odd), straight) for odd, straight in _STRAIGHT_QUOTES.items()]
    white_space = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
    tokenizer.normalizer = normalizers.Sequence([*quotes, *white_space, *own])
    end = tokenizer.id_to_token(tokenizer.encode("").ids[-1])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end).save_pretrained(folder)


def wants_small_letters(tokenizer_config: Mapping[str, Any], model_type: str) -> bool:
    """Whether texts are written in small letters first, which not every tokenizer does that should.

    SigLIP 2 was trained on small letters, and is published with Gemma's tokenizer, which keeps capital ones.
    """
    is_gemma = str(tokenizer_config.get("tokenizer_class")).startswith("Gemma")
    return bool(tokenizer_config.get("do_lower_case")) or (is_gemma and model_type.startswith("siglip"))


def _read_open_clip_tokenizer(files: ModelFiles) -> Any:
    from tokenizers import Tokenizer
    from transformers import CLIPTokenizer

    for folder in ("", "tokenizer/"):
        try:
            if (whole := files.path(f"{folder}tokenizer.json")) is not None:
                return Tokenizer.from_file(str(whole))
            vocabulary, merges = (files.path(f"{folder}{file}") for file in ("vocab.json", "merges.txt"))
            if vocabulary is not None and merges is not None:
                return CLIPTokenizer.from_pretrained(vocabulary.parent, local_files_only=True).backend_tokenizer
        except Exception as error:  # tokenizers raises nothing more specific
            raise BackboneError(
                f"the tokenizer of {files.name} cannot be read ({one_line(error)}); get its files again"
            ) from error
    raise BackboneError(
        f"{files.name} has no tokenizer: neither tokenizer.json, nor vocab.json and merges.txt, there or in its "
        "folder tokenizer/; copy them from the model that it was made from"
    )
