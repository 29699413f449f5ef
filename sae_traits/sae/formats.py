"""Checkpoints of other libraries, read into the canonical layout of `model.py` without executing pickled code."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path

import torch

from sae_traits.errors import CheckpointError
from sae_traits.sae.model import SAE, SAEConfig

_SAEV_TENSORS = {"W_enc", "b_enc", "W_dec", "b_dec"}
_LONGEST_HEADER = 1 << 16


def load_saev(path: Path) -> SAE:
    """Read a saev version 1 checkpoint: one line of JSON, then a torch state dict. The paper's SAE is such a file.

    Its tensors have our names and shapes; its decoder norms are kept as they are.

    Raises:
        CheckpointError: the file is not such a checkpoint.
    """
    with path.open("rb") as file:
        header = file.readline(_LONGEST_HEADER)
        rest = file.read()
    looked_for = f"{path} is not an SAE checkpoint: looked for a folder with config.json and model.safetensors, or a saev file (a line of JSON, then a torch pickle)"  # noqa: E501
    try:
        settings = json.loads(header)
        d_model, expansion = int(settings["d_vit"]), int(settings["exp_factor"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(looked_for) from error
    try:
        tensors = torch.load(io.BytesIO(rest), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{path}: the weights cannot be read without executing code: {reason}") from error
    if not isinstance(tensors, dict) or set(tensors) != _SAEV_TENSORS:
        raise CheckpointError(f"{path}: expected the tensors {sorted(_SAEV_TENSORS)} of a saev checkpoint")
    config = SAEConfig(
        architecture="relu",
        d_model=d_model,
        n_latents=d_model * expansion,
        training={"format": "saev 1", "settings": settings},
    )
    sae = SAE(config)
    try:
        sae.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: the weights do not fit its header: {' '.join(str(error).split())}") from error
    return sae.eval()
