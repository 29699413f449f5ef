"""sparsify (EleutherAI): cfg.json and sae.safetensors, a TopK SAE whose input bias is the decoder's."""

from __future__ import annotations

from pathlib import Path

from sae_traits.errors import CheckpointError
from sae_traits.sae.formats.files import Settings, make_sae, read_safetensors, read_settings
from sae_traits.sae.model import SAE

SETTINGS_FILE = "cfg.json"
WEIGHTS_FILE = "sae.safetensors"
_NOT_OURS = {
    "transcode": "it predicts the output of a module, not its own input",
    "skip_connection": "it adds a linear function of the input to the reconstruction",
    "embed_skip": "it needs the embeddings of a language model besides",
    "gram_lookup": "it needs a table of word sequences besides",
    "signed": "its latents can be negative",
}
"""Options that make it something else than an SAE as we know it, and why."""


def load_sparsify(folder: Path) -> SAE:
    """Read a checkpoint; its decoder norms are kept as they are.

    Raises:
        CheckpointError: it is damaged, or is not a plain TopK SAE.
    """
    settings = read_settings(folder / SETTINGS_FILE)
    _check_kind(settings)
    d_model = settings.count("d_in")
    if settings.values.get("num_latents"):  # 0 where the expansion factor says it
        n_latents = settings.count("num_latents")
    else:
        n_latents = d_model * settings.count("expansion_factor")
    shapes = {
        "encoder.weight": (n_latents, d_model),
        "encoder.bias": (n_latents,),
        "W_dec": (n_latents, d_model),
        "b_dec": (d_model,),
    }
    tensors = read_safetensors(folder / WEIGHTS_FILE).take(shapes)
    renamed = {
        "W_enc": tensors["encoder.weight"].T,
        "b_enc": tensors["encoder.bias"],
        "W_dec": tensors["W_dec"],
        "b_dec": tensors["b_dec"],
    }
    k = settings.count("k", at_most=n_latents)
    return make_sae("sparsify", settings, renamed, architecture="topk", k=k)


def _check_kind(settings: Settings) -> None:
    activation = settings.values.get("activation", "topk")
    if activation != "topk":
        raise CheckpointError(
            f"{settings.file}: the activation is {activation!r}; sae-traits reads sparsify's 'topk' only"
        )
    for name, reason in _NOT_OURS.items():
        if settings.values.get(name):
            raise CheckpointError(f"{settings.file}: {name} is on, and sae-traits has no such SAE: {reason}")
