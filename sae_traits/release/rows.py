"""The rows of one image in all configs, without images, and the same rows with them.

Rows are made without images, with the size that each image has. That is a release by reference. Embedding puts the
images in; `rehydrate` does it later, on the rows that were published, and so comes to the same result.
"""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from sae_traits.describers.overlay import draw_region
from sae_traits.errors import ImageError, ReleaseError
from sae_traits.images.decode import BROKEN_METADATA, decode_image, is_in_srgb
from sae_traits.images.pictures import PictureCache, encoded, fitted_size, released_picture, resized
from sae_traits.release.tables import Row, scale_region
from sae_traits.schema import Region
from sae_traits.vocabulary import Split

PREVIEW_SIDE = 512
"""Longest side of a preview in pixels; smaller images are enlarged, so that the lines do not hide them."""
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
    caption: Row | None = None
    """Of the config `captions`."""


def embed_images(
    rows: Iterable[tuple[ImageRows, Path]], longest_side: int, workers: int, cache: PictureCache | None = None
) -> Iterator[ImageRows]:
    """Yield rows with the images that the files hold, in order; threads make them (Pillow lets go of Python's lock).

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
    size = record["width"], record["height"]
    source = SourceImage(path, sha256=record["source_sha256"], size=size, name=record["image_id"], cache=cache)
    if default:
        reduced = source.reduced(longest_side)
        default = tuple(row | reduced for row in default)
    if preview is not None:
        trait = next(trait for trait in record["traits"] if trait["trait_id"] == preview["trait_id"])
        preview = preview | source.with_region(_region(trait))
    return replace(rows, record=record | source.at_source_size(), default=default, preview=preview)


def _region(trait: Row) -> Region:
    """Where a trait lies, in the precision of the dataset, so that it is drawn the same from the published rows."""
    box, *polygons = (tuple(np.array(ring, dtype=np.float32).tolist()) for ring in (trait["box"], *trait["polygons"]))
    return Region(box=box, polygons=tuple(polygons), patches=(), area_fraction=trait["area_fraction"])


def _names_a_place(data: bytes, image: Image.Image) -> bool:
    """Whether the XMP of a file has coordinates, as programs write them there, with or without EXIF."""
    packets = (data, *(value if isinstance(value, bytes) else str(value).encode() for value in image.info.values()))
    return any(name in packet for packet in packets for name in (b"GPSLatitude", b"GPSLongitude"))


class SourceImage:
    """A photograph: its file, read once, and its pixels, decoded only where no picture of it has been made yet.

    Args:
        sha256: that the file must have.
        size: width and height of the upright image in pixels.
        name: of the images made of it, without a suffix.

    Raises:
        ReleaseError: the file is missing, or is not the one that the features were made of.
    """

    def __init__(
        self, path: Path, *, sha256: str, size: tuple[int, int], name: str, cache: PictureCache | None = None
    ) -> None:
        try:
            self.data = path.read_bytes()
        except OSError as error:
            raise ReleaseError(f"cannot read {path}: {error.strerror}; the dataset needs every source image") from error
        if hashlib.sha256(self.data).hexdigest() != sha256:
            raise ReleaseError(f"{path} has changed since its features were extracted; start again in a new run folder")
        self.path, self.sha256, self.size, self.name = path, sha256, size, name
        self._cache = cache

    @cached_property
    def pixels(self) -> Image.Image:
        """The upright RGB image."""
        try:
            return decode_image(self.data)
        except ImageError as error:
            raise ReleaseError(f"{self.path} can no longer be used: {error}") from error

    @cached_property
    def plain_suffix(self) -> str | None:
        """`.jpg` or `.png` when any reader gets the upright RGB image from the file as it is; else None.

        A file that says where it was taken is not plain: made anew, it loses its metadata.
        """
        try:
            with Image.open(io.BytesIO(self.data), formats=("JPEG", "PNG")) as image:
                exif = image.getexif()
                turned = exif.get(ExifTags.Base.Orientation, 1) != 1
                # Where a threatened species lives must not be published by accident.
                located = bool(exif.get_ifd(ExifTags.IFD.GPSInfo)) or _names_a_place(self.data, image)
                several = image.has_transparency_data or getattr(image, "n_frames", 1) > 1
                if image.mode != "RGB" or turned or located or several or not is_in_srgb(image):
                    return None
                return {"JPEG": ".jpg", "PNG": ".png"}.get(image.format or "")
        except BROKEN_METADATA:  # nobody knows what it says; or the file is of another format
            return None

    def at_source_size(self) -> Row:
        """The file's own bytes where they are a plain JPEG or PNG, else a PNG, so that no pixel changes."""
        if self.plain_suffix is not None:
            return self._as_row(self.data, self.plain_suffix)
        return self._as_row(encoded(self.pixels, "PNG"), ".png")

    def reduced(self, longest_side: int) -> Row:
        """At most `longest_side` pixels on the longest side; a plain file that is small enough is kept as it is."""
        if max(self.size) <= longest_side and self.plain_suffix is not None:
            return self._as_row(self.data, self.plain_suffix)
        return self._as_row(self._picture(longest_side), ".jpg")

    def with_region(self, region: Region) -> Row:
        """PREVIEW_SIDE pixels on the longest side, with the region drawn; made of the reduced picture."""
        with Image.open(io.BytesIO(self.reduced(PREVIEW_SIDE)["image"]["bytes"])) as picture:
            image = resized(picture.convert("RGB"), fitted_size(self.size, PREVIEW_SIDE))
        drawn = draw_region(image, scale_region(region, self.size, image.size))
        return self._as_row(encoded(drawn, "JPEG"), ".jpg")

    def _picture(self, longest_side: int) -> bytes:
        if self._cache is None:
            return released_picture(self.pixels, longest_side)
        return self._cache.get_or_make(self.sha256, longest_side, lambda: self.pixels)

    def _as_row(self, data: bytes, suffix: str) -> Row:
        """The column `image`, as `datasets.Image` stores it."""
        return {"image": {"bytes": data, "path": self.name + suffix}}
