"""saev: one line of JSON, then a torch state dict. The paper's SAE is such a file, from before they had schemas."""

import io
from pathlib import Path

from sae_traits.errors import CheckpointError
from sae_traits.sae.formats.files import Settings, Shape, make_sae, parse_json, read_pickle, shapes_of
from sae_traits.sae.model import SAE

FILE = "sae.pt"
"""Name of the file in published repositories; anywhere else it may have any name."""
SCHEMAS = (1, 2, 3, 4, 5)
_ARCHITECTURES = {"Relu": "relu", "TopK": "topk", "BatchTopK": "batch_topk"}
_THRESHOLD = "activation.threshold"
"""In later files of BatchTopK; earlier ones took the k largest of each patch for inference too."""
_MAX_HEADER = 1 << 16


def read_header(path: Path) -> Settings | None:
    """The settings of a checkpoint; None where the file is not one."""
    with path.open("rb") as file:
        header = file.readline(_MAX_HEADER)
    try:
        values = parse_json(header)
    except ValueError:
        return None
    is_known = isinstance(values, dict) and ({"d_vit", "exp_factor"} <= set(values) or {"schema", "cfg"} <= set(values))
    return Settings(path, values) if is_known else None


def load_saev(path: Path, header: Settings) -> SAE:
    """Read a checkpoint. Since schema 1 nothing is subtracted from the input.

    Where saev's TopK keeps a negative value, the latent is zero.
    """
    schema = header.values.get("schema")
    if schema not in (None, *SCHEMAS):
        raise CheckpointError(f"{path} is of saev's schema {schema!r}; schemas {SCHEMAS[0]} to {SCHEMAS[-1]} are read")
    config = header if schema is None else header.section("cfg")
    d_model = config.count("d_model" if "d_model" in config.values else "d_vit")
    n_latents = config.count("d_sae") if "d_sae" in config.values else d_model * config.count("exp_factor")
    name, options = ("Relu", config) if schema is None else _activation(header, config)
    with path.open("rb") as file:
        file.readline(_MAX_HEADER)
        weights = read_pickle(path, io.BytesIO(file.read()))
    shapes: dict[str, Shape] = shapes_of(d_model, n_latents)
    architecture = _ARCHITECTURES[name]
    if architecture == "batch_topk":
        shapes |= {_THRESHOLD: ()} if _THRESHOLD in weights.tensors else {}
        architecture = architecture if _THRESHOLD in weights.tensors else "topk"
    tensors = weights.take(shapes)
    if _THRESHOLD in tensors:
        tensors["threshold"] = tensors.pop(_THRESHOLD).expand(n_latents)
    return make_sae(
        "saev 1" if schema is None else f"saev, schema {schema}",
        header,
        tensors,
        architecture=architecture,
        k=None if name == "Relu" else min(options.count("top_k"), n_latents),
        subtract_decoder_bias=schema is None,
    )


def _activation(header: Settings, config: Settings) -> tuple[str, Settings]:
    """Name of the activation, and its options."""
    name = header.values.get("cls", "SparseAutoencoderConfig")  # the first files of schema 1 have it here
    options = config
    if name not in _ARCHITECTURES and "activation" in config.values:
        activation = config.section("activation")
        name, options = activation.values.get("cls"), activation.section("params")
    elif name == "SparseAutoencoderConfig":
        name = "Relu"
    name = Settings(header.file, {"activation": name}).one_of("activation", _ARCHITECTURES)
    return name, Settings(options.file, {"top_k": 32} | options.values)  # 32 is saev's own default
