"""The rows of one image in all configs, without images, and the same rows with them.

Rows are made without images, with the size that each image has. That is a release by reference. Embedding puts the
images in; `rehydrate` does it later, on the rows that were published, and so comes to the same result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sae_traits.images.pictures import PictureCache
from sae_traits.release.pictures import SourceImage
from sae_traits.release.tables import Row
from sae_traits.schema import Region, Split

IMAGES_PER_WORKER = 2
"""Images in memory for each worker."""


@dataclass(frozen=True, slots=True)
class ImageRows:
    """What a dataset says of one image."""

    split: Split
    segment: str
    """Of the shards that the rows lie in; see `shards.Segments`."""
    record: Row
    """Of the config `images`, with its traits in pixels of the source image."""
    default: tuple[Row, ...]
    """Of the config `default`, in the order of its traits."""
    preview: Row | None


def embed_images(
    rows: Iterable[tuple[ImageRows, Path]], longest_side: int, workers: int, cache: PictureCache | None = None
) -> Iterator[ImageRows]:
    """Yield rows with the images that the files hold, in order; threads make them (Pillow lets go of Python's lock).

    Args:
        rows: each with the photograph's file.
        longest_side: pixels of the images of `default`.
        workers: threads.
        cache: pictures that have been made already.

    Raises:
        ReleaseError: a file is missing, or is not the one that the row was made of.
    """
    with ThreadPoolExecutor(max(1, workers)) as pool:
        waiting: deque[Future[ImageRows]] = deque()
        try:
            for image_rows, path in rows:
                waiting.append(pool.submit(_embed_image, image_rows, path, longest_side, cache))
                if len(waiting) > IMAGES_PER_WORKER * max(1, workers):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _embed_image(rows: ImageRows, path: Path, longest_side: int, cache: PictureCache | None) -> ImageRows:
    """The rows of one image with its image: at source size, reduced, and with the previewed region drawn."""
    record, default, preview = rows.record, rows.default, rows.preview
    source = SourceImage(
        path,
        sha256=record["source_sha256"],
        size=(record["width"], record["height"]),
        name=record["image_id"],
        cache=cache,
    )
    if default:
        reduced = source.reduced(longest_side)
        default = tuple(row | reduced for row in default)
    if preview is not None:
        trait = next(trait for trait in record["traits"] if trait["trait_id"] == preview["trait_id"])
        preview = preview | source.with_region(_region(trait))
    return replace(rows, record=record | source.at_source_size(), default=default, preview=preview)


def _region(trait: Row) -> Region:
    """Where a trait lies, in the precision of the dataset, so that it is drawn the same from the published rows."""
    x, y, width, height = _stored(trait["box"])
    return Region(
        box=(x, y, width, height),
        polygons=tuple(_stored(ring) for ring in trait["polygons"]),
        patches=(),
        area_fraction=trait["area_fraction"],
    )


def _stored(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(np.array(list(values), dtype=np.float32).tolist())
