"""Image files of every kind, opened as upright 8-bit sRGB, or refused with a reason.

Pillow's own guards stay as they are: truncated files are not filled up, and its limit on pixels holds.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from sae_traits.errors import ImageError
from sae_traits.images.near_identical import perceptual_hash

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".avif", ".jp2"}
    | {".pbm", ".pgm", ".ppm", ".pnm"}
)
"""Files in a folder with these endings are images; their content decides how they are read."""
UNREAD_SUFFIXES = frozenset(
    {".heic", ".heif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".psd", ".svg", ".eps", ".pdf"}
)
"""Files in a folder with these endings are pictures that are not read; they are reported instead of overlooked."""

_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "AVIF", "JPEG2000")
"""What Pillow may take a file for; its other readers are not for photographs, and the one for EPS runs a program."""
_WHITE = (255, 255, 255, 255)
_BLACK = (0, 0, 0, 255)
_MAX_ASPECT_RATIO = 100
"""A strip thinner than this would become gigabytes when its short side is resized to a model's input."""
_FULL_SCALE = 65535
_FOREGROUND_ABOVE = 127


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is recorded of an image file that can be decoded."""

    width: int
    """Of the upright image, in pixels."""
    height: int
    sha256: str
    """Of the file's bytes."""
    perceptual_hash: bytes
    """As `near_identical` compares it; an even surface is like its own copies only, so it has the sha256 here."""


def open_image(path: str | Path) -> Image.Image:
    """Open a photograph as everything in sae-traits sees it: upright, in RGB with 8 bits per channel.

    The EXIF orientation is applied, transparency is laid over white, and 16-bit grey is scaled over its full range.
    Boxes and polygons are in the pixels of this image.

    Args:
        path: a JPEG, PNG, TIFF, WebP, BMP, GIF, PPM, AVIF or JPEG 2000 file.

    Returns:
        A Pillow image of mode RGB and `(width, height)` pixels.

    Raises:
        ImageError: the file is missing, empty, truncated, animated, too large or no image; the message says which.
    """
    return _upright_rgb(_read(Path(path)))


def open_mask(path: str | Path) -> NDArray[np.bool_]:
    """Open the foreground of a mask file, values above 127 of 255 `[height, width]`.

    A mask is taken as it is stored, whatever its EXIF orientation says; what is transparent is background.

    Raises:
        ImageError: as `open_image`.
    """
    data = _read(Path(path))
    with _pillow_errors_as_image_errors():
        return np.asarray(_opaque(_load(data), _BLACK).convert("L")) > _FOREGROUND_ABOVE


def examine_image(path: str | Path) -> ImageFacts:
    """Read and decode an image file once, so that it is known to be usable, and record its size and hashes.

    Raises:
        ImageError: as `open_image`.
    """
    return examine_bytes(_read(Path(path)))


def examine_bytes(data: bytes) -> ImageFacts:
    """Examine the content of an image file, as `examine_image` does."""
    image = _upright_rgb(data)
    sha256 = hashlib.sha256(data)
    return ImageFacts(*image.size, sha256.hexdigest(), perceptual_hash(image) or sha256.digest())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror}") from error


def _upright_rgb(data: bytes) -> Image.Image:
    with _pillow_errors_as_image_errors():
        return _opaque(ImageOps.exif_transpose(_load(data)), _WHITE).convert("RGB")


def _load(data: bytes) -> Image.Image:
    """The decoded image as the file stores it."""
    if not data:
        raise ImageError("the file is empty")
    with warnings.catch_warnings():
        # What Pillow warns of, up to twice its limit, is refused here, so that its warning says nothing new.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(io.BytesIO(data), formats=_formats())
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise Image.DecompressionBombError
    if max(image.size) > _MAX_ASPECT_RATIO * min(image.size):
        raise ImageError(f"it is {image.width} x {image.height} pixels, too thin to show an image")
    # Many cameras write JPEG files of the kind MPO: the photograph, and after it previews or gain maps.
    n_frames = getattr(image, "n_frames", 1)
    if n_frames > 1 and image.format != "MPO":
        raise ImageError(f"it holds {n_frames} frames or pages; save the one that shows the image on its own")
    image.load()
    return image


@cache
def _formats() -> tuple[str, ...]:
    """Those of _FORMATS that this Pillow was built with."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _opaque(image: Image.Image, background: tuple[int, int, int, int]) -> Image.Image:
    """The image in 8 bits, its transparent parts laid over a background."""
    if image.mode == "F":
        raise ImageError("its values are floating-point numbers without a known range; save it with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _eight_bits(image)
    if not image.has_transparency_data:
        return image
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, background), rgba)


def _eight_bits(image: Image.Image) -> Image.Image:
    """A 16-bit grey image in 8 bits; Pillow's own conversion would clip everything above 255 to white."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > _FULL_SCALE:
        raise ImageError("its values go beyond 16 bits, so their range is not known; save it with 8 or 16 bits")
    return Image.fromarray(np.rint(values * (255 / _FULL_SCALE)).astype(np.uint8))


@contextmanager
def _pillow_errors_as_image_errors() -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError("it is not an image in a format that can be read; save it as JPEG or PNG") from error
    except Image.DecompressionBombError as error:
        limit = (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise ImageError(
            f"it has more than {limit:.0f} megapixels, as decompression bombs do; make it smaller"
        ) from error
    except Exception as error:
        # Pillow's readers raise whatever broken bytes lead to: struct.error, KeyError, zlib.error, OverflowError …
        raise ImageError(f"it cannot be decoded: {str(error) or type(error).__name__}") from error
