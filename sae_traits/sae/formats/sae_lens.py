"""SAELens 6: cfg.json and sae_weights.safetensors, as saved for inference or as a checkpoint of training.

BatchTopK and Matryoshka SAEs are saved as `jumprelu` for inference; their training checkpoints are read as that too.
"""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from sae_traits.errors import CheckpointError
from sae_traits.sae.formats.files import Settings, make_sae, read_safetensors, read_settings, shapes_of
from sae_traits.sae.model import SAE
from sae_traits.schema import BackboneInfo

SETTINGS_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"
SCALER_FILE = "activation_scaler.json"
"""In checkpoints of training: the factor that features are multiplied by."""
OUR_METADATA = "sae_traits"
"""Key of the metadata under which the export says what SAELens has no words for."""
MIN_NORM = 1e-8
"""Of a decoder row, as SAELens has it."""
_ARCHITECTURES: dict[str, str] = {
    "standard": "relu",
    "topk": "topk",
    "jumprelu": "jump_relu",
    "batchtopk": "jump_relu",
    "matryoshka_batchtopk": "jump_relu",
}


def load_sae_lens(folder: Path) -> SAE:
    """Read a checkpoint; where latents are rescaled by decoder norms, that is folded into the weights."""
    settings = read_settings(folder / SETTINGS_FILE)
    metadata = _metadata(settings)
    architecture = settings.one_of("architecture", _ARCHITECTURES)
    n_latents = settings.count("d_sae")
    shapes = shapes_of(settings.count("d_in"), n_latents)
    if architecture == "jumprelu":
        shapes["threshold"] = (n_latents,)
    elif architecture in ("batchtopk", "matryoshka_batchtopk"):
        shapes["topk_threshold"] = ()
    tensors = read_safetensors(folder / WEIGHTS_FILE).take(shapes)
    _fold(tensors, _input_scale(folder, settings), bool(settings.values.get("rescale_acts_by_decoder_norm")))
    if "topk_threshold" in tensors:
        tensors["threshold"] = tensors.pop("topk_threshold").expand(n_latents)
    return make_sae(
        "sae_lens 6",
        settings,
        tensors,
        architecture=_ARCHITECTURES[architecture],
        k=settings.count("k", at_most=n_latents) if architecture == "topk" else None,
        prefixes=_prefixes(settings, metadata, n_latents),
        subtract_decoder_bias=bool(settings.values.get("apply_b_dec_to_input", True)),
        backbone=_backbone(settings, metadata),
    )


def _metadata(settings: Settings) -> dict[str, Any]:
    metadata = settings.values.get("metadata")
    version = metadata.get("sae_lens_version") if isinstance(metadata, dict) else None
    major = re.match(r"(\d+)\.", str(version))
    if not isinstance(metadata, dict) or major is None or int(major[1]) < 6:
        raise CheckpointError(
            f"{settings.file} is not of SAELens 6 or later (metadata.sae_lens_version is {version!r}), and older "
            "settings mean other things; load the SAE with SAELens 6 and save it again with its save_model"
        )
    return metadata


def _input_scale(folder: Path, settings: Settings) -> float:
    """What features are multiplied by before they are encoded."""
    normalisation = settings.values.get("normalize_activations", "none")
    if normalisation == "none":
        return 1.0
    if normalisation != "expected_average_only_in":
        raise CheckpointError(
            f"{settings.file}: normalize_activations is {normalisation!r}. layer_norm and constant_norm_rescale scale "
            "every patch by a factor of its own, which weights cannot take over; covariance_whitening SAELens itself "
            "folds into the weights that it saves when training ends"
        )
    scaler = folder / SCALER_FILE
    factor = read_settings(scaler).values.get("scaling_factor") if scaler.is_file() else None
    if not isinstance(factor, int | float) or factor <= 0:
        raise CheckpointError(
            f"{settings.file}: normalize_activations is {normalisation!r}, but the factor is unknown: there is no "
            f"scaling_factor in {SCALER_FILE} beside it. Fold it in with SAELens before saving: "
            "sae.fold_activation_norm_scaling_factor(factor)"
        )
    return float(factor)


def _fold(tensors: dict[str, Tensor], scale: float, rescale: bool) -> None:
    """Make the weights, in place, those of raw features, and of a unit-norm decoder where its norm rescales latents."""
    # The order is SAELens's own, and with it the unit of rescaled latents: norms are taken of the folded decoder.
    tensors["W_enc"] *= scale
    tensors["W_dec"] /= scale
    tensors["b_dec"] /= scale
    if not rescale:
        return
    if "topk_threshold" in tensors:  # it is in the unit of rescaled latents
        tensors["topk_threshold"] /= scale
    norms = tensors["W_dec"].norm(dim=1).clamp_min(MIN_NORM)
    tensors["W_enc"] *= norms
    tensors["b_enc"] *= norms
    tensors["W_dec"] /= norms[:, None]


def _prefixes(settings: Settings, metadata: dict[str, Any], n_latents: int) -> tuple[int, ...]:
    """The Matryoshka widths, whether it is a checkpoint of training or made from one."""
    details = metadata.get("training_architecture_details") or {}
    try:
        widths = settings.values.get("matryoshka_widths") or details.get("matryoshka_widths") or ()
        return tuple(width for width in widths if width < n_latents)
    except (AttributeError, TypeError) as error:
        raise CheckpointError(f"{settings.file}: matryoshka_widths is no list of numbers: {error}") from error


def _backbone(settings: Settings, metadata: dict[str, Any]) -> BackboneInfo | None:
    try:
        backbone = metadata.get(OUR_METADATA, {}).get("backbone")
        return BackboneInfo.from_dict(backbone) if backbone else None
    except (AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{settings.file}: metadata.{OUR_METADATA}.backbone is incomplete: {error}") from error
