"""The image files inside a released dataset: an image at its source size, reduced, and with a region drawn on it."""

from __future__ import annotations

import hashlib
import io
from functools import cached_property
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError

from sae_traits.describers.overlay import draw_region
from sae_traits.errors import ImageError, ReleaseError
from sae_traits.images.decode import decode_image
from sae_traits.images.pictures import PictureCache, encoded, fitted_size, released_picture, resized
from sae_traits.release.tables import Row, scale_region
from sae_traits.schema import Region

PREVIEW_SIDE = 512
"""Longest side of a preview in pixels; smaller images are enlarged, so that the lines do not hide them."""


def preview_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the preview of an image of `size`."""
    return fitted_size(size, PREVIEW_SIDE)


class SourceImage:
    """A photograph: its file, read once, and its pixels, decoded only where no picture of it has been made yet.

    Args:
        path: of the file.
        sha256: that the file must have.
        size: width and height of the upright image in pixels.
        name: of the images made of it, without a suffix.
        cache: pictures that have been made; None makes them all.

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
                located = bool(exif.get_ifd(ExifTags.IFD.GPSInfo))
                several = image.has_transparency_data or getattr(image, "n_frames", 1) > 1
                if image.mode != "RGB" or turned or located or several:
                    return None
                return {"JPEG": ".jpg", "PNG": ".png"}.get(image.format or "")
        except UnidentifiedImageError:
            return None

    def at_source_size(self) -> Row:
        """The file's own bytes where they are a plain JPEG or PNG, else a PNG, so that no pixel changes."""
        if self.plain_suffix is not None:
            return self._as_row(self.data, self.plain_suffix)
        return self._as_row(encoded(self.pixels, "PNG"), ".png")

    def reduced(self, longest_side: int) -> Row:
        """At most `longest_side` pixels on the longest side.

        A plain file that is small enough is kept byte for byte; everything else becomes a `released_picture`.
        """
        if max(self.size) <= longest_side and self.plain_suffix is not None:
            return self._as_row(self.data, self.plain_suffix)
        return self._as_row(self._picture(longest_side), ".jpg")

    def with_region(self, region: Region) -> Row:
        """PREVIEW_SIDE pixels on the longest side, with the region drawn; made of the reduced picture."""
        is_small = max(self.size) <= PREVIEW_SIDE and self.plain_suffix is not None
        with Image.open(io.BytesIO(self.data if is_small else self._picture(PREVIEW_SIDE))) as picture:
            image = resized(picture.convert("RGB"), preview_size(self.size))
        drawn = draw_region(image, scale_region(region, self.size, image.size))
        return self._as_row(encoded(drawn, "JPEG"), ".jpg")

    def _picture(self, longest_side: int) -> bytes:
        if self._cache is None:
            return released_picture(self.pixels, longest_side)
        return self._cache.get_or_make(self.sha256, longest_side, lambda: self.pixels)

    def _as_row(self, data: bytes, suffix: str) -> Row:
        """The column `image`, as `datasets.Image` stores it."""
        return {"image": {"bytes": data, "path": self.name + suffix}}
