"""CLIPs: images and texts as vectors of one space. BioCLIP and its kin in open_clip's format, and CLIP and SigLIP.

Everything is computed by transformers; open_clip and torchvision are not needed. What the numbers depend on (kind of
GELU, preprocessing, revision) is in `CLIP.info`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sae_traits.errors import BackboneError, ConfigError
from sae_traits.features.backbone import choose_device
from sae_traits.features.model_files import ModelFiles
from sae_traits.features.preprocessing import PreparePixels, Preprocessing, preprocessing_of
from sae_traits.geometry import Framing, FramingMode
from sae_traits.models.clip.heads import read_heads
from sae_traits.models.clip.open_clip_config import OPEN_CLIP_CONFIG, read_open_clip_config
from sae_traits.models.clip.open_clip_weights import convert_open_clip, find_weights, read_weights
from sae_traits.models.clip.tokens import TextTokenizer, open_clip_tokenizer, transformers_tokenizer
from sae_traits.schema import BackboneInfo

Head = Literal["taxonomy", "caption"]
"""Which projection of the image tower: BioCAP has one for names and one for captions, all others one for both."""
Layout = Literal["open_clip", "transformers"]

_TEXTS_AT_ONCE = 64
_IMAGES_AT_ONCE = 32
ONLY_FOR_KEY = "sae_traits_only_for"
"""In the config.json of a CLIP that knows one kind of images alone: the note of the collections that it is for."""
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
        lists = {"mean": list(self.mean), "std": list(self.std), "heads": list(self.heads)}
        return asdict(self) | lists | {"framing": self.framing.to_dict()}


class CLIP:
    """A frozen CLIP; `load_clip` makes one.

    Attributes:
        info: everything that the embeddings depend on.
        prepare: makes the pixels `[3, height, width]` of one upright RGB image; picklable, without weights.
        caption_projection: BioCAP's second projection of the image tower, or None.
        only_for: the note of the collections that it is meant for, where it knows no other images; else None.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: TextTokenizer,
        info: CLIPInfo,
        device: torch.device,
        *,
        caption_projection: nn.Linear | None = None,
        only_for: str | None = None,
    ) -> None:
        self.info = info
        self.only_for = only_for
        self.prepare = PreparePixels(whole_image(info))
        self.caption_projection = None if caption_projection is None else caption_projection.to(device)
        self._model = model.eval().requires_grad_(False).to(device)
        self._tokenizer = tokenizer
        self._device = device

    @property
    def context_length(self) -> int:
        """Tokens of a text at most, begin and end included."""
        return self.info.context_length

    @property
    def logit_scale(self) -> float:
        """The factor by which the model multiplies cosines before a softmax."""
        return float(self._model.logit_scale.exp())

    def check_note(self, note: str | None, folder: Path) -> None:
        """Keep a model that knows one kind of images alone from being asked about others.

        Raises:
            ConfigError: the model is not meant for the collection in the folder, which says of itself `note`.
        """
        if self.only_for not in (None, note):
            raise ConfigError(
                f"{self.info.model} knows only collections that say of themselves {self.only_for!r}; its answers about "
                f"{folder} would mean nothing, so choose another --clip, for example imageomics/bioclip"
            )

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, begin and end included; what exceeds `context_length` is cut off."""
        return self._tokenizer.count(text)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids as the model sees them, int64 `[n, context_length]`: truncated before the end token, padded."""
        return self._tokenizer.ids(texts)

    @torch.no_grad()
    def image_features(self, pixels: Tensor, head: Head = "taxonomy") -> Tensor:
        """Features before normalisation, float32 on the CPU `[n, embed_dim]`, of pixels `[n, 3, height, width]`.

        Raises:
            BackboneError: the model has no such head.
        """
        if head not in self.info.heads:
            raise BackboneError(
                f"{self.info.model} has no image head {head!r}, only {', '.join(self.info.heads)}; "
                "of the published models BioCAP alone has one for captions"
            )
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
        """Embeddings of unit length, float32 on the CPU `[n, embed_dim]`, of pixels `[n, 3, height, width]`."""
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


def load_clip(
    id_or_folder: str | Path,
    *,
    revision: str | None = None,
    framing: Literal["auto"] | FramingMode = "auto",
    device: str = "auto",
) -> CLIP:
    """Load a CLIP for zero-shot evaluation, in float32.

    Args:
        id_or_folder: Hub id or folder, in the format of open_clip (BioCLIP, BioCLIP 2, BioCLIP 2.5, BioCAP and other
            vision transformers) or of transformers (CLIP, SigLIP).
        revision: branch, tag or commit on the Hub.
        framing: how images become square: as the model's own configuration says, or one of the three ways.
        device: auto, cpu, cuda, cuda:1, mps …

    Raises:
        BackboneError: there is no such model, it is not a CLIP, it has no tokenizer, or its weights do not match its
            config; the message names what is wrong.
    """
    parts = read_clip(id_or_folder, revision=revision)
    parts = replace(parts, preprocessing=_reframed(parts.preprocessing, framing))
    caption_projection = None
    if (weight := parts.others.get("caption_projection.weight")) is not None:
        caption_projection = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        caption_projection.weight = nn.Parameter(weight, requires_grad=False)
    return CLIP(
        parts.model,
        parts.tokenizer,
        info_of(parts),
        choose_device(device),
        caption_projection=caption_projection,
        only_for=parts.only_for,
    )


@dataclass(frozen=True, kw_only=True)
class CLIPParts:
    """What a CLIP's files hold: `load_clip` makes an encoder of it, and training goes on from it."""

    files: ModelFiles
    layout: Layout
    model: Any
    """Of transformers, in float32, frozen."""
    others: dict[str, Tensor]
    """Further projections and scales by name, as in TRAINING_TENSORS."""
    tokenizer: TextTokenizer
    preprocessing: Preprocessing
    only_for: str | None
    """The note of the collections that it is meant for, where it knows no other images."""


def find_clip(id_or_folder: str | Path, *, revision: str | None = None) -> ModelFiles:
    """Find the files of a CLIP, of which only the configuration is fetched; a BackboneError where there is none."""
    # A folder with both is read as open_clip, whose preprocessing comes with the weights.
    return ModelFiles.find(str(id_or_folder), revision, configs=(OPEN_CLIP_CONFIG, "config.json"))


def read_clip(id_or_folder: str | Path, *, revision: str | None = None) -> CLIPParts:
    """Read the files of a CLIP; arguments and errors as of `load_clip`."""
    files = find_clip(id_or_folder, revision=revision)
    return _read_open_clip(files) if files.config == OPEN_CLIP_CONFIG else _read_transformers(files)


def _read_open_clip(files: ModelFiles) -> CLIPParts:
    path = find_weights(files)
    model_cfg, preprocessing = read_open_clip_config(files)
    tokenizer = open_clip_tokenizer(files, model_cfg["text_cfg"]["context_length"])
    model, others = convert_open_clip(read_weights(path), model_cfg, tokenizer.eos_id, path)
    _check_tokenizer(tokenizer, model.config, files)
    if (n_tokens := tokenizer.highest_id + 1) < model.config.text_config.vocab_size:
        raise BackboneError(
            f"the tokenizer of {files.name} has {n_tokens} tokens, and the model knows "
            f"{model.config.text_config.vocab_size}; they must be of the same model"
        )
    return CLIPParts(
        files=files,
        layout="open_clip",
        model=model,
        others=others,
        tokenizer=tokenizer,
        preprocessing=preprocessing,
        only_for=None,
    )


def _read_transformers(files: ModelFiles) -> CLIPParts:
    config = files.read_config()
    if config.model_type not in ("clip", "siglip"):
        raise BackboneError(
            f"{files.name} ({config.model_type}) is not a CLIP; choose one of the type clip or siglip, or a model in "
            "the format of open_clip such as imageomics/bioclip"
        )
    preprocessing = preprocessing_of(files)
    (width, height), side = preprocessing.framing.size, config.vision_config.image_size
    if (width, height) != (side, side):
        raise BackboneError(
            f"{files.name} prepares images of {width} x {height} pixels for a model of {side} x {side}; its "
            "preprocessor_config.json and config.json must be of the same model"
        )
    tokenizer = transformers_tokenizer(files, config.text_config)
    _check_tokenizer(tokenizer, config, files)
    model, loading = files.load_model(torch.float32)
    for what, names in (("lack", loading["missing_keys"]), ("have left over", loading["unexpected_keys"])):
        if names:
            raise BackboneError(
                f"the weights of {files.name} {what} {len(names)} tensors, such as {min(names)}; the weights and "
                "config.json must be of the same model"
            )
    return CLIPParts(
        files=files,
        layout="transformers",
        model=model,
        others=read_heads(files),
        tokenizer=tokenizer,
        preprocessing=preprocessing,
        only_for=getattr(config, ONLY_FOR_KEY, None),
    )


def _reframed(preprocessing: Preprocessing, mode: Literal["auto"] | FramingMode) -> Preprocessing:
    """Framed as the user wants; a crop takes the whole shortest side, as CLIPs are evaluated."""
    if mode in ("auto", preprocessing.framing.mode):
        return preprocessing
    size = preprocessing.framing.size
    shortest_side = max(size) if mode == "crop" else None
    framing = replace(preprocessing.framing, mode=mode, shortest_side=shortest_side)
    return replace(preprocessing, framing=framing)


def _check_tokenizer(tokenizer: TextTokenizer, config: Any, files: ModelFiles) -> None:
    """Raises BackboneError where the text tower would take its features elsewhere than at the end, or lacks tokens."""
    text = config.text_config
    if tokenizer.highest_id >= text.vocab_size:
        raise BackboneError(
            f"the tokenizer of {files.name} has ids up to {tokenizer.highest_id}, and the model knows "
            f"{text.vocab_size} tokens; they must be of the same model"
        )
    expected = tokenizer.highest_id if text.eos_token_id == _LEGACY_EOS_ID else text.eos_token_id
    if config.model_type == "clip" and tokenizer.eos_id != expected:
        raise BackboneError(
            f"the tokenizer of {files.name} ends texts with the id {tokenizer.eos_id}, and the model takes their "
            f"features at {expected}; they must be of the same model"
        )


def info_of(parts: CLIPParts) -> CLIPInfo:
    """What is to be said of a CLIP."""
    files, config, preprocessing = parts.files, parts.model.config, parts.preprocessing
    caption_projection = parts.others.get("caption_projection.weight")
    parameters = [*parts.model.parameters(), *([] if caption_projection is None else [caption_projection])]
    return CLIPInfo(
        model=files.name,
        revision=files.revision,
        layout=parts.layout,
        hidden_act=config.vision_config.hidden_act,
        framing=preprocessing.framing,
        mean=preprocessing.mean,
        std=preprocessing.std,
        heads=("taxonomy",) if caption_projection is None else ("taxonomy", "caption"),
        context_length=config.text_config.max_position_embeddings,
        embed_dim=config.projection_dim if config.model_type == "clip" else config.vision_config.hidden_size,
        n_parameters=sum(parameter.numel() for parameter in parameters),
    )


def whole_image(info: CLIPInfo) -> BackboneInfo:
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
