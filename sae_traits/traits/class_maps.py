"""Where the backbone's own classifier looks (Grad-CAM): one map per image, kept in a file, and one region of each map.

Kept, because making the maps takes a pass over the images; a baseline to compare regions of latents with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sae_traits.config.regions import GradCAMRegions
from sae_traits.errors import BackboneError
from sae_traits.features.gradcam import ClassMap, GradCAM
from sae_traits.features.loading import prepared_batches
from sae_traits.geometry import PatchGrid
from sae_traits.io import whole_file
from sae_traits.logging import track
from sae_traits.schema import BackboneInfo, Candidate, Collection
from sae_traits.traits.candidates import Candidates
from sae_traits.traits.regions import make_region, strongest_component
from sae_traits.traits.table import read_rows

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


def class_map_candidates(
    collection: Collection, info: BackboneInfo, maps_file: Path, options: GradCAMRegions
) -> Candidates:
    """Yield the strongest connected group of patches of every image's map, of those above SHARE_OF_MAXIMUM.

    Args:
        options: groups of fewer than `min_patches` patches are no region; for `box_margin` see `make_region`.
    """
    for row in read_rows(maps_file, "annotate --regions gradcam"):
        record = collection.images[row["image"]]
        grid = info.grid((record.width, record.height))
        patches, values = np.array(row["patches"], np.int32), np.array(row["values"], np.float32)
        strong = values > SHARE_OF_MAXIMUM * values.max(initial=0)
        group, strengths = strongest_component(patches[strong], values[strong], grid, options.min_patches)
        if len(group):
            region = make_region(group.tolist(), grid, options.box_margin)
            candidate = Candidate(
                image=row["image"],
                region_source="gradcam",
                latent=None,
                patches=region.patches,
                peak=float(strengths.max()),
                contrast=None,
            )
            yield record, [(candidate, region)]


def write_class_maps(
    collection: Collection, gradcam: GradCAM, path: Path, *, image_batch_size: int, workers: int
) -> dict[str, int]:
    """Write what Grad-CAM says of every image: its class, and the patches where the map is above zero.

    Args:
        path: a Parquet file, written whole or not at all.

    Returns:
        Images with a map, and without one, because it is zero everywhere.

    Raises:
        BackboneError: no image has a map.
        CollectionError: an image cannot be read any more, or has changed.
    """
    n_images = n_maps = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = range(len(collection.images))
    batches = prepared_batches(collection, rows, gradcam.prepare, batch_size=image_batch_size, workers=workers)
    with whole_file(path) as stream, pq.ParquetWriter(stream, _MAP_SCHEMA, compression="zstd") as writer:
        for batch in track(batches, "Grad-CAM", -(-len(rows) // image_batch_size), "step"):
            maps = []
            for row, class_map in enumerate(gradcam(batch), start=n_images):
                record = collection.images[row]
                maps.append(_row(row, class_map, gradcam.info.grid((record.width, record.height))))
            writer.write_table(pa.Table.from_pylist(maps, schema=_MAP_SCHEMA))
            n_images += len(maps)
            n_maps += sum(bool(row["patches"]) for row in maps)
        if not n_maps:
            raise BackboneError(
                f"Grad-CAM at hidden state {gradcam.info.layer} of {gradcam.info.backbone} is zero everywhere, so its "
                "classifier does not look at patches there; extract with an earlier --layer, or choose other --regions"
            )
    return {"n_maps": n_maps, "n_empty_maps": n_images - n_maps}


def _row(image: int, class_map: ClassMap, grid: PatchGrid) -> dict[str, Any]:
    patches = grid.valid[class_map.values[grid.valid] > 0]
    return {
        "image": image,
        "class_index": class_map.class_index,
        "class_name": class_map.class_name,
        "patches": patches.tolist(),
        "values": class_map.values[patches].tolist(),
    }
