"""Collections of species-labelled images: read from a folder or a table, checked, split and identified."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

from sae_traits.collections.cells import TABLE_SUFFIXES
from sae_traits.collections.folder import list_folder
from sae_traits.collections.images import examine_image, open_image, open_mask
from sae_traits.collections.listing import Listing
from sae_traits.collections.reading import read_specimens
from sae_traits.collections.table import is_table_of_images, list_table
from sae_traits.config import CollectionConfig
from sae_traits.errors import CollectionError
from sae_traits.schema import Collection

__all__ = ["examine_image", "fingerprint", "open_image", "open_mask", "read_collection"]

_REASONS_SHOWN = 3


def read_collection(config: CollectionConfig, *, workers: int = 2) -> Collection:
    """The specimens of `config.source`, and the inputs that could not be used.

    The source is a table (.csv, .tsv or .parquet, see `table`), a folder with a table metadata.csv, metadata.tsv or
    metadata.parquet that has the columns `file` and `species`, or a folder Genus_species/… (see `folder`). Every image
    is decoded once. Labels become binomials; where a column `genus` contradicts the binomial, the binomial's genus is
    taken. Specimens without a split are split by species.

    Args:
        config: the source, and how to split it.
        workers: threads that examine images.

    Raises:
        CollectionError: the source is missing, is not one of these, or has no image that can be used.
    """
    listing = _list_source(config)
    specimens, problems = read_specimens(
        listing,
        validation_share=config.validation_share,
        test_share=config.test_share,
        split_seed=config.split_seed,
        workers=workers,
    )
    if not specimens:
        reasons = "; ".join(f"{problem.file}: {problem.reason}" for problem in problems[:_REASONS_SHOWN])
        more = f"; and {len(problems) - _REASONS_SHOWN} more" if len(problems) > _REASONS_SHOWN else ""
        raise CollectionError(f"no image of {config.source} can be used: {reasons}{more}")
    return Collection(listing.root, specimens, problems)


def fingerprint(config: CollectionConfig) -> str:
    """A hash of all that the result of `read_collection` depends on, without opening an image.

    It covers the configuration, the paths and labels of the source, and the size and time of change of every image and
    mask: the same hash means that nothing has changed.

    Raises:
        CollectionError: as `read_collection`, for a source that cannot be listed.
    """
    listing = _list_source(config)
    state = hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode())
    state.update(os.path.realpath(listing.root).encode())
    for row in listing.rows:
        state.update(repr(row).encode())
        for file in (row.file, row.mask_file):
            if file is not None:
                status = os.stat(listing.root / file)
                state.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    state.update(repr(listing.problems).encode())
    return state.hexdigest()


def _list_source(config: CollectionConfig) -> Listing:
    """What the source lists, and from where."""
    if config.source is None:
        raise CollectionError("no images were given; name a folder Genus_species/… or a table as the source")
    source = Path(config.source).expanduser().absolute()
    if source.is_dir():
        tables = [source / f"metadata{suffix}" for suffix in TABLE_SUFFIXES]
        table = next((path for path in tables if path.is_file() and is_table_of_images(path)), None)
        return list_folder(source) if table is None else list_table(table)
    if not source.exists():
        raise CollectionError(f"{source} does not exist; name a folder of images or a table")
    if source.suffix.lower() not in TABLE_SUFFIXES:
        raise CollectionError(f"{source} is neither a folder nor a table ({', '.join(TABLE_SUFFIXES)})")
    return list_table(source)
