"""COCO JSON of the regions, one file per split, with the images at their source size.

A category is the part that the describer named, or `region` where it named none. Beside COCO's own keys an annotation
has `caption` (the sentence), `trait_id`, `latent` and `species`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic_core import to_json
from shapely import Polygon

from sae_traits.release.loading import Released, web_address
from sae_traits.release.tables import Row

IMAGES = "images"
UNNAMED = "region"


def write(released: Released, folder: Path) -> dict[str, int]:
    """Write {split}.json, and the images into images/{split}/."""
    counts = {"images": 0, "regions": 0}
    # The same in all splits: who trains on one file is scored on another.
    parts = {trait["part"] or UNNAMED for row in released.all_rows("images") for trait in row["traits"]}
    categories = {part: number for number, part in enumerate(sorted(parts), start=1)}
    for split in released.splits("images"):
        (folder / IMAGES / split).mkdir(parents=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        licenses: dict[str, int] = {}
        for row in released.rows("images", split, images=True):
            image = _image(released, row, f"{IMAGES}/{split}/{len(images) + 1:09d}", folder)
            license_id = licenses.setdefault(row["license"] or "unknown", len(licenses) + 1)
            image |= {"id": len(images) + 1, "license": license_id}
            images.append(image)
            for trait in row["traits"]:
                category = categories[trait["part"] or UNNAMED]
                annotation = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": category}
                annotations.append(annotation | _region(trait) | {"species": row["species"]})
        document = {
            "info": {"description": f"{released.source}, split {split}, made by sae-traits"},
            "licenses": [{"id": number, "name": name, "url": ""} for name, number in licenses.items()],
            "images": images,
            "categories": [{"id": number, "name": name} for name, number in categories.items()],
            "annotations": annotations,
        }
        (folder / f"{split}.json").write_bytes(to_json(document, inf_nan_mode="null") + b"\n")
        counts["images"] += len(images)
        counts["regions"] += len(annotations)
    return counts


def _image(released: Released, row: Row, stem: str, folder: Path) -> dict[str, Any]:
    """Write the image under a name that nobody else chose; its entry."""
    image, (width, height), suffix = released.image_of(row)
    file = folder / f"{stem}.{suffix}"
    file.write_bytes(image)
    return {
        "file_name": file.relative_to(folder).as_posix(),
        "width": width,
        "height": height,
        "coco_url": web_address(row) or "",
        "image_id": row["image_id"],
        "rights_holder": row["rights_holder"],
    }


def _region(trait: dict[str, Any]) -> dict[str, Any]:
    rings = [[float(value) for value in ring] for ring in trait["polygons"]]
    area = sum(Polygon(list(zip(ring[::2], ring[1::2], strict=True))).area for ring in rings)
    return {
        "bbox": [float(value) for value in trait["box"]],
        "segmentation": rings,
        "area": area,
        "iscrowd": 0,
        "caption": trait["text"],
        "trait_id": trait["trait_id"],
        "latent": trait["latent"],
    }
