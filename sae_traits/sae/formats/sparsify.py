"""sparsify (EleutherAI): cfg.json and sae.safetensors, a TopK SAE whose input bias is the decoder's."""

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
    """Read a checkpoint of a plain TopK SAE."""
    settings = read_settings(folder / SETTINGS_FILE)
    Settings(settings.file, {"activation": "topk"} | settings.values).one_of("activation", ["topk"])
    for name, reason in _NOT_OURS.items():
        if settings.values.get(name):
            raise CheckpointError(f"{settings.file}: {name} is on, and sae-traits has no such SAE: {reason}")
    d_model = settings.count("d_in")
    if settings.values.get("num_latents"):  # 0 where the expansion factor says it
        n_latents = settings.count("num_latents")
    else:
        n_latents = d_model * settings.count("expansion_factor")
    weights, bias = (n_latents, d_model), (n_latents,)
    shapes = {"encoder.weight": weights, "encoder.bias": bias, "W_dec": weights, "b_dec": (d_model,)}
    tensors = read_safetensors(folder / WEIGHTS_FILE).take(shapes)
    tensors |= {"W_enc": tensors.pop("encoder.weight").T, "b_enc": tensors.pop("encoder.bias")}
    return make_sae("sparsify", settings, tensors, architecture="topk", k=settings.count("k", at_most=n_latents))
