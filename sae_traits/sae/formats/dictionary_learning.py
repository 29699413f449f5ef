"""dictionary_learning: config.json and ae.pt, a state dict whose names depend on the class of the dictionary."""

from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from torch import Tensor

from sae_traits.errors import CheckpointError
from sae_traits.sae.formats.files import Settings, Weights, make_sae, read_pickle, read_settings, shapes_of
from sae_traits.sae.model import SAE

SETTINGS_FILE = "config.json"
WEIGHTS_FILE = "ae.pt"


@dataclass(frozen=True)
class _DictClass:
    """How a class of that library keeps its tensors."""

    architecture: str
    b_dec: str = "b_dec"
    """Its name there."""
    linear: bool = True
    """Whether encoder and decoder are torch.nn.Linear, whose weights are transposed."""
    subtract_decoder_bias: bool = True


_DICT_CLASSES = {
    "AutoEncoder": _DictClass("relu", b_dec="bias"),
    "AutoEncoderNew": _DictClass("relu", b_dec="decoder.bias", subtract_decoder_bias=False),
    "AutoEncoderTopK": _DictClass("topk"),
    "BatchTopKSAE": _DictClass("batch_topk"),
    "MatryoshkaBatchTopKSAE": _DictClass("batch_topk", linear=False),
    "JumpReluAutoEncoder": _DictClass("jump_relu", linear=False, subtract_decoder_bias=False),
}


def load_dictionary_learning(folder: Path) -> SAE:
    """Read a checkpoint, without AutoEncoder.from_pretrained's scaling of decoder and latents to unit norm."""
    settings = read_settings(folder / SETTINGS_FILE)
    trainer = settings.section("trainer")
    kind = _kind(trainer)
    d_model, n_latents = trainer.count("activation_dim"), trainer.count("dict_size")
    weights = read_pickle(folder / WEIGHTS_FILE, folder / WEIGHTS_FILE)
    k = None
    if kind.architecture in ("topk", "batch_topk"):
        k = trainer.count("k", at_most=n_latents)
        if "k" in weights.tensors and (kept := weights.tensors["k"].tolist()) != k:
            raise CheckpointError(f"{weights.file}: the tensor 'k' is {kept}; {trainer.file.name} says {k}")
    return make_sae(
        "dictionary_learning",
        settings,
        _tensors(weights, kind, d_model, n_latents),
        architecture=kind.architecture,
        k=k,
        prefixes=_prefixes(trainer, n_latents) if "group_sizes" in trainer.values else (),
        subtract_decoder_bias=kind.subtract_decoder_bias,
    )


def _kind(trainer: Settings) -> _DictClass:
    name = trainer.values.get("dict_class")
    if name not in _DICT_CLASSES:
        reason = " (a gated SAE chooses its latents by a second set of pre-activations)" if "Gated" in str(name) else ""
        raise CheckpointError(
            f"{trainer.file}: dict_class is {name!r}{reason}; sae-traits reads {', '.join(_DICT_CLASSES)}"
        )
    return _DICT_CLASSES[name]


def _prefixes(trainer: Settings, n_latents: int) -> tuple[int, ...]:
    sizes = trainer.values["group_sizes"]
    if not isinstance(sizes, list) or not all(isinstance(size, int) for size in sizes) or sum(sizes) != n_latents:
        raise CheckpointError(f"{trainer.file}: group_sizes must sum to dict_size ({n_latents}), not be {sizes!r}")
    return tuple(accumulate(sizes))[:-1]


def _tensors(weights: Weights, kind: _DictClass, d_model: int, n_latents: int) -> dict[str, Tensor]:
    names = {"W_enc": "W_enc", "b_enc": "b_enc", "W_dec": "W_dec", "b_dec": kind.b_dec}
    if kind.linear:
        names |= {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "decoder.weight"}
    ours = shapes_of(d_model, n_latents)
    if kind.linear:
        ours |= {"W_enc": ours["W_dec"], "W_dec": ours["W_enc"]}
    shapes = {names[name]: shape for name, shape in ours.items()}
    if kind.architecture in ("batch_topk", "jump_relu"):
        names["threshold"] = "threshold"
        shapes["threshold"] = () if kind.architecture == "batch_topk" else (n_latents,)
    # A TopK dictionary has a threshold too, but encodes with its k unless told otherwise.
    taken = weights.take(shapes, unused=("k", "threshold", "group_sizes"))
    tensors = {ours: taken[theirs] for ours, theirs in names.items()}
    if kind.linear:
        tensors |= {"W_enc": tensors["W_enc"].T, "W_dec": tensors["W_dec"].T}
    if "threshold" in tensors:
        tensors["threshold"] = tensors["threshold"].expand(n_latents)
    return tensors
