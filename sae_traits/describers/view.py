"""What a model is shown of a region: pictures drawn, resized and encoded in the worker processes."""

import base64
import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sae_traits.describers.overlay import CONTEXT, MIN_CROP, context_box, draw_region, place_region
from sae_traits.images.pictures import fitted_size
from sae_traits.schema import Measurement, Region

MIN_SIDE, MAX_SIDE = 512, 768
"""Pictures are enlarged or reduced until their longer side lies between: small photographs show more to a model when
enlarged (the paper doubles its 256 pixels), large ones cost tokens."""
QUALITY = 90
VERSION = 1
"""Raised whenever the same image could give another picture."""
_PREFIX = "data:image/jpeg;base64,"


@dataclass(frozen=True, slots=True)
class View:
    """The pictures of one region, as JPEG data URLs: the image with the region outlined, its crop, or both."""

    show: Literal["overlay", "crop", "both", "whole"]
    """whole: the image as it is."""

    @property
    def settings(self) -> dict[str, Any]:
        """All that the pictures depend on besides image and region."""
        numbers = {"context": CONTEXT, "smallest_crop": MIN_CROP, "sides": [MIN_SIDE, MAX_SIDE]}
        return {"show": self.show, "view_version": VERSION, "quality": QUALITY, **numbers}

    def __call__(
        self,
        image: NDArray[np.uint8],
        region: Region,
        measurement: Measurement,
        mask: NDArray[np.bool_] | None = None,
    ) -> tuple[str, ...]:
        """The pictures of a region of an upright RGB image `[height, width, 3]`; no mask changes them."""
        whole = Image.fromarray(image)
        pictures = []
        if self.show != "crop":
            resized = whole.resize(picture_size(whole.size), Image.Resampling.LANCZOS)
            if self.show != "whole":
                scale = resized.width / whole.width, resized.height / whole.height
                resized = draw_region(resized, place_region(region, (0, 0), scale))
            pictures.append(resized)
        if self.show in ("crop", "both"):
            crop = whole.crop(context_box(region.box, whole.size))
            pictures.append(crop.resize(picture_size(crop.size), Image.Resampling.LANCZOS))
        return tuple(map(encode_picture, pictures))

    def sizes(self, source: tuple[int, int], region: Region) -> list[tuple[int, int]]:
        """Width and height of the pictures of a region of an image of (width, height) pixels."""
        left, top, right, bottom = context_box(region.box, source)
        crop = [picture_size((right - left, bottom - top))] if self.show in ("crop", "both") else []
        return [*([] if self.show == "crop" else [picture_size(source)]), *crop]


def picture_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the picture of an image of a size, with its longer side between MIN_SIDE and MAX_SIDE."""
    return fitted_size(size, min(max(*size, MIN_SIDE), MAX_SIDE))


def decode_picture(url: str) -> Image.Image:
    """The picture in a data URL that a View made."""
    return Image.open(io.BytesIO(base64.b64decode(url.removeprefix(_PREFIX))))


def encode_picture(picture: Image.Image) -> str:
    """A picture as a JPEG data URL."""
    file = io.BytesIO()
    # Colour at full resolution: halved, it would smear the thin outlines.
    picture.save(file, "JPEG", quality=QUALITY, subsampling=0)
    return _PREFIX + base64.b64encode(file.getvalue()).decode("ascii")
