"""Where patch features come from: a store on disk, or images and a backbone, with nothing kept in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from sae_traits.features.backbone import Backbone
from sae_traits.features.encoding import encoded_batches, fill_from
from sae_traits.features.extract import fingerprint_of, plan_shards
from sae_traits.features.loading import batches_of
from sae_traits.features.patches import patch_counts, valid_patches
from sae_traits.features.store import FeatureShard, membership
from sae_traits.schema import BackboneInfo, Collection


class FeatureSource(Protocol):
    """Features of a collection, a shard of images at a time; a `FeatureStore` and an `ImageSource` are such."""

    @property
    def info(self) -> BackboneInfo:
        """What the features depend on, apart from the images."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of everything that the features depend on."""
        ...

    @property
    def n_images(self) -> int:
        """Images of the collection."""
        ...

    def count_shards(self, records: ArrayLike | None = None) -> int:
        """How many shards `shards` gives for all images, or for some rows."""
        ...

    def patch_counts(self) -> NDArray[np.int64]:
        """Number of patches of every image `[n_images]`, without reading or computing features."""
        ...

    def shards(self, records: ArrayLike | None = None) -> Iterator[FeatureShard]:
        """The features of all images, or of some rows, in the order of the collection, float32 on the CPU."""
        ...


@dataclass(frozen=True)
class ImageSource:
    """Features computed from the images whenever they are asked for; a `FeatureSource`."""

    collection: Collection
    backbone: Backbone
    image_batch_size: int = 16
    """Images a forward pass."""
    workers: int = 2
    """Processes that read and prepare images; 0 does it in this one."""

    @property
    def info(self) -> BackboneInfo:
        """That of the backbone."""
        return self.backbone.info

    @property
    def fingerprint(self) -> str:
        """Hash of the images' content and order, and of the backbone."""
        return fingerprint_of(self.collection, {"source": "images", "backbone": self.info.to_dict()})

    @property
    def n_images(self) -> int:
        """Images of the collection."""
        return len(self.collection.images)

    def count_shards(self, records: ArrayLike | None = None) -> int:
        """How many shards `shards` gives for all images, or for some rows: as many as a store of these has."""
        n_images = int(membership(self.n_images, records).sum())
        return len(plan_shards(n_images, self.info, "float32"))

    def patch_counts(self) -> NDArray[np.int64]:
        """Number of patches of every image `[n_images]`, from the sizes of the images."""
        return patch_counts(self.collection.images, self.info)

    def shards(self, records: ArrayLike | None = None) -> Iterator[FeatureShard]:
        """The features of all images, or of some rows, in the order of the collection, float32 on the CPU.

        Raises:
            CollectionError: an image cannot be read any more, or has changed.
        """
        rows = np.flatnonzero(membership(self.n_images, records))
        plans = [rows[plan.rows.start : plan.rows.stop] for plan in plan_shards(len(rows), self.info, "float32")]
        row_batches = [batch for plan in plans for batch in batches_of(plan.tolist(), self.image_batch_size)]
        batches = encoded_batches(
            self.collection, self.backbone, row_batches, workers=self.workers if row_batches else 0
        )
        for plan in plans:
            patches = [valid_patches(self.collection.images[row], self.info) for row in plan]
            offsets = np.cumsum([0, *map(len, patches)], dtype=np.int64)
            features = torch.empty(int(offsets[-1]), self.info.d_model)
            fill_from(batches, features)
            yield FeatureShard(plan, offsets, np.concatenate(patches).astype(np.int32), features)
