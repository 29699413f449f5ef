"""Where a CLIP's files are: a local folder, or a snapshot of a repository on the Hub, in one of two layouts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sae_traits.errors import BackboneError
from sae_traits.features.model_files import ModelFiles, one_line
from sae_traits.io import hash_of_file

Layout = Literal["open_clip", "transformers"]
OPEN_CLIP_CONFIG = "open_clip_config.json"

_CONFIGS: dict[Layout, str] = {"open_clip": OPEN_CLIP_CONFIG, "transformers": "config.json"}
"""What tells the layouts apart; a folder with both is read as open_clip, whose preprocessing comes with the weights."""

_WEIGHTS: dict[Layout, tuple[str, str]] = {
    "open_clip": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
    "transformers": ("model*.safetensors", "pytorch_model*.bin"),
}
"""Weights as safetensors, and where there are none as a pickle, of which only tensors are read."""

_TOKENIZER_FILES = (
    *("tokenizer.json", "vocab.json", "merges.txt", "spiece.model", "tokenizer.model"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
)
_DESCRIBING_FILES = (
    *_CONFIGS.values(),
    *("preprocessor_config.json", "processor_config.json"),
    *("model.safetensors.index.json", "pytorch_model.bin.index.json"),
    *_TOKENIZER_FILES,
    *(f"tokenizer/{file}" for file in _TOKENIZER_FILES),
)
"""All that is fetched from the Hub beside the weights."""


@dataclass(frozen=True)
class CLIPFiles:
    """The files of one CLIP, all of the same revision, on this machine."""

    model: str
    """Hub id, or the absolute path of a local folder."""
    revision: str
    """Commit on the Hub; of a local folder "sha256:" and the start of the hash of its weights."""
    folder: Path
    layout: Layout

    @classmethod
    def find(cls, model: str, revision: str | None = None) -> CLIPFiles:
        """The files of a local folder if there is one of that name, else of a repository on the Hub, fetched.

        Args:
            model: local folder or Hub id.
            revision: branch, tag or commit on the Hub; a local folder has none.

        Raises:
            BackboneError: there is no such model, it is in neither layout or has no weights, or cannot be fetched.
        """
        folder = Path(model).expanduser()
        if folder.is_dir():
            layout = _layout_of(folder, str(folder))
            files = cls(str(folder.resolve()), "", folder, layout)
            if layout == "open_clip":
                return cls(files.model, f"sha256:{hash_of_file(files.weights)[:16]}", folder, layout)
            return cls(files.model, ModelFiles.find(files.model).revision, folder, layout)
        if folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
            raise BackboneError(f"the folder {folder} does not exist; give the folder of a CLIP, or its id on the Hub")
        folder = _fetch(model, revision, _DESCRIBING_FILES)
        commit = folder.name  # the Hub cache keeps files as snapshots/<commit>/<file>
        files = cls(model, commit, folder, _layout_of(folder, f"{model} on the Hub"))
        for pattern in _WEIGHTS[files.layout]:
            _fetch(model, commit, [pattern])
            if any(folder.glob(pattern)):
                break
        _ = files.weights  # complains where the repository has none
        return files

    @property
    def weights(self) -> Path:
        """The weights file, the first one where there are several.

        Raises:
            BackboneError: there is none.
        """
        for pattern in _WEIGHTS[self.layout]:
            if found := sorted(self.folder.glob(pattern)):
                return found[0]
        safe, pickled = _WEIGHTS[self.layout]
        raise BackboneError(
            f"{self.model} has {_CONFIGS[self.layout]} but no weights ({safe} or {pickled}); get the whole model"
        )

    def read_json(self, file: str) -> dict[str, Any] | None:
        """The content of one of the JSON files, or None where there is no such file.

        Raises:
            BackboneError: the file is not a JSON object.
        """
        path = self.folder / file
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BackboneError(f"{path} is not JSON: {error}; get the file again") from error
        if not isinstance(values, dict):
            raise BackboneError(f"{path} is not a JSON object; get the file again")
        return values


def _layout_of(folder: Path, name: str) -> Layout:
    for layout, config in _CONFIGS.items():
        if (folder / config).is_file():
            return layout
    raise BackboneError(
        f"{name} is not a CLIP: it has neither {' nor '.join(_CONFIGS.values())}; give a model in the format of "
        "open_clip (such as imageomics/bioclip) or of transformers (such as openai/clip-vit-base-patch16)"
    )


def _fetch(model: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """The local snapshot of a repository, with those of its files that match, from the cache where they are there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(patterns)))
    except HFValidationError as error:
        raise BackboneError(f"{model!r} is neither a folder here nor a Hub id such as imageomics/bioclip") from error
    except OSError as error:  # what the Hub and the network answer, all of it
        raise BackboneError(
            f"there is no folder {model}, and no CLIP {model} can be fetched from the Hub ({one_line(error)}); check "
            "the id, the revision, the network and, for a private or gated model, `hf auth login`"
        ) from error
