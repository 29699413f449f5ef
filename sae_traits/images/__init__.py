"""Collections of species-labelled images: listed by their source, checked, split and identified."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict

from sae_traits.config import CollectionConfig
from sae_traits.errors import CollectionError
from sae_traits.images.decode import examine_image, open_image, open_mask
from sae_traits.images.listing import Listing
from sae_traits.images.note import read_note
from sae_traits.images.photographs import read_photographs
from sae_traits.images.reading import read_records
from sae_traits.images.sources import list_source
from sae_traits.schema import Collection

__all__ = ["examine_image", "fingerprint", "list_source", "open_image", "open_mask", "read_collection"]

_REASONS_SHOWN = 3
_WITHOUT_EFFECT = ("image_cache", "connections")
"""Options that say how images are fetched, not which."""


def read_collection(config: CollectionConfig, *, listing: Listing | None = None, workers: int = 2) -> Collection:
    """The images of `config.source`, and the inputs that could not be used.

    Without `config.labels` the source is a folder of any shape, or a table that needs the column `file` only; its
    images have no names, and all are in the split `test`.

    The source is a table (.csv, .tsv or .parquet, see `table`), a folder with a table metadata.csv, metadata.tsv or
    metadata.parquet that has the columns `file` and `species`, a folder Genus_species/… (see `folder`), BIOSCAN-5M
    (`bioscan`), a Darwin Core archive (`darwin_core`) or a dataset of the Hub (`hub`). Every image is decoded once.
    Labels become binomials; where a column `genus` contradicts the binomial, the binomial's genus is taken. Images
    without a split are split by species; near-identical images of them are on one side of it.

    Args:
        config: the source, and how to split it.
        listing: what `list_source` found, where that was asked for already.
        workers: threads that examine images.

    Raises:
        CollectionError: the source is missing, is not one of these, or has no image that can be used.
    """
    listing = listing or list_source(config)
    if config.labels:
        records, problems, near_identical = read_records(
            listing,
            validation_share=config.validation_share,
            test_share=config.test_share,
            split_seed=config.split_seed,
            given_splits_stay=config.near_identical == "keep",
            workers=workers,
        )
    else:
        (records, problems), near_identical = read_photographs(listing, workers=workers), ()
    if not records:
        reasons = "; ".join(f"{problem.file}: {problem.reason}" for problem in problems[:_REASONS_SHOWN])
        more = f"; and {len(problems) - _REASONS_SHOWN} more" if len(problems) > _REASONS_SHOWN else ""
        raise CollectionError(f"no image of {config.source} can be used: {reasons}{more}")
    return Collection(listing.root, records, problems, near_identical, note=read_note(listing.root))


def fingerprint(config: CollectionConfig, listing: Listing | None = None) -> str:
    """A hash of all that the result of `read_collection` depends on, without opening an image.

    It covers the configuration, the paths and labels of the source, and the size and time of change of every image and
    mask: the same hash means that nothing has changed.

    Raises:
        CollectionError: as `read_collection`, for a source that cannot be listed.
    """
    listing = listing or list_source(config)
    options = {name: value for name, value in asdict(config).items() if name not in _WITHOUT_EFFECT}
    state = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    state.update(os.path.realpath(listing.root).encode())
    for row in listing.rows:
        state.update(repr(row).encode())
        for file in (row.file, row.mask_file):
            if file is not None:
                status = os.stat(listing.root / file)
                state.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    state.update(repr((listing.problems, read_note(listing.root))).encode())
    return state.hexdigest()
