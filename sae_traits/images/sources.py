"""The formats of sources that are known, and what a source of any of them lists."""

import errno
import hashlib
import json
import os
from dataclasses import asdict

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError, ConfigError
from sae_traits.images import bioscan, darwin_core, folder, hub, other_forms, table
from sae_traits.images.listing import Format, Listing
from sae_traits.images.note import read_note
from sae_traits.images.table_files import TABLE_SUFFIXES

FORMATS: tuple[Format, ...] = (
    *(hub.FORMAT, bioscan.FORMAT, darwin_core.FORMAT),
    *(other_forms.FORMAT, table.FORMAT, folder.FORMAT),
)
"""In the order in which they are tried; a new one is a file with a `FORMAT`, and a place here."""

_OPTIONS_OF_FETCHING = ("image_cache", "connections", "allow_private_addresses")
"""They say how images are fetched, not which."""


def list_source(config: CollectionConfig) -> Listing:
    """List the wanted images of a source; those of the Hub and of Darwin Core archives are fetched first.

    Raises:
        CollectionError: the source is missing, cannot be listed, or has nothing of what is wanted.
        ConfigError: an option is given that is for sources of another format.
    """
    if config.source is None:
        raise CollectionError("no images were given; name a folder Genus_species/… or a table as the source")
    if config.path.is_dir() and not os.access(config.path, os.R_OK | os.X_OK):
        raise CollectionError(f"cannot read {config.path}: {os.strerror(errno.EACCES)}")
    for source_format in FORMATS:
        if read := source_format.recognise(config):
            others = {name: other for other in FORMATS if other is not source_format for name in other.options}
            for name, other in others.items():
                if getattr(config, name) != getattr(CollectionConfig(), name):
                    raise ConfigError(
                        f"--{name.replace('_', '-')} is for {other.name}, and {config.source} is "
                        f"{source_format.name}; leave it out"
                    )
            return read()
    if not config.path.exists():
        raise CollectionError(f"{config.path} does not exist; name a folder of images or a table")
    if config.path.suffix.lower() in table.SPREADSHEET_SUFFIXES:
        raise CollectionError(f"{config.path} is a spreadsheet; save it as CSV (CSV UTF-8) or .xlsx, and give that")
    suffixes = ", ".join(TABLE_SUFFIXES)
    raise CollectionError(f"{config.path} is neither a folder nor a table ({suffixes}) nor a Darwin Core archive")


def fingerprint(config: CollectionConfig, listing: Listing | None = None) -> str:
    """Hash all that the result of `read_collection` depends on, without opening an image.

    It covers the configuration, the paths and labels of the source, and the size and time of change of every image and
    mask: the same hash means that nothing has changed. A folder or table that was moved, with its images, has not.
    """
    listing = listing or list_source(config)
    options = {name: value for name, value in asdict(config).items() if name not in _OPTIONS_OF_FETCHING}
    root = os.path.realpath(listing.root)
    if config.path.exists():
        del options["source"]
        root = os.path.relpath(root, os.path.realpath(config.path))
    state = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    state.update(root.encode())
    for row in listing.rows:
        state.update(repr(row).encode())
        for file in (row.file, row.mask_file):
            if file is not None:
                status = os.stat(listing.root / file)
                state.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    state.update(repr((listing.problems, read_note(listing.root))).encode())
    return state.hexdigest()
