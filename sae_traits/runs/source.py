"""A source of images that has moved since the run began."""

from __future__ import annotations

from pathlib import Path

from sae_traits.config import RunConfig
from sae_traits.config.tree import build
from sae_traits.errors import ConfigError
from sae_traits.logging import warn
from sae_traits.runs.configuration import read_configuration
from sae_traits.runs.folder import RunFolder
from sae_traits.schema.images import no_longer_in


def has_moved(folder: RunFolder, source: str) -> bool:
    """Whether the images of a run are no longer where it read them, but at this source; it cannot be another one.

    Raises:
        ConfigError: the other source is still there; or the images are at neither place.
    """
    if not folder.config.is_file():
        warn(f"{folder.config} is missing: the run goes on with what this command says, and forgets the rest")
        return False
    former = build(RunConfig, read_configuration(folder.config)).collection.source
    if former == source:
        return False
    if former is None or "://" in former or Path(former).exists():
        raise ConfigError(f"{folder.path} is a run of {former}; choose another --out for {source}")
    if not Path(source).exists():
        raise ConfigError(no_longer_in(former, str(folder.path)))
    return True
