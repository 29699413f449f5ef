"""CLIPs: images and texts as vectors of one space. BioCLIP and its kin in open_clip's format, and CLIP and SigLIP.

Everything is computed by transformers; open_clip and torchvision are not needed. What the numbers depend on (kind of
GELU, preprocessing, revision) is in `CLIP.info`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from sae_traits.errors import BackboneError
from sae_traits.features.backbone import choose_device
from sae_traits.features.model_files import one_line, quiet_transformers
from sae_traits.features.preprocessing import PreparePixels, Preprocessing, read_preprocessing
from sae_traits.geometry import Framing, FramingMode
from sae_traits.models.clip.files import CLIPFiles, Layout
from sae_traits.models.clip.open_clip_config import read_open_clip_config
from sae_traits.models.clip.open_clip_weights import load_open_clip
from sae_traits.models.clip.tokens import TextTokenizer, open_clip_tokenizer, transformers_tokenizer
from sae_traits.schema import BackboneInfo

Head = Literal["taxonomy", "caption"]
"""Which projection of the image tower: BioCAP has one for names and one for captions, all others one for both."""

_TEXTS_AT_ONCE = 64
_IMAGES_AT_ONCE = 32
_LEGACY_EOS_ID = 2
"""In a CLIP's config transformers takes this as: the text's features are at its highest id, wherever 2 may be."""


@dataclass(frozen=True, kw_only=True)
class CLIPInfo:
    """Everything that a CLIP's embeddings depend on."""

    model: str
    """Hub id, or the absolute path of a local folder."""
    revision: str
    """Commit on the Hub; of a local folder "sha256:" and the start of the hash of its weights."""
    layout: Layout
    hidden_act: str
    """Kind of GELU: `gelu` is exact, `quick_gelu` OpenAI's approximation; with the wrong one the numbers are wrong."""
    framing: Framing
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    heads: tuple[Head, ...]
    """Of the image tower."""
    context_length: int
    """Tokens of a text at most, begin and end included."""
    embed_dim: int
    n_parameters: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        lists = {"mean": list(self.mean), "std": list(self.std), "heads": list(self.heads)}
        return asdict(self) | lists | {"framing": self.framing.to_dict()}


class CLIP:
    """A frozen CLIP; `load_clip` makes one.

    Attributes:
        info: everything that the embeddings depend on.
        prepare: makes the pixels `[3, height, width]` of one upright RGB image; picklable, without weights.
        caption_projection: BioCAP's second projection of the image tower, or None.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: TextTokenizer,
        info: CLIPInfo,
        device: torch.device,
        *,
        caption_projection: nn.Linear | None = None,
        caption_logit_scale: Tensor | None = None,
    ) -> None:
        self.info = info
        self.prepare = PreparePixels(_whole_image(info))
        self.caption_projection = None if caption_projection is None else caption_projection.to(device)
        self._caption_logit_scale = caption_logit_scale
        self._model = model.eval().requires_grad_(False).to(device)
        self._tokenizer = tokenizer
        self._device = device

    @property
    def context_length(self) -> int:
        """Tokens of a text at most, begin and end included."""
        return self.info.context_length

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, begin and end included; what exceeds `context_length` is cut off."""
        return self._tokenizer.count(text)

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Which texts are longer than the text tower can see `[n]`."""
        return [self.count_tokens(text) > self.context_length for text in texts]

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids as the model sees them, int64 `[n, context_length]`: truncated before the end token, padded."""
        return self._tokenizer.ids(texts)

    def logit_scale(self, head: Head = "taxonomy") -> float:
        """What the model multiplied cosines by when it was trained (already exponentiated)."""
        self._check_head(head)
        caption = self._caption_logit_scale if head == "caption" else None
        return float((self._model.logit_scale if caption is None else caption).exp())

    @torch.no_grad()
    def image_features(self, pixels: Tensor, head: Head = "taxonomy") -> Tensor:
        """Features before normalisation, float32 on the CPU `[n, embed_dim]`, of pixels `[n, 3, height, width]`.

        Raises:
            BackboneError: the model has no such head.
        """
        self._check_head(head)
        features = torch.empty(len(pixels), self.info.embed_dim)
        for start in range(0, len(pixels), _IMAGES_AT_ONCE):
            some = slice(start, start + _IMAGES_AT_ONCE)
            features[some] = self._image_features(pixels[some].to(self._device), head).cpu()
        return features

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Features before normalisation, float32 on the CPU `[n, embed_dim]`; texts that are too long are truncated."""
        features = torch.empty(len(texts), self.info.embed_dim)
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            some = slice(start, start + _TEXTS_AT_ONCE)
            features[some] = self._text_features(self.tokenize(texts[some]).to(self._device)).cpu()
        return features

    def embed_images(self, pixels: Tensor, head: Head = "taxonomy") -> Tensor:
        """Embeddings of unit length, float32 on the CPU `[n, embed_dim]`, of pixels `[n, 3, height, width]`.

        Raises:
            BackboneError: the model has no such head.
        """
        return nn.functional.normalize(self.image_features(pixels, head), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings of unit length, float32 on the CPU `[n, embed_dim]`; texts that are too long are truncated."""
        return nn.functional.normalize(self.text_features(texts), dim=-1)

    def _image_features(self, pixels: Tensor, head: Head) -> Tensor:
        if head == "caption":
            assert self.caption_projection is not None
            return self.caption_projection(self._model.vision_model(pixel_values=pixels).pooler_output)
        return self._model.get_image_features(pixel_values=pixels).pooler_output

    def _text_features(self, ids: Tensor) -> Tensor:
        if self._model.config.model_type == "clip":
            # Causal and read at the end token, so that what comes after the longest text changes nothing.
            ids = ids[:, : int((ids == self._tokenizer.eos_id).int().argmax(dim=1).max()) + 1]
        return self._model.get_text_features(input_ids=ids).pooler_output

    def _check_head(self, head: Head) -> None:
        if head not in self.info.heads:
            raise BackboneError(
                f"{self.info.model} has no image head {head!r}, only {', '.join(self.info.heads)}; "
                "of the published models BioCAP alone has one for captions"
            )


def load_clip(
    path_or_id: str | Path,
    *,
    revision: str | None = None,
    framing: Literal["auto"] | FramingMode = "auto",
    device: str = "auto",
) -> CLIP:
    """Load a CLIP for zero-shot evaluation, in float32.

    Args:
        path_or_id: folder or Hub id, in the format of open_clip (BioCLIP, BioCLIP 2, BioCLIP 2.5, BioCAP and other
            vision transformers) or of transformers (CLIP, SigLIP).
        revision: branch, tag or commit on the Hub.
        framing: how images become square: as the model's own configuration says, or one of the three ways.
        device: auto, cpu, cuda, cuda:1, mps …

    Raises:
        BackboneError: there is no such model, it is not a CLIP, it has no tokenizer, or its weights do not match its
            config; the message names what is wrong.
    """
    chosen = choose_device(device)
    files = CLIPFiles.find(str(path_or_id), revision)
    load = _load_open_clip if files.layout == "open_clip" else _load_transformers
    return load(files, framing, chosen)


def _load_open_clip(files: CLIPFiles, framing: Literal["auto"] | FramingMode, device: torch.device) -> CLIP:
    model_cfg, said = read_open_clip_config(files)
    tokenizer = open_clip_tokenizer(files, model_cfg["text_cfg"]["context_length"])
    held = load_open_clip(files, model_cfg, tokenizer.eos_id)
    _check_tokenizer(tokenizer, held.model.config, files)
    return CLIP(
        held.model,
        tokenizer,
        _info_of(held.model, files, _reframed(said, framing), held.caption_projection),
        device,
        caption_projection=held.caption_projection,
        caption_logit_scale=held.caption_logit_scale,
    )


def _load_transformers(files: CLIPFiles, framing: Literal["auto"] | FramingMode, device: torch.device) -> CLIP:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(files.folder, local_files_only=True, trust_remote_code=False)
    except (StrictDataclassError, OSError, ValueError, KeyError, TypeError) as error:
        raise BackboneError(
            f"the config.json of {files.model} is not of a model that transformers knows: {one_line(error)}"
        ) from error
    if config.model_type not in ("clip", "siglip"):
        raise BackboneError(
            f"{files.model} ({config.model_type}) is not a CLIP; choose one of the type clip or siglip, or a model in "
            "the format of open_clip such as imageomics/bioclip"
        )
    said = _said_by_preprocessor(files)
    side = config.vision_config.image_size
    if said.framing.size != (side, side):
        raise BackboneError(
            f"{files.model} prepares images of {said.framing.size[0]} x {said.framing.size[1]} pixels for a model of "
            f"{side} x {side}; its preprocessor_config.json and config.json must be of the same model"
        )
    tokenizer = transformers_tokenizer(files, config.text_config)
    _check_tokenizer(tokenizer, config, files)
    model = _load_weights(files)
    return CLIP(model, tokenizer, _info_of(model, files, _reframed(said, framing)), device)


def _said_by_preprocessor(files: CLIPFiles) -> Preprocessing:
    for file in ("preprocessor_config.json", "processor_config.json"):
        if (values := files.read_json(file)) is not None:
            return read_preprocessing(values, f"{file} of {files.model}")
    raise BackboneError(
        f"{files.model} has no preprocessor_config.json, so its normalisation is unknown; copy that file from the "
        "model that it was made from"
    )


def _reframed(said: Preprocessing, mode: Literal["auto"] | FramingMode) -> Preprocessing:
    """Framed as the user wants; a crop takes the whole shortest side, as CLIPs are evaluated."""
    if mode in ("auto", said.framing.mode):
        return said
    size = said.framing.size
    shortest_side = max(size) if mode == "crop" else None
    framing = Framing(mode=mode, size=size, shortest_side=shortest_side, resample=said.framing.resample)
    return Preprocessing(framing=framing, mean=said.mean, std=said.std)


def _check_tokenizer(tokenizer: TextTokenizer, config: Any, files: CLIPFiles) -> None:
    """Raises BackboneError where the text tower would take its features elsewhere than at the end, or lacks tokens."""
    text = config.text_config
    if tokenizer.highest_id >= text.vocab_size:
        raise BackboneError(
            f"the tokenizer of {files.model} has ids up to {tokenizer.highest_id}, and the model knows "
            f"{text.vocab_size} tokens; they must be of the same model"
        )
    expected = tokenizer.highest_id if text.eos_token_id == _LEGACY_EOS_ID else text.eos_token_id
    if config.model_type == "clip" and tokenizer.eos_id != expected:
        raise BackboneError(
            f"the tokenizer of {files.model} ends texts with the id {tokenizer.eos_id}, and the model takes their "
            f"features at {expected}; they must be of the same model"
        )


def _load_weights(files: CLIPFiles) -> Any:
    """The model of a transformers folder in float32, every tensor of it read from the weights."""
    from transformers import AutoModel

    try:
        with quiet_transformers():
            model, loading = AutoModel.from_pretrained(
                files.folder,
                local_files_only=True,
                trust_remote_code=False,
                weights_only=True,  # where there is no safetensors file: tensors from a pickle, never code
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # the message below names them, that of transformers does not
            )
    except (OSError, ValueError, RuntimeError, SafetensorError, UnpicklingError) as error:
        raise BackboneError(f"cannot load the weights of {files.model}: {one_line(error)}") from error
    for name, found, expected in sorted(loading["mismatched_keys"]):
        raise BackboneError(
            f"the weights of {files.model} do not match its config: {name} is {list(found)}, and config.json says "
            f"{list(expected)}; they must be of the same model"
        )
    for what, names in (("lack", loading["missing_keys"]), ("have left over", loading["unexpected_keys"])):
        if names:
            raise BackboneError(
                f"the weights of {files.model} {what} {len(names)} tensors, such as {min(names)}; the weights and "
                "config.json must be of the same model"
            )
    return model


def _info_of(
    model: Any, files: CLIPFiles, preprocessing: Preprocessing, caption_projection: nn.Linear | None = None
) -> CLIPInfo:
    config = model.config
    is_clip = config.model_type == "clip"
    parameters = [*model.parameters(), *(caption_projection.parameters() if caption_projection else ())]
    return CLIPInfo(
        model=files.model,
        revision=files.revision,
        layout=files.layout,
        hidden_act=config.vision_config.hidden_act,
        framing=preprocessing.framing,
        mean=preprocessing.mean,
        std=preprocessing.std,
        heads=("taxonomy", "caption") if caption_projection else ("taxonomy",),
        context_length=config.text_config.max_position_embeddings,
        embed_dim=config.projection_dim if is_clip else config.vision_config.hidden_size,
        n_parameters=sum(parameter.numel() for parameter in parameters),
    )


def _whole_image(info: CLIPInfo) -> BackboneInfo:
    """The embedding as what it is: the feature of one patch, which is the whole input."""
    return BackboneInfo(
        backbone=info.model,
        revision=info.revision,
        layer=0,
        d_model=info.embed_dim,
        rows=1,
        columns=1,
        patch=None,
        framing=info.framing,
        mean=info.mean,
        std=info.std,
    )
