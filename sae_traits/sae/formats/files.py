"""What every checkpoint is made of: settings in JSON and named tensors, checked where they are read.

Pickled code is never executed.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from sae_traits.errors import CheckpointError
from sae_traits.io import IS_LFS_POINTER, is_lfs_pointer
from sae_traits.sae.model import SAE, SAEConfig

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Settings:
    """The JSON object in a file, or a part of it."""

    file: Path
    values: dict[str, Any]

    def count(self, name: str, at_most: int | None = None) -> int:
        """A whole number, at least 1; a CheckpointError where it is missing or is none."""
        value = self.values.get(name)
        if type(value) is not int or value < 1 or (at_most is not None and value > at_most):
            allowed = "a whole number above 0" if at_most is None else f"a whole number from 1 to {at_most}"
            raise CheckpointError(f"{self.file}: {name} must be {allowed}, not {value!r}")
        return value

    def one_of(self, name: str, known: Collection[str]) -> str:
        """A word that is known; a CheckpointError where it is another one."""
        value = self.values.get(name)
        if not isinstance(value, str) or value not in known:
            raise CheckpointError(f"{self.file}: the {name} is {value!r}; sae-traits reads {', '.join(known)}")
        return value

    def section(self, name: str) -> Settings:
        """An object inside this one; a CheckpointError where it is missing or is none."""
        value = self.values.get(name)
        if not isinstance(value, dict):
            raise CheckpointError(f"{self.file}: {name} must be a JSON object, not {value!r}")
        return Settings(self.file, value)


@dataclass(frozen=True)
class Weights:
    """The named tensors in a file."""

    file: Path
    tensors: dict[str, Tensor]

    def take(self, shapes: Mapping[str, Shape], unused: Collection[str] = ()) -> dict[str, Tensor]:
        """The tensors of these names, in single precision; `unused` are what may be there besides.

        Raises:
            CheckpointError: a tensor is missing, has another shape, has numbers that are not finite, or is unknown.
        """
        for name in self.tensors:
            if name not in shapes and name not in unused:
                raise CheckpointError(f"{self.file} has a tensor {name!r}, which such an SAE has not")
        taken = {}
        for name, shape in shapes.items():
            if name not in self.tensors:
                raise CheckpointError(f"{self.file} has no tensor {name!r}; it has {', '.join(sorted(self.tensors))}")
            tensor = self.tensors[name]
            if tuple(tensor.shape) != shape:
                sizes = f"the shape {list(tensor.shape)}; its settings say {list(shape)}"
                raise CheckpointError(f"{self.file}: the tensor {name!r} has {sizes}")
            taken[name] = tensor.float()
            if not bool(taken[name].isfinite().all()):
                raise CheckpointError(f"{self.file}: the tensor {name!r} has numbers that are not finite")
        return taken


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text, NaN and infinities being None; a ValueError where it is not JSON, or too deep."""
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_settings(file: Path) -> Settings:
    """The JSON object in a file; a CheckpointError where there is none."""
    try:
        values = parse_json(file.read_bytes())
    except (OSError, ValueError) as error:  # ValueError: not JSON, or not even text
        raise CheckpointError(f"{file} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{file} must hold a JSON object, not {type(values).__name__}")
    return Settings(file, values)


def read_safetensors(file: Path) -> Weights:
    """The tensors of a safetensors file; a CheckpointError where it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _refuse_pointer(file)
    try:
        return Weights(file, load_file(file))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: the weights cannot be read: {error}") from error


def _refuse_pointer(file: Path) -> None:
    if is_lfs_pointer(file):
        raise CheckpointError(f"{file}: the weights cannot be read: {IS_LFS_POINTER}")


def read_pickle(file: Path, content: BinaryIO | Path) -> Weights:
    """The tensors of a torch pickle, read without executing code, or a CheckpointError; `file` is for messages."""
    _refuse_pointer(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of odd pickles; whether it can be read is told below
            tensors = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle fails in a dozen ways, from struct.error to AssertionError
        reason = str(error).strip().split("\n")[0].split(". ")[0] or type(error).__name__  # without torch's advice
        raise CheckpointError(f"{file}: the weights cannot be read without executing code: {reason}") from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise CheckpointError(f"{file} holds no state dict of named tensors")
    return Weights(file, tensors)


def shapes_of(d_model: int, n_latents: int) -> dict[str, Shape]:
    """Our layout, which some libraries share."""
    return {"W_enc": (d_model, n_latents), "b_enc": (n_latents,), "W_dec": (n_latents, d_model), "b_dec": (d_model,)}


def make_sae(library: str, settings: Settings, tensors: Mapping[str, Tensor], **fields: Any) -> SAE:
    """The SAE of a checkpoint of some library, of tensors with our names and shapes and fields of its `SAEConfig`."""
    n_latents, d_model = tensors["W_dec"].shape
    training = {"format": library, "settings": settings.values}
    sae = SAE.from_config(SAEConfig(d_model=d_model, n_latents=n_latents, training=training, **fields))
    sae.load_state_dict(dict(tensors), strict=True)
    return sae.eval()
