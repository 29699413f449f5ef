"""Sparse codes of a collection: which latents fired at which patches, above each latent's firing threshold.

Two passes over the features. The first finds the thresholds from the training images; the second keeps what lies
above them, as Parquet, one part per feature shard. A dense [patch, latent] array never exceeds one tile.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from sae_traits.arrow import read_parquet
from sae_traits.features.background import PatchBackground
from sae_traits.features.source import FeatureSource
from sae_traits.features.store import FeatureShard
from sae_traits.io import whole_file, write_text
from sae_traits.logging import track, warn
from sae_traits.sae.model import SAE
from sae_traits.schema import ImageRecord
from sae_traits.traits.codes import (
    CODE_SCHEMA,
    INDEX_FILE,
    THRESHOLDS_FILE,
    UNKNOWN_BACKGROUND,
    Codes,
    probabilities_of,
)
from sae_traits.traits.usual_places import UsualPlaces

VERSION = 2
"""Raised whenever the same features could give other codes, or something else were kept beside them."""
PATCHES_AT_ONCE = 1024
"""While thresholds are looked for: every positive activation counts, and an SAE may have thousands per patch."""

_ROUNDING = 1e-6
"""Activations by which a sum of weights may be off, in units of their mean."""

_BACKGROUND_SCHEMA = pa.schema([("image", pa.int32()), ("background", pa.list_(pa.uint8()))])


class QuantileSketch:
    """Weighted quantiles of the positive activations of every latent, in one pass and bounded memory.

    Adds up the weights of activations in bins of equal relative width (a float's exponent and the upper bits of its
    mantissa), so a quantile is exact to within 1 / 2**MANTISSA_BITS of its value (1.6 %), whatever the scale.
    """

    MANTISSA_BITS = 6
    LOWEST_EXPONENT, HIGHEST_EXPONENT = -20, 20
    _SHIFT = 23 - MANTISSA_BITS
    _FIRST = (127 + LOWEST_EXPONENT) << MANTISSA_BITS
    N_BINS = (HIGHEST_EXPONENT - LOWEST_EXPONENT) << MANTISSA_BITS

    def __init__(self, n_latents: int) -> None:
        self.weights = torch.zeros(n_latents, self.N_BINS, dtype=torch.float64)
        self.counts = torch.zeros(n_latents, dtype=torch.int64)

    def add(self, latents: Tensor, values: Tensor, weights: Tensor) -> None:
        """Add positive activations; latents, values and weights are all `[n]`."""
        bins = (values.contiguous().view(torch.int32) >> self._SHIFT) - self._FIRST
        flat = latents.long() * self.N_BINS + bins.long().clamp(0, self.N_BINS - 1)
        self.weights.view(-1).index_add_(0, flat, weights.double())
        self.counts += torch.bincount(latents.long(), minlength=len(self.counts))

    def quantile(self, q: float) -> NDArray[np.float32]:
        """The q-quantile of each latent `[n_latents]`, as the lower edge of its bin; infinite where nothing fired.

        Ranks count activations of the latent's mean weight, so that what all weights have in common has no say.
        """
        weights, counts = self.weights.numpy(), self.counts.numpy()
        mean = weights.sum(1) / np.maximum(counts, 1)
        below = (np.floor(q * np.maximum(counts - 1, 0)) + _ROUNDING) * mean
        bins = [np.searchsorted(np.cumsum(row), limit, side="right") for row, limit in zip(weights, below, strict=True)]
        edges = ((np.array(bins) + self._FIRST).astype(np.int32) << self._SHIFT).view(np.float32)
        return np.where(counts > 0, edges, np.float32(np.inf)).astype(np.float32)


def training_weights(records: Sequence[ImageRecord]) -> NDArray[np.float64]:
    """What each image of the train split counts for, together 1 per individual; 0 for the others `[n_images]`."""
    n_images = Counter(record.individual_id for record in records if record.split == "train")
    return np.array([1 / n_images[r.individual_id] if r.split == "train" else 0.0 for r in records])


def firing_thresholds(
    sae: SAE, store: FeatureSource, weights: NDArray[np.float64], quantile: float
) -> NDArray[np.float32]:
    """For every latent, a quantile of its positive activations over the training images `[n_latents]`.

    Args:
        weights: what the patches of each image count for `[n_images]`, see `training_weights`; 0 leaves it out.
        quantile: between 0 (all but the weakest positive activations fire) and 1.
    """
    sketch = QuantileSketch(sae.config.n_latents)
    rows = np.flatnonzero(weights)
    for shard in track(store.shards(rows), "firing thresholds", store.count_shards(rows), "shard"):
        of_patches = torch.from_numpy(np.repeat(weights[shard.images], np.diff(shard.offsets)))
        features = shard.features.to(sae.b_dec.device).split(PATCHES_AT_ONCE)
        for some, of_some in zip(features, of_patches.split(PATCHES_AT_ONCE), strict=True):
            codes = sae.encode_sparse(some)
            sketch.add(codes.latents.cpu(), codes.values.cpu(), of_some[codes.rows().cpu()])
    return sketch.quantile(quantile)


def encode_collection(
    sae: SAE,
    store: FeatureSource,
    thresholds: NDArray[np.float32],
    folder: Path,
    *,
    background: PatchBackground | None = None,
    weights: NDArray[np.float64] | None = None,
) -> Codes:
    """Write every activation above its latent's threshold, one Parquet part per feature shard, and the index last.

    Args:
        thresholds: a latent fires above this activation `[n_latents]`.
        background: what tells which patches show background; None where nothing is known.
        weights: what each image counts for in a latent's mean of them `[n_images]`, see `training_weights`; None counts
            all the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (folder / INDEX_FILE, *folder.glob("part-*"), *folder.glob("background-*")):
        stale.unlink(missing_ok=True)
    n_parts = len(store.units)
    for _ in encode_parts(sae, store, thresholds, folder, range(n_parts), background=background):
        pass
    weights = np.ones(store.n_images) if weights is None else weights
    shape = store.info.rows, store.info.columns
    return join_parts(folder, n_parts, thresholds, weights, shape, background=background)


def encode_parts(
    sae: SAE,
    store: FeatureSource,
    thresholds: NDArray[np.float32],
    folder: Path,
    numbers: range,
    *,
    background: PatchBackground | None = None,
    made_of: str = "",
) -> Iterator[Path]:
    """Write the parts of some consecutive feature shards, and yield each file; `join_parts` makes codes of them.

    Args:
        thresholds, background: as in `encode_collection`.
        numbers: of the feature shards.
        made_of: a hash of all that the parts depend on; a part that says the same is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    limits = torch.from_numpy(thresholds).to(sae.b_dec.device)
    files = {n: _files_of_part(folder, n, has_background=background is not None) for n in numbers}
    pending = [n for n in numbers if not made_of or any(_made_of(file) != made_of for file in files[n])]
    for number in set(numbers).difference(pending):
        yield from files[number]
    rows = [row for number in pending for row in store.units[number]]
    shards = store.shards(rows) if rows else iter(())
    metadata = {"made_of": made_of}
    for number, shard in zip(pending, track(shards, "codes", len(pending), "shard"), strict=True):
        codes = codes_of_shard(sae, shard, limits)
        tables = [codes.replace_schema_metadata(metadata)]
        if background is not None:
            stored = stored_background(background.of_shard(shard), shard, store.info.rows * store.info.columns)
            columns = {"image": shard.images.astype(np.int32), "background": list(stored)}
            tables.append(pa.table(columns, schema=_BACKGROUND_SCHEMA.with_metadata(metadata)))
        for file, table in zip(files[number], tables, strict=True):
            with whole_file(file) as stream:
                pq.write_table(table, stream, compression="zstd")
            yield file


def join_parts(
    folder: Path,
    n_parts: int,
    thresholds: NDArray[np.float32],
    weights: NDArray[np.float64],
    shape: tuple[int, int],
    *,
    background: PatchBackground | None = None,
) -> Codes:
    """Make parts that `encode_parts` wrote the codes of a collection; what they have in common is found here.

    Args:
        weights, background: as in `encode_collection`, and as the parts were written with.
        shape: rows and columns of the grid of patches.
    """
    files = [_files_of_part(folder, n, has_background=background is not None) for n in range(n_parts)]
    names = [[file.name for file in of_part] for of_part in files]
    for path in (*folder.glob("part-*"), *folder.glob("background-*")):
        if path.name not in {name for of_part in names for name in of_part}:
            path.unlink()
    parts = [name for name, *_ in names]
    n_fired = sum(pq.read_metadata(folder / name).num_rows for name in parts)
    if not n_fired:
        warn("no latent fires anywhere above its threshold, so no region can be described")
    latents = {"threshold": pa.array(thresholds)}
    if background is not None:
        mean, places = MeanOfLatents(len(thresholds), weights), UsualPlaces(len(thresholds), weights, shape)
        for part, backgrounds in names:
            table = read_parquet(folder / backgrounds)
            stored = np.stack([np.asarray(values.values) for values in table["background"]])
            codes, images = read_parquet(folder / part), table["image"].to_numpy()
            mean.add(codes, images, stored)
            places.add(codes, images, probabilities_of(stored))
        usual_x, usual_y = places.value.T
        latents |= {"background": pa.array(mean.value), "usual_x": pa.array(usual_x), "usual_y": pa.array(usual_y)}
    with whole_file(folder / THRESHOLDS_FILE) as stream:
        pq.write_table(pa.table(latents), stream)
    index = {
        "n_images": len(weights),
        "n_latents": len(thresholds),
        "parts": parts,
        "backgrounds": [name for _, *others in names for name in others],
        "knows_organism": background is not None and background.knows_organism,
    }
    write_text(folder / INDEX_FILE, json.dumps(index, indent=2) + "\n")
    return Codes.open(folder)


def _files_of_part(folder: Path, number: int, *, has_background: bool) -> list[Path]:
    """The codes of a part, and what is known of its images' backgrounds."""
    names = ["part", "background"] if has_background else ["part"]
    return [folder / f"{name}-{number:05d}.parquet" for name in names]


def _made_of(file: Path) -> str | None:
    """What a part says that it was made of; None where there is no readable one."""
    try:
        return (pq.read_schema(file).metadata or {}).get(b"made_of", b"").decode()
    except (OSError, pa.ArrowInvalid):
        return None


def stored_background(of_patches: NDArray[np.float32], shard: FeatureShard, n_patches: int) -> NDArray[np.uint8]:
    """Probabilities of all patches of every image's grid, as they are stored `[n_images, n_patches]`."""
    stored = np.full((len(shard.images), n_patches), UNKNOWN_BACKGROUND, np.uint8)
    image = np.repeat(np.arange(len(shard.images)), np.diff(shard.offsets))
    known = ~np.isnan(of_patches)
    stored[image[known], shard.patches[known]] = np.round(of_patches[known] * (UNKNOWN_BACKGROUND - 1))
    return stored


class MeanOfLatents:
    """Adds up the probability of background where each latent fires, weighted by its activation."""

    def __init__(self, n_latents: int, weights: NDArray[np.float64]) -> None:
        self._weights = weights
        self._total, self._weight = np.zeros((2, n_latents))

    def add(self, codes: pa.Table, images: NDArray[np.int32], stored: NDArray[np.uint8]) -> None:
        """Add the codes of a shard, whose images have the stored probabilities."""
        image, latent, patch, value = (codes[name].to_numpy() for name in CODE_SCHEMA.names)
        of_firing = stored[np.searchsorted(images, image), patch]
        weight = self._weights[image] * value * (of_firing != UNKNOWN_BACKGROUND)
        self._total += np.bincount(latent, weight * (of_firing / (UNKNOWN_BACKGROUND - 1)), minlength=len(self._total))
        self._weight += np.bincount(latent, weight, minlength=len(self._weight))

    @property
    def value(self) -> NDArray[np.float32]:
        """The mean of each latent `[n_latents]`, NaN where it fired in no image that counts."""
        mean = np.full(len(self._total), np.nan)
        return np.divide(self._total, self._weight, out=mean, where=self._weight > 0).astype(np.float32)


def codes_of_shard(sae: SAE, shard: FeatureShard, limits: Tensor) -> pa.Table:
    """Codes of one shard as a table, sorted by image, latent and patch."""
    row_image = np.repeat(shard.images, np.diff(shard.offsets))
    codes = sae.encode_sparse(shard.features.to(sae.b_dec.device), limits)
    row, latent, value = (part.cpu().numpy() for part in (codes.rows(), codes.latents, codes.values))
    image, patch = row_image[row], np.asarray(shard.patches)[row]
    order = np.lexsort((patch, latent, image))
    columns = [image[order], latent[order], patch[order], value[order]]
    arrays = [pa.array(c).cast(f.type) for c, f in zip(columns, CODE_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=CODE_SCHEMA)
