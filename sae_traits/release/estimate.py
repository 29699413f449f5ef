"""How large a dataset is going to be, before it is written."""

from __future__ import annotations

from pathlib import Path

from sae_traits.config.release import ReleaseConfig
from sae_traits.errors import ReleaseError
from sae_traits.images.pictures import reduced_size
from sae_traits.schema import Collection

BYTES_PER_TRAIT = 600
"""Of a trait in the configs `default` and `images` without images, compressed; docs/benchmarks.md has 575."""


def estimate_dataset(collection: Collection, config: ReleaseConfig, *, traits_per_image: int) -> int:
    """About how many bytes the Parquet files take in which every image has so many traits.

    An image is stored twice, at its source size and reduced, however many rows show it. Assumed is that all files stay
    as they are, as JPEG and PNG mostly do, and shrink with their area where they are reduced.

    Raises:
        ReleaseError: an image is gone.
    """
    n_bytes = len(collection.images) * traits_per_image * BYTES_PER_TRAIT
    if config.images == "reference":
        return n_bytes
    for record in collection.images:
        width, height = reduced_size((record.width, record.height), config.longest_side)
        share = width * height / (record.width * record.height)
        n_bytes += round(_size_of(collection.path(record)) * (1 + share))
    return n_bytes


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise ReleaseError(f"cannot read {path}: {error.strerror}; the dataset needs every source image") from error
