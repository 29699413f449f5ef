"""The formats of sources that are known, and what a source of any of them lists."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError, ConfigError
from sae_traits.images import bioscan, darwin_core, folder, hub, table
from sae_traits.images.listing import Format, Listing

FORMATS: tuple[Format, ...] = (hub.FORMAT, bioscan.FORMAT, darwin_core.FORMAT, table.FORMAT, folder.FORMAT)
"""In the order in which they are tried; a new one is a file with a `FORMAT`, and a place here."""

_OPTIONS_OF_FETCHING = ("image_cache", "connections")
"""They say how images are fetched, not which."""


def list_source(config: CollectionConfig) -> Listing:
    """List the wanted images of a source; those of the Hub and of Darwin Core archives are fetched first.

    Raises:
        CollectionError: the source is missing, cannot be listed, or has nothing of what is wanted.
        ConfigError: an option is given that is for sources of another format.
    """
    if config.source is None:
        raise CollectionError("no images were given; name a folder Genus_species/… or a table as the source")
    source_format = next((each for each in FORMATS if each.recognise(config)), None)
    if source_format is None:
        path = Path(config.source).expanduser().absolute()
        if not path.exists():
            raise CollectionError(f"{path} does not exist; name a folder of images or a table")
        suffixes = ", ".join(table.TABLE_SUFFIXES)
        raise CollectionError(f"{path} is neither a folder nor a table ({suffixes}) nor a Darwin Core archive")
    for other in FORMATS:
        for name in set(other.options) - set(source_format.options):
            if getattr(config, name) != getattr(CollectionConfig(), name):
                raise ConfigError(
                    f"--{name.replace('_', '-')} is for {other.name}, and {config.source} is {source_format.name}; "
                    "leave it out"
                )
    return source_format.read(config)


def fingerprint(config: CollectionConfig, listing: Listing | None = None) -> str:
    """Hash all that the result of `read_collection` depends on, without opening an image.

    It covers the configuration, the paths and labels of the source, and the size and time of change of every image and
    mask: the same hash means that nothing has changed.

    Raises:
        CollectionError: as `list_source`.
    """
    listing = listing or list_source(config)
    options = {name: value for name, value in asdict(config).items() if name not in _OPTIONS_OF_FETCHING}
    state = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    state.update(os.path.realpath(listing.root).encode())
    for row in listing.rows:
        state.update(repr(row).encode())
        for file in (row.file, row.mask_file):
            if file is not None:
                status = os.stat(listing.root / file)
                state.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    state.update(repr(listing.problems).encode())
    return state.hexdigest()
