"""Image files of every kind, opened as upright 8-bit sRGB, or refused with a reason.

Pillow's own guards stay as they are: truncated files are not filled up, and its limit on pixels holds.
"""

import hashlib
import io
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from sae_traits.errors import ImageError
from sae_traits.images.near_identical import perceptual_hash
from sae_traits.io import IS_LFS_POINTER, LFS_POINTER

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".avif", ".jp2", ".j2k"}
    | {".heic", ".heif", ".hif"}
    | {".pbm", ".pgm", ".ppm", ".pnm"}
)
"""Files in a folder with these endings are images; their content decides how they are read."""
UNREAD_SUFFIXES = frozenset(
    {".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".psd", ".svg", ".eps", ".pdf"}
    | {".crw", ".nrw", ".pef", ".srw", ".rwl", ".mrw", ".erf", ".kdc", ".3fr", ".iiq", ".x3f", ".jxl", ".xcf", ".tga"}
    | {".czi", ".lif", ".nd2", ".vsi", ".svs", ".ndpi", ".zvi"}
)
"""Files in a folder with these endings are pictures that are not read, of cameras, programs and microscopes; they are
reported instead of overlooked."""
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".qt", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".mts", ".m2ts"}
)
"""Files in a folder with these endings are videos, which are reported as well."""

_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "HEIF", "AVIF", "JPEG2000")
"""What Pillow may take a file for; its other readers are not for photographs, and the one for EPS runs a program."""
_HEIC = re.compile(rb".{4}ftyp.{0,64}?he(ic|ix|im|is|vc|vx|vm|vs)", re.DOTALL)
"""How a HEIC file begins: one of its brands is among those that it says to be compatible with."""
_BEGINNING = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|II\*\0|MM\0\*|RIFF.{4}WEBP|.{4}ftyp(avif|hei[cfmsx]|mif1)", re.DOTALL
)
"""How files of the usual kinds begin."""
_WHITE = (255, 255, 255, 255)
_BLACK = (0, 0, 0, 255)
_MAX_ASPECT_RATIO = 100
"""A strip thinner than this would become gigabytes when its short side is resized to a model's input."""
_DARKEST_WHITE = 64
"""Of 255: an image of 16 bits without a pixel as light as this has 14 bits or fewer."""
_SAME_COLOUR = 3
"""Of 255: a profile that changes no colour by more is sRGB, as another program has written it."""
_PHOTOMETRIC, _MIN_IS_WHITE, _MAX_SAMPLE_VALUE = 262, 0, 281
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the image upright."""
_TURNED_BACK = {6: 8, 8: 6}
"""EXIF orientation -> the one whose turn undoes its own; the others undo themselves."""
_FOREGROUND_ABOVE = 127
CANNOT_BE_DECODED = "it cannot be decoded"
"""How the reason begins of a file that is an image, and broken or broken off."""
BROKEN_METADATA = (SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, OSError, struct.error)
"""What Pillow raises of EXIF that is none."""


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

    The EXIF orientation is applied, an embedded colour profile converted to sRGB, transparency laid over white, and
    grey of 10 to 16 bits scaled over its range. An orientation or a profile that cannot be read counts as none, as in
    image viewers. Boxes and polygons are in the pixels of this image.

    Args:
        path: a JPEG, PNG, TIFF, WebP, BMP, GIF, PPM, AVIF, JPEG 2000 or, with the extra `heic`, HEIC file.

    Returns:
        A Pillow image of mode RGB and `(width, height)` pixels.

    Raises:
        ImageError: the file is missing, empty, truncated, animated, too large or no image; the message says which.
    """
    return decode_image(read_image(path))


def open_mask(path: str | Path) -> NDArray[np.bool_]:
    """Open the foreground of a mask file, values above 127 of 255 `[height, width]`; errors as of `open_image`.

    A mask is taken as it is stored, whatever its EXIF orientation says; what is transparent is background.
    """
    data = read_image(path)
    with _pillow_errors_as_image_errors():
        image, _, turned = _load(data)
        if turned in _TURNS:
            image = image.transpose(_TURNS[_TURNED_BACK.get(turned, turned)])
        return np.asarray(_opaque(image, _BLACK).convert("L")) > _FOREGROUND_ABOVE


def examine_image(path: str | Path) -> ImageFacts:
    """Read and decode an image file once, and record its size and hashes; errors as of `open_image`."""
    return examine_bytes(read_image(path))


def examine_bytes(data: bytes) -> ImageFacts:
    """Examine the content of an image file, as `examine_image` does."""
    image = decode_image(data)
    sha256 = hashlib.sha256(data)
    return ImageFacts(*image.size, sha256.hexdigest(), perceptual_hash(image) or sha256.digest())


def read_image(path: str | Path) -> bytes:
    """Read the content of an image file, to hash and decode it without opening it twice; an ImageError if it cannot."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror}") from error


def begins_as_image(path: str | Path) -> bool:
    """Whether a file is an image by its first bytes, whatever it is called; one that cannot be read is none."""
    try:
        with Path(path).open("rb") as file:
            return _BEGINNING.match(file.read(16)) is not None
    except OSError:
        return False


def decode_image(data: bytes) -> Image.Image:
    """Decode the content of an image file to what `open_image` gives; errors as there."""
    with _pillow_errors_as_image_errors():
        image, orientation, _ = _load(data)
        if orientation in _TURNS:
            image = image.transpose(_TURNS[orientation])
        return _opaque(_in_srgb(image), _WHITE).convert("RGB")


def _load(data: bytes) -> tuple[Image.Image, int | None, int | None]:
    """Decode the image in 8 bits per channel.

    Returns:
        The image, how it is turned, as EXIF says it, and how Pillow has turned it already, as it does with TIFF.
    """
    if not data:
        raise ImageError("the file is empty")
    if data.startswith(LFS_POINTER):
        raise ImageError(IS_LFS_POINTER)
    if _HEIC.match(data) and "HEIF" not in _formats():
        raise ImageError("HEIC images need `pip install 'sae-traits[heic]'`; or convert it to JPEG")
    with warnings.catch_warnings():
        # What Pillow warns of, up to twice its limit, is refused here, so that its warning says nothing new.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(io.BytesIO(data), formats=_formats())
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise Image.DecompressionBombError
    if max(image.size) > _MAX_ASPECT_RATIO * min(image.size):
        raise ImageError(f"it is {image.width} x {image.height} pixels, too thin to show an image")
    # Many cameras write files of the kinds MPO and HEIF: the photograph, and after it previews or gain maps.
    n_frames = getattr(image, "n_frames", 1)
    if n_frames > 1 and image.format not in ("MPO", "HEIF"):
        raise ImageError(f"it holds {n_frames} frames or pages; save the one that shows the image on its own")
    is_cut = ";16" in str(image.tile) and image.mode in ("RGB", "RGBA", "LA")  # Pillow keeps the upper eight bits
    stored = _orientation(image)
    image.load()
    colours = slice(0, 1 if image.mode == "LA" else 3)
    if is_cut and max(high for _, high in cast(Any, image.getextrema())[colours]) < _DARKEST_WHITE:
        raise ImageError("its colours fill 14 or fewer of their 16 bits; save it with 8 bits per channel")
    if is_cut and "transparency" in image.info:
        image.info["transparency"] = tuple(value >> 8 for value in image.info["transparency"])
    orientation = _orientation(image)
    return _eight_bits(image), orientation, stored if orientation != stored else None


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except BROKEN_METADATA:
        return None


def is_in_srgb(image: Image.Image) -> bool:
    """Whether the colours of an image of mode RGB are those of sRGB: nothing is converted when it is opened here."""
    profile = image.info.get("icc_profile")
    return not profile or _to_srgb(profile, image.mode) is None


def _in_srgb(image: Image.Image) -> Image.Image:
    """Apply the embedded colour profile of an image."""
    profile = image.info.get("icc_profile")
    if not profile:
        return image
    colours = image
    if image.mode in ("1", "LA"):
        colours = image.convert("L")
    elif image.mode in ("P", "PA", "RGBA"):
        colours = image.convert("RGB")
    transform = _to_srgb(profile, colours.mode)
    if transform is None:
        return image
    converted = cast(Image.Image, ImageCms.applyTransform(colours, transform))
    if image.has_transparency_data:
        converted.putalpha(image.convert("RGBA").getchannel("A"))
    return converted


@lru_cache(maxsize=16)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Make what converts from a profile; None if it is that of sRGB, of another kind of image, or cannot be read."""
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode == "RGB":
            probe = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8))
            change = np.asarray(ImageCms.applyTransform(probe, transform)).astype(int) - np.asarray(probe)
            return transform if np.abs(change).max() > _SAME_COLOUR else None
        return transform
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


@cache
def _formats() -> tuple[str, ...]:
    """List those of _FORMATS that this Pillow was built with, or that the extra `heic` adds."""
    Image.init()
    with suppress(ImportError):
        from pillow_heif import register_heif_opener  # pyright: ignore[reportMissingImports]

        register_heif_opener()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _opaque(image: Image.Image, background: tuple[int, int, int, int]) -> Image.Image:
    """Lay the transparent parts of an image over a background."""
    if not image.has_transparency_data:
        return image
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, background), rgba)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Reduce grey to 8 bits: its range is the file's own, or the smallest of cameras' with room for all pixels."""
    if image.mode == "F":
        raise ImageError("its values are floating-point numbers without a known range; save it with 8 or 16 bits")
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() >= 2**16:
        raise ImageError("its values go beyond 16 bits, so their range is not known; save it with 8 or 16 bits")
    tags = getattr(image, "tag_v2", {})
    said = max(map(int, np.atleast_1d(tags.get(_MAX_SAMPLE_VALUE, 0))))
    highest = next(2**bits - 1 for bits in (8, 10, 12, 14, 16) if values.max() < 2**bits)
    highest = said if values.max() <= said < 2**16 else highest
    transparent = values == image.info.get("transparency")
    if tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE:  # which Pillow inverts in 8 bits only
        values = highest - values
    grey = Image.fromarray(np.rint(values * (255 / highest)).astype(np.uint8))
    if np.any(transparent):
        grey.putalpha(Image.fromarray(np.where(transparent, 0, 255).astype(np.uint8)))
    grey.info |= {key: value for key, value in image.info.items() if key == "icc_profile"}
    return grey


@contextmanager
def _pillow_errors_as_image_errors() -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError("it is not an image in a format that can be read; save it as JPEG or PNG") from error
    except Image.DecompressionBombError as error:
        limit = f"{(Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} megapixels"
        raise ImageError(f"it has more than {limit}, as decompression bombs do; make it smaller") from error
    except Exception as error:
        # Pillow's readers raise whatever broken bytes lead to: struct.error, KeyError, zlib.error, OverflowError …
        raise ImageError(f"{CANNOT_BE_DECODED}: {str(error) or type(error).__name__}") from error
