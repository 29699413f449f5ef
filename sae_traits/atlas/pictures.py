"""The pictures of an atlas: WebP files made of the released images while these are read, some at a time."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from sae_traits.errors import ReleaseError
from sae_traits.images.pictures import reduced_size, resized

LONGEST_SIDE, QUALITY = 512, 74
"""Of the picture on the pages of a species, an image and a latent."""
COVER_SIDE, COVER_QUALITY = 288, 68
"""Of the small picture by which a species is listed: two dozen of them are on the first page."""
_METHOD = 2
"""How hard the encoder tries, 0 to 6; 3 takes more than twice as long for 4 % fewer bytes."""


def write_picture(data: bytes, path: Path, name: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Write the picture of an image file; the size of the image, and that of the picture, as width and height.

    Raises:
        ReleaseError: the data are not an image.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            size = image.size
            image.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))  # a JPEG is decoded at a fraction of its size
            picture = resized(image.convert("RGB"), reduced_size(size, LONGEST_SIDE))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ReleaseError(f"the image of {name} cannot be read ({error}); get the dataset again") from error
    picture.save(path, "WEBP", quality=QUALITY, method=_METHOD)
    return size, picture.size


def write_cover(picture: Path, path: Path) -> None:
    """Write the small picture of a species, made of the picture of one of its images."""
    with Image.open(picture) as image:
        small = resized(image.convert("RGB"), reduced_size(image.size, COVER_SIDE))
    small.save(path, "WEBP", quality=COVER_QUALITY, method=_METHOD)
