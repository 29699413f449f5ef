"""Write SAEs for others: SAELens's layout, and conversion from any layout to another."""

import shutil
from pathlib import Path
from typing import Any, Literal

from sae_traits.errors import CheckpointError, StoreError
from sae_traits.io import json_text, replacing
from sae_traits.sae.formats.sae_lens import OUR_METADATA, SETTINGS_FILE, WEIGHTS_FILE
from sae_traits.sae.model import SAE

SAE_LENS_VERSION = "6.54.12"
"""Whose format is written."""
_ARCHITECTURES = {"relu": "standard", "topk": "topk", "jump_relu": "jumprelu", "batch_topk": "jumprelu"}


def save_sae_lens(sae: SAE, folder: Path) -> None:
    """Write cfg.json and sae_weights.safetensors, which SAELens 6 loads with `SAE.load_from_disk` to the same latents.

    BatchTopK becomes JumpReLU, which it is for inference. Matryoshka prefixes matter to training alone, so nothing is
    made of them; they stay on record in the metadata, with architecture, k and backbone. A CheckpointError where there
    is no such architecture in SAELens (k_means and nmf), a StoreError where the files cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    settings = _settings(sae)
    tensors = {name: tensor.float().cpu().contiguous() for name, tensor in sae.state_dict().items()}
    if "threshold" in tensors:
        tensors["threshold"] = tensors["threshold"].clamp_min(0)  # as `SAE.gate` has it
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SETTINGS_FILE).write_text(json_text(settings), encoding="utf-8")
        save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
        shutil.copymode(folder / SETTINGS_FILE, folder / WEIGHTS_FILE)  # it is made for its owner alone
    except (SafetensorError, OSError) as error:
        raise StoreError(f"cannot write the SAE to {folder}: {error}") from error


def convert(
    source: str, destination: Path, *, to: Literal["sae-traits", "sae_lens"] = "sae-traits", subfolder: str = ""
) -> SAE:
    """Load an SAE of any known layout and write it in another one, into a new or an empty folder.

    `source` and `subfolder` are as for `SAE.from_pretrained`.

    Raises:
        CheckpointError: the source cannot be read, the destination is not empty, or the layout lacks the architecture.
        StoreError: the files cannot be written.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise CheckpointError(f"{destination} is not an empty folder; give the name of a new one")
    sae = SAE.from_pretrained(source, subfolder=subfolder)
    try:
        with replacing(destination) as partial:  # a kill leaves no half of an SAE, which would be in the way
            if to == "sae_lens":
                save_sae_lens(sae, partial)
            else:
                sae.save_pretrained(partial)
    except OSError as error:
        raise StoreError(f"cannot write the SAE to {destination}: {error.strerror or error}") from error
    return sae


def _settings(sae: SAE) -> dict[str, Any]:
    config = sae.config
    if config.architecture not in _ARCHITECTURES:
        raise CheckpointError(
            f"a {config.architecture} dictionary cannot be written for SAELens, which has no such architecture; "
            f"it has those of {', '.join(_ARCHITECTURES)}"
        )
    values = {
        "architecture": _ARCHITECTURES[config.architecture],
        "d_in": config.d_model,
        "d_sae": config.n_latents,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": config.subtract_decoder_bias,
        "normalize_activations": "none",
        "reshape_activations": "none",
    }
    if config.architecture == "topk":
        values |= {"k": config.k, "rescale_acts_by_decoder_norm": False}
    ours = {name: value for name, value in config.to_dict().items() if name != "training"}
    return values | {"metadata": {"sae_lens_version": SAE_LENS_VERSION, OUR_METADATA: ours}}
