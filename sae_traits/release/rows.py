"""The rows of one specimen in all configs, without images, and the same rows with them.

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

from sae_traits.release.pictures import SourceImage
from sae_traits.release.tables import Row
from sae_traits.schema import Region, Split

SPECIMENS_A_WORKER = 2
"""Specimens in memory for each worker."""


@dataclass(frozen=True, slots=True)
class SpecimenRows:
    """What a dataset says of one specimen."""

    split: Split
    segment: str
    """Of the shards that the rows lie in; see `shards.Segments`."""
    specimen: Row
    """Of the config `specimens`, with its traits in pixels of the source image."""
    default: tuple[Row, ...]
    """Of the config `default`, in the order of its traits."""
    preview: Row | None


def embed_images(rows: Iterable[tuple[SpecimenRows, Path]], longest_side: int, workers: int) -> Iterator[SpecimenRows]:
    """Rows with the images that the files hold, in order, made in threads (Pillow lets go of the interpreter lock).

    Args:
        rows: each with the file of the specimen's image.
        longest_side: pixels of the images of `default`.
        workers: threads.

    Raises:
        ReleaseError: a file is missing, or is not the one that the row was made of.
    """
    with ThreadPoolExecutor(max(1, workers)) as pool:
        waiting: deque[Future[SpecimenRows]] = deque()
        try:
            for one, path in rows:
                waiting.append(pool.submit(embed_image, one, path, longest_side))
                if len(waiting) > SPECIMENS_A_WORKER * max(1, workers):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def embed_image(rows: SpecimenRows, path: Path, longest_side: int) -> SpecimenRows:
    """The rows of one specimen with its image: at source size, reduced, and with the previewed region drawn."""
    specimen = rows.specimen
    source = SourceImage(
        path,
        sha256=specimen["source_sha256"],
        size=(specimen["width"], specimen["height"]),
        name=specimen["specimen_id"],
    )
    default, preview = rows.default, rows.preview
    if default:
        reduced = source.reduced(longest_side).to_row()
        default = tuple(row | reduced for row in default)
    if preview is not None:
        trait = next(trait for trait in specimen["traits"] if trait["trait_id"] == preview["trait_id"])
        preview = preview | source.with_region(_region(trait)).to_row()
    return replace(rows, specimen=specimen | source.at_source_size().to_row(), default=default, preview=preview)


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
