"""Where the images of a run are, and a source that has moved since the run began."""

from __future__ import annotations

from pathlib import Path

from sae_traits.config import RunConfig
from sae_traits.config.tree import build
from sae_traits.errors import CollectionError, ConfigError
from sae_traits.logging import warn
from sae_traits.runs.configuration import read_configuration
from sae_traits.runs.folder import RunFolder
from sae_traits.schema import Collection


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
        raise ConfigError(_what_to_do_without(former, folder))
    return True


def check_images_are_there(folder: RunFolder, collection: Collection) -> None:
    """Raise a CollectionError where the folder of all images is gone."""
    if not collection.root.exists():
        raise CollectionError(_what_to_do_without(str(collection.root), folder))


def _what_to_do_without(source: str, folder: RunFolder) -> str:
    return (
        f"the images are no longer in {source}; where they have moved, "
        f"`sae-traits run NEW_PLACE --out {folder.path}` goes on with them"
    )
