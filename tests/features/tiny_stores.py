"""Stores of features in which every patch is recognisable, written with the production writers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from sae_traits.features.store import (
    DTYPES,
    FeatureShard,
    FeatureStore,
    ShardEntry,
    write_index,
    write_shard,
)
from sae_traits.geometry import Framing
from sae_traits.io import hash_of_file
from sae_traits.schema import BackboneInfo
from sae_traits.vocabulary import Dtype


def info_of(d_model: int, rows: int = 4) -> BackboneInfo:
    """A backbone that no one has."""
    return BackboneInfo(
        backbone="none",
        revision="0",
        layer=0,
        d_model=d_model,
        rows=rows,
        columns=rows,
        patch=None,
        framing=Framing(mode="squash", size=(64, 64)),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )


def features_of(record: int, n_patches: int, d_model: int) -> torch.Tensor:
    """Features that say which image and patch they are of: image, patch, then noise."""
    values = torch.randn(n_patches, d_model, generator=torch.Generator().manual_seed(record))
    values[:, 0], values[:, 1] = record, torch.arange(n_patches)
    return values


def write_store(
    folder: Path, patches_of_shards: list[list[int]], d_model: int = 4, dtype: Dtype = "float32"
) -> FeatureStore:
    """A store with so many patches of each image of each shard."""
    folder.mkdir(parents=True, exist_ok=True)
    entries, first = [], 0
    for number, counts in enumerate(patches_of_shards):
        records = np.arange(first, first + len(counts))
        parts = [features_of(int(s), n, d_model) for s, n in zip(records, counts, strict=True)]
        features = torch.cat(parts).to(DTYPES[dtype])
        patches = np.concatenate([np.arange(n, dtype=np.int32) for n in counts])
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        path = folder / f"shard-{number:05d}.safetensors"
        write_shard(path, FeatureShard(records, offsets, patches, features), "plan")
        entries.append(
            ShardEntry(
                file=path.name,
                first_image=first,
                n_images=len(counts),
                n_patches=sum(counts),
                bytes=path.stat().st_size,
                sha256=hash_of_file(path),
            )
        )
        first += len(counts)
    write_index(folder, info_of(d_model), "plan", dtype, entries)
    return FeatureStore.open(folder)
