"""Images -> patch features in memory, batch by batch: what extraction writes and what training streams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import tee

import numpy as np
import torch

from sae_traits.features.backbone import Backbone
from sae_traits.features.loading import batches_of, prepared_row_batches
from sae_traits.features.patches import valid_patches
from sae_traits.schema import Collection


@dataclass(frozen=True)
class EncodedBatch:
    """The features of the images of one forward pass."""

    features: torch.Tensor
    """Of the valid patches, image after image, float32 on the backbone's device `[n_patches, d_model]`."""
    counts: tuple[int, ...]
    """Patches of each image `[n_images]`."""


def encoded_batches(
    collection: Collection, backbone: Backbone, row_batches: Iterable[Sequence[int]], *, workers: int
) -> Iterator[EncodedBatch]:
    """Features of batches of images, in their order; the workers start at once and read ahead.

    Args:
        collection: the images.
        backbone: where the features come from.
        row_batches: rows of the collection, those of one forward pass together; may be endless.
        workers: processes that read and prepare images; 0 does it in this one.

    Raises:
        CollectionError: an image cannot be read any more, or is not the one that the collection was read with.
    """
    own, theirs = tee(row_batches)
    prepared = prepared_row_batches(collection, theirs, backbone.prepare, workers=workers)
    return (_encode(collection, backbone, rows, batch) for batch, rows in zip(prepared, own, strict=True))


def _encode(collection: Collection, backbone: Backbone, rows: Sequence[int], batch: torch.Tensor) -> EncodedBatch:
    encoded = backbone.encode(batch)
    n_images, n_patches, _ = encoded.shape
    valid = [valid_patches(collection.images[row], backbone.info) for row in rows]
    counts = tuple(len(patches) for patches in valid)
    features = encoded.flatten(0, 1)
    if sum(counts) < n_images * n_patches:
        kept = np.concatenate([patches + image * n_patches for image, patches in enumerate(valid)])
        features = features[torch.from_numpy(kept).to(features.device)]
    return EncodedBatch(features, counts)


def collection_features(
    collection: Collection,
    backbone: Backbone,
    rows: Sequence[int],
    *,
    image_batch_size: int = 16,
    workers: int = 2,
) -> Iterator[torch.Tensor]:
    """Features of some images straight from their images: of each its valid patches, float32 `[n_valid, d_model]`.

    Images are read and prepared in `workers` processes; the features come in the order of `rows`, on the CPU, one row a
    patch of `backbone.info.grid((width, height)).valid`.

    Raises:
        CollectionError: an image cannot be read any more, or is not the one that the collection was read with.
    """
    batches = batches_of(rows, image_batch_size)
    for batch in encoded_batches(collection, backbone, batches, workers=workers if batches else 0):
        yield from batch.features.cpu().split(batch.counts)


def fill_from(batches: Iterator[EncodedBatch], into: torch.Tensor) -> None:
    """Take the batches that come next until `into` `[n_patches, d_model]` is full; they must end where it does."""
    end = 0
    while end < len(into):
        features = next(batches).features
        into[end : end + len(features)] = features
        end += len(features)
