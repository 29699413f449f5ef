"""The golden set in SAE_TRAITS_SHARED: what other people's programs return, whatever its seeds and shapes."""

import json
import os
from pathlib import Path

import pytest
from safetensors.numpy import load_file


def load(folder):
    """Arrays by name, and settings and results, of a folder of the set; skips the test where there is none."""
    if not (shared := os.environ.get("SAE_TRAITS_SHARED")):
        pytest.skip("SAE_TRAITS_SHARED names no golden set of evaluation")
    path = Path(shared) / "golden" / "contrastive_and_evaluation" / folder
    if not path.is_dir():
        pytest.skip(f"{path} is not there")
    arrays = {name: array for file in path.glob("*.safetensors") for name, array in load_file(file).items()}
    (settings,) = (json.loads(file.read_text(encoding="utf-8")) for file in path.glob("*.json"))
    return arrays, settings


def keys_with(settings, beginning):
    """What follows the beginning of a key of JSON, as numbers, in the order of the file."""
    return [int(key.removeprefix(beginning)) for key in settings if key.startswith(beginning)]
