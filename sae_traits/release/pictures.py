"""The image files inside a released dataset: an image at its source size, reduced, and with a region drawn on it."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError

from sae_traits.describers.overlay import draw_region
from sae_traits.errors import ImageError, ReleaseError
from sae_traits.images.decode import open_image
from sae_traits.release.tables import Row, scale_region
from sae_traits.schema import Region

JPEG_QUALITY = 92
PREVIEW_SIDE = 512
"""Longest side of a preview in pixels; smaller images are enlarged, so that the lines do not hide them."""


@dataclass(frozen=True)
class Picture:
    """An encoded image."""

    data: bytes
    name: str

    def to_row(self) -> Row:
        """The column `image`, as `datasets.Image` stores it."""
        return {"image": {"bytes": self.data, "path": self.name}}


def reduced_size(size: tuple[int, int], longest_side: int) -> tuple[int, int]:
    """Width and height of an image of `size` with at most `longest_side` pixels on its longest side."""
    return _fitted_size(size, min(longest_side, max(size)))


def preview_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the preview of an image of `size`."""
    return _fitted_size(size, PREVIEW_SIDE)


class SourceImage:
    """The image file of an image, read once and decoded only where need be.

    Args:
        path: of the file.
        sha256: that the file must have.
        size: width and height of the upright image in pixels.
        name: of the images made of it, without a suffix.

    Raises:
        ReleaseError: the file is missing, or is not the one that the image was made of.
    """

    def __init__(self, path: Path, *, sha256: str, size: tuple[int, int], name: str) -> None:
        try:
            self.data = path.read_bytes()
        except OSError as error:
            raise ReleaseError(f"cannot read {path}: {error.strerror}; the dataset needs every source image") from error
        if hashlib.sha256(self.data).hexdigest() != sha256:
            raise ReleaseError(f"{path} has changed since its features were extracted; start again in a new run folder")
        self.path = path
        self.size = size
        self.name = name

    @cached_property
    def pixels(self) -> Image.Image:
        """The upright RGB image."""
        try:
            return open_image(self.path)
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
                located = bool(exif.get_ifd(ExifTags.IFD.GPSInfo))
                if (
                    image.mode != "RGB"
                    or turned
                    or located
                    or image.has_transparency_data
                    or getattr(image, "n_frames", 1) > 1
                ):
                    return None
                return {"JPEG": ".jpg", "PNG": ".png"}.get(image.format or "")
        except UnidentifiedImageError:
            return None

    def at_source_size(self) -> Picture:
        """The file's own bytes where they are a plain JPEG or PNG, else a PNG, so that no pixel changes."""
        if self.plain_suffix is not None:
            return Picture(self.data, self.name + self.plain_suffix)
        return Picture(_encoded(self.pixels, "PNG"), f"{self.name}.png")

    def reduced(self, longest_side: int) -> Picture:
        """At most `longest_side` pixels on the longest side.

        A plain file that is small enough is kept byte for byte; everything else becomes a JPEG of quality 92 with full
        colour resolution (4:4:4), as boxes go with colours. Nothing is encoded twice.
        """
        if max(self.size) <= longest_side and self.plain_suffix is not None:
            return Picture(self.data, self.name + self.plain_suffix)
        image = _resized(self.pixels, reduced_size(self.size, longest_side))
        return Picture(_encoded(image, "JPEG"), f"{self.name}.jpg")

    def with_region(self, region: Region) -> Picture:
        """PREVIEW_SIDE pixels on the longest side, with the region drawn."""
        image = _resized(self.pixels, preview_size(self.size))
        drawn = draw_region(image, scale_region(region, self.size, image.size))
        return Picture(_encoded(drawn, "JPEG"), f"{self.name}.jpg")


def _fitted_size(size: tuple[int, int], longest_side: int) -> tuple[int, int]:
    factor = longest_side / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _encoded(image: Image.Image, image_format: str) -> bytes:
    buffer = io.BytesIO()
    if image_format == "JPEG":
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4")
    else:
        image.save(buffer, image_format)
    return buffer.getvalue()
