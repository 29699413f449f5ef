"""RUN/config.yaml: the configuration of a run, with its own hash below, so that it is said when it was changed."""

import hashlib
from pathlib import Path
from typing import Any

from sae_traits.config import RunConfig
from sae_traits.config.layers import read_config, to_yaml
from sae_traits.io import write_text
from sae_traits.logging import warn

_MARK = "# sha256 of what stands above: "


def write_configuration(path: Path, config: RunConfig) -> None:
    """Write the configuration, if it is not what is there.

    Raises:
        StoreError: it cannot be written.
    """
    text = to_yaml(config)
    text += f"{_MARK}{_hash_of(text)}\n"
    if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
        write_text(path, text)


def read_configuration(path: Path) -> dict[str, dict[str, Any]]:
    """The sections of a run's configuration; a person may have edited them, which is said.

    Raises:
        ConfigError: it cannot be read.
    """
    values = read_config(path)
    above, _, sha256 = path.read_text(encoding="utf-8").partition(_MARK)
    if sha256.strip() != _hash_of(above):
        warn(f"{path} was changed since the last command wrote it; what it says now holds")
    return values


def _hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
