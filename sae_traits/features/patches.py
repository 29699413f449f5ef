"""Which patches of an image lie on its image; known from the image's size alone, without opening it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sae_traits.schema import BackboneInfo, ImageRecord


def valid_patches(record: ImageRecord, info: BackboneInfo) -> NDArray[np.intp]:
    """Indices of the patches of an image that are kept, ascending `[n_valid]`; not to be written to."""
    return _valid(info, (record.width, record.height))


def patch_counts(records: Iterable[ImageRecord], info: BackboneInfo) -> NDArray[np.int64]:
    """Number of patches of each image that are kept `[n_images]`."""
    return np.array([len(valid_patches(record, info)) for record in records], dtype=np.int64)


@lru_cache(maxsize=10_000)  # photographs come in few sizes, and a grid takes 0.2 ms, about a GPU's time for an image
def _valid(info: BackboneInfo, size: tuple[int, int]) -> NDArray[np.intp]:
    valid = info.grid(size).valid
    valid.flags.writeable = False
    return valid
