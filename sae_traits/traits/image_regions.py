"""Regions that need no latents, to compare with: Grad-CAM's, and the whole image. One region an image.

Grad-CAM's maps are kept in one Parquet file, a row an image, because making them takes a pass over the images.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sae_traits.errors import BackboneError, StoreError
from sae_traits.features.gradcam import ClassMap, GradCAM
from sae_traits.features.loading import prepared_batches
from sae_traits.geometry import PatchGrid
from sae_traits.logging import track
from sae_traits.schema import BackboneInfo, Candidate, Collection, ImageRecord, Region
from sae_traits.traits.chosen import ChosenLatents, choose_latents
from sae_traits.traits.regions import make_region, strongest_component

SHARE_OF_MAXIMUM = 0.15
"""A patch belongs to a region where the map has more than this share of its highest value in the image.

Source: Selvaraju et al. 2017, section 4.1, who box the largest segment of what is left."""

_MAP_SCHEMA = pa.schema(
    [
        ("image", pa.int32()),
        ("class_index", pa.int32()),
        ("class_name", pa.string()),
        ("patches", pa.list_(pa.int32())),
        ("values", pa.list_(pa.float32())),
    ]
)
Candidates = Iterator[tuple[ImageRecord, list[tuple[Candidate, Region]]]]


@dataclass(frozen=True)
class ImageRegionPlan:
    """A `Plan` whose regions come from the images alone."""

    collection: Collection
    candidates: Callable[[], Candidates]

    @property
    def chosen(self) -> ChosenLatents:
        """None are."""
        return choose_latents([], np.empty(0, dtype=np.float32))

    @property
    def species_without_latents(self) -> tuple[str, ...]:
        """No species lacks what none needs."""
        return ()


def plan_gradcam(
    collection: Collection,
    info: BackboneInfo,
    maps_file: Path,
    *,
    smallest_region: int = 1,
    box_margin: float = 0.0,
) -> ImageRegionPlan:
    """The strongest connected group of patches of every image's map, of those above SHARE_OF_MAXIMUM.

    Args:
        collection: the images.
        info: for their patches.
        maps_file: as `write_class_maps` wrote it; read anew for each pass.
        smallest_region: groups of fewer patches are no region.
        box_margin: of the regions' boxes; see `make_region`.
    """

    def candidates() -> Candidates:
        for row in _rows(maps_file):
            record = collection.images[row["image"]]
            grid = info.grid((record.width, record.height))
            patches, values = np.array(row["patches"], np.int32), np.array(row["values"], np.float32)
            strong = values > SHARE_OF_MAXIMUM * values.max(initial=0)
            found, strengths = strongest_component(patches[strong], values[strong], grid, smallest_region)
            if len(found):
                region = make_region(found.tolist(), grid, box_margin)
                peak = float(strengths.max())
                yield record, [(_candidate(row["image"], region, region_source="gradcam", peak=peak), region)]

    return ImageRegionPlan(collection, candidates)


def plan_whole(collection: Collection, info: BackboneInfo) -> ImageRegionPlan:
    """All patches of every image that lie on its image: what a describer makes of a photograph without any help."""

    def candidates() -> Candidates:
        for row, record in enumerate(collection.images):
            grid = info.grid((record.width, record.height))
            region = make_region(grid.valid.tolist(), grid)
            yield record, [(_candidate(row, region, region_source="whole", peak=None), region)]

    return ImageRegionPlan(collection, candidates)


def _candidate(image: int, region: Region, **source: Any) -> Candidate:
    return Candidate(image=image, latent=None, patches=region.patches, contrast=None, **source)


def write_class_maps(
    collection: Collection, gradcam: GradCAM, path: Path, *, image_batch_size: int, workers: int
) -> dict[str, int]:
    """Write what Grad-CAM says of every image: its class, and the patches where the map is above zero.

    Args:
        collection: the images.
        gradcam: the classifier.
        path: a Parquet file, written whole or not at all.
        image_batch_size: images a pass.
        workers: processes that read and prepare images.

    Returns:
        Images with a map, and without one, because it is zero everywhere.

    Raises:
        BackboneError: no image has a map.
        CollectionError: an image cannot be read any more, or has changed.
    """
    n_images = n_found = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    rows = range(len(collection.images))
    batches = prepared_batches(collection, rows, gradcam.prepare, batch_size=image_batch_size, workers=workers)
    with pq.ParquetWriter(partial, _MAP_SCHEMA, compression="zstd") as writer:
        for batch in track(batches, "Grad-CAM", -(-len(rows) // image_batch_size), "step"):
            found = []
            for row, class_map in enumerate(gradcam(batch), start=n_images):
                record = collection.images[row]
                found.append(_row(row, class_map, gradcam.info.grid((record.width, record.height))))
            writer.write_table(pa.Table.from_pylist(found, schema=_MAP_SCHEMA))
            n_images += len(found)
            n_found += sum(bool(row["patches"]) for row in found)
    if not n_found:
        partial.unlink()
        raise BackboneError(
            f"Grad-CAM at hidden state {gradcam.info.layer} of {gradcam.info.backbone} is zero everywhere, so its "
            "classifier does not look at patches there; extract with an earlier --layer, or choose other --regions"
        )
    os.replace(partial, path)
    return {"n_maps": n_found, "n_empty_maps": n_images - n_found}


def _row(image: int, class_map: ClassMap, grid: PatchGrid) -> dict[str, Any]:
    patches = grid.valid[class_map.values[grid.valid] > 0]
    return {
        "image": image,
        "class_index": class_map.class_index,
        "class_name": class_map.class_name,
        "patches": patches.tolist(),
        "values": class_map.values[patches].tolist(),
    }


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise StoreError(f"{path} does not exist; run `sae-traits annotate --regions gradcam` first")
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches():
            yield from batch.to_pylist()
