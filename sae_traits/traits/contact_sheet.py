"""A sheet of images with regions outlined, for looking."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont, ImageOps

from sae_traits.describers.overlay import draw_region, place_region
from sae_traits.errors import ImageError
from sae_traits.schema import ImageRecord, Region

OpenPicture = Callable[[ImageRecord], Image.Image]
"""Gives a picture of an image, of any size and of the same shape."""
_CAPTION, _MARGIN = 44, 4


def draw_sheet(
    shown: Sequence[tuple[ImageRecord, Region, str]], open_picture: OpenPicture, *, n_columns: int, side: int
) -> Image.Image:
    """Draw images with one region outlined on each and a caption below, in reading order; images are opened in turn.

    Args:
        shown: at least one image, its region in source pixels, and its caption of two lines.
        open_picture: opens an image; where it raises an ImageError, the tile says so.
        side: of a tile in pixels, with its margins.
    """
    # Pillow's own font lacks the multiplication sign of hybrids.
    font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), 12)
    n_rows = math.ceil(len(shown) / n_columns)
    sheet = Image.new("RGB", (n_columns * side, n_rows * (side + _CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (record, region, caption) in enumerate(shown):
        left, top = index % n_columns * side + _MARGIN, index // n_columns * (side + _CAPTION) + _MARGIN
        try:
            tile = ImageOps.contain(open_picture(record), (side - 2 * _MARGIN, side - 2 * _MARGIN))
        except ImageError as error:
            draw.text((left + _MARGIN, top + _MARGIN), f"{record.file}\n{error}", fill="black", font=font)
        else:
            scale = tile.width / record.width, tile.height / record.height
            sheet.paste(draw_region(tile, place_region(region, (0, 0), scale)), (left, top))
        draw.multiline_text((left, top + side - 6), caption, fill="black", font=font)
    return sheet
