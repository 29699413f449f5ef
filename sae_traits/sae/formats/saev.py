"""saev version 1: one line of JSON, then a torch state dict. The paper's SAE is such a file."""

from __future__ import annotations

import io
import json
from pathlib import Path

from sae_traits.sae.formats.files import Settings, make_sae, read_pickle, shapes_of
from sae_traits.sae.model import SAE

FILE = "sae.pt"
"""Name of the file in published repositories; anywhere else it may have any name."""
_MAX_HEADER = 1 << 16


def read_header(path: Path) -> Settings | None:
    """The settings of a checkpoint; None where the file is not one."""
    with path.open("rb") as file:
        header = file.readline(_MAX_HEADER)
    try:
        values = json.loads(header)
    except ValueError:
        return None
    if not isinstance(values, dict) or not {"d_vit", "exp_factor"} <= set(values):
        return None
    return Settings(path, values)


def load_saev(path: Path, header: Settings) -> SAE:
    """Read a checkpoint.

    Its tensors have our names and shapes; its decoder norms are kept as they are.

    Raises:
        CheckpointError: the weights are damaged or do not fit the header.
    """
    d_model = header.count("d_vit")
    n_latents = d_model * header.count("exp_factor")
    with path.open("rb") as file:
        file.readline(_MAX_HEADER)
        weights = read_pickle(path, io.BytesIO(file.read()))
    return make_sae("saev 1", header, weights.take(shapes_of(d_model, n_latents)), architecture="relu")
