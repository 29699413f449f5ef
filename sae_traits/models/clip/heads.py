"""Projections and scales that transformers does not know, in a file beside the weights that other readers ignore."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from sae_traits.errors import BackboneError, one_line
from sae_traits.features.model_files import ModelFiles

HEADS_FILE = "sae_traits_heads.safetensors"


def read_heads(files: ModelFiles) -> dict[str, Tensor]:
    """The tensors by name, as in TRAINING_TENSORS; none where the model has no such file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if (path := files.path(HEADS_FILE)) is None:
        return {}
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise BackboneError(f"cannot read {path} ({one_line(error)}); get the file again") from error


def write_heads(heads: Mapping[str, Tensor], folder: Path) -> None:
    """Write the tensors, if there are any, into the folder of a model."""
    from safetensors.torch import save

    if heads:
        (folder / HEADS_FILE).write_bytes(save({name: tensor.contiguous() for name, tensor in heads.items()}))
