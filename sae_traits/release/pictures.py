"""The image files inside a released dataset: a specimen at its source size, reduced, and with a region drawn on it."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import ExifTags, Image, UnidentifiedImageError

from sae_traits.collections.images import open_image
from sae_traits.errors import ImageError, ReleaseError
from sae_traits.release.tables import scale_region
from sae_traits.schema import Region, Specimen
from sae_traits.traits.overlay import draw_region

JPEG_QUALITY = 92
PREVIEW_SIDE = 512
"""Longest side of a preview in pixels; smaller images are enlarged, so that the lines do not hide them."""


@dataclass(frozen=True)
class Picture:
    """An encoded image, and how it was resized."""

    data: bytes
    name: str
    scale: tuple[float, float] = (1.0, 1.0)
    """Its pixels per source pixel, along x and along y."""

    def to_dict(self) -> dict[str, Any]:
        """As `datasets.Image` stores it."""
        return {"bytes": self.data, "path": self.name}


class SourceImage:
    """The image file of a specimen, read once and decoded only where need be.

    Raises:
        ReleaseError: the file is missing, or is not the one that the specimen was made of.
    """

    def __init__(self, path: Path, specimen: Specimen) -> None:
        try:
            self.data = path.read_bytes()
        except OSError as error:
            raise ReleaseError(f"cannot read {path}: {error.strerror}; the dataset needs every source image") from error
        if hashlib.sha256(self.data).hexdigest() != specimen.sha256:
            raise ReleaseError(f"{path} has changed since its features were extracted; start again in a new run folder")
        self.path = path
        self.size = specimen.width, specimen.height
        self.stem = PurePosixPath(specimen.file).stem

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
            return Picture(self.data, self.stem + self.plain_suffix)
        return Picture(_encoded(self.pixels, "PNG"), f"{self.stem}.png")

    def reduced(self, longest_side: int) -> Picture:
        """At most `longest_side` pixels on the longest side.

        A plain file that is small enough is kept byte for byte; everything else becomes a JPEG of quality 92 with full
        colour resolution (4:4:4), as boxes go with colours. Nothing is encoded twice.
        """
        if max(self.size) <= longest_side and self.plain_suffix is not None:
            return Picture(self.data, self.stem + self.plain_suffix)
        image = _fitted(self.pixels, min(longest_side, max(self.size)))
        return Picture(_encoded(image, "JPEG"), f"{self.stem}.jpg", _scale(image.size, self.size))

    def with_region(self, region: Region) -> Picture:
        """PREVIEW_SIDE pixels on the longest side, with the region drawn."""
        image = _fitted(self.pixels, PREVIEW_SIDE)
        scale = _scale(image.size, self.size)
        return Picture(_encoded(draw_region(image, scale_region(region, scale)), "JPEG"), f"{self.stem}.jpg", scale)


def _fitted(image: Image.Image, longest_side: int) -> Image.Image:
    factor = longest_side / max(image.size)
    if factor == 1:
        return image
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _scale(size: tuple[int, int], source: tuple[int, int]) -> tuple[float, float]:
    return size[0] / source[0], size[1] / source[1]


def _encoded(image: Image.Image, image_format: str) -> bytes:
    buffer = io.BytesIO()
    if image_format == "JPEG":
        image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling="4:4:4")
    else:
        image.save(buffer, image_format)
    return buffer.getvalue()
