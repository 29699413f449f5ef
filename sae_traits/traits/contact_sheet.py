"""A sheet of images with regions outlined, for looking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from sae_traits.describers.overlay import draw_region, place_region
from sae_traits.errors import ImageError
from sae_traits.images.pictures import fitted_size
from sae_traits.schema import ImageRecord, Region

OpenPicture = Callable[[ImageRecord], Image.Image]
"""Gives a picture of an image, of any size and of the same shape."""
_MARGIN, _LINE = 4, 16
"""Around a tile, and from one line of a caption to the next, in pixels."""


def draw_sheet(
    shown: Sequence[tuple[ImageRecord, Region, str]], open_picture: OpenPicture, *, n_columns: int, side: int
) -> Image.Image:
    """Draw images with one region outlined on each and a caption below, in reading order; images are opened in turn.

    Captions are whole: they are wrapped, and a row of tiles is as high as its tallest image and longest caption need.

    Args:
        shown: at least one image, its region in source pixels, and its caption.
        open_picture: opens an image; where it raises an ImageError, the tile says so.
        side: of a tile in pixels, with its margins.
    """
    letters, inner = font(), side - 2 * _MARGIN
    captions = [wrap_text(caption, letters, inner) for _, _, caption in shown]
    tiles = [fitted_size((record.width, record.height), inner) for record, _, _ in shown]
    rows = [slice(first, first + n_columns) for first in range(0, len(shown), n_columns)]
    tallest = [max(height for _, height in tiles[row]) for row in rows]
    lengths = [_LINE * max(map(len, captions[row])) for row in rows]
    heights = [tile + length + 4 * _MARGIN for tile, length in zip(tallest, lengths, strict=True)]
    sheet = Image.new("RGB", (n_columns * side, sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (record, region, _) in enumerate(shown):
        row = index // n_columns
        left, top = index % n_columns * side + _MARGIN, sum(heights[:row]) + _MARGIN
        try:
            tile = open_picture(record).resize(tiles[index], Image.Resampling.LANCZOS)
        except ImageError as error:
            draw.text((left + _MARGIN, top + _MARGIN), f"{record.file}\n{error}", fill="black", font=letters)
        else:
            scale = tile.width / record.width, tile.height / record.height
            sheet.paste(draw_region(tile, place_region(region, (0, 0), scale)), (left, top))
        for number, line in enumerate(captions[index]):
            draw.text((left, top + tallest[row] + _MARGIN + number * _LINE), line, fill="black", font=letters)
    return sheet


def wrap_text(text: str, letters: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break the lines of a text at blanks, or within a word that is too long, so that none is wider than `width`."""
    lines = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            joined = f"{line} {word}".lstrip()
            if letters.getlength(joined) > width and line:
                lines.append(line)
                joined = word
            while letters.getlength(joined) > width and len(joined) > 1:
                fits = next(
                    n for n in range(len(joined) - 1, 0, -1) if n == 1 or letters.getlength(joined[:n]) <= width
                )
                lines.append(joined[:fits])
                joined = joined[fits:]
            line = joined
        lines.append(line)
    return lines


def close_up(record: ImageRecord, region: Region, open_picture: OpenPicture, *, side: int) -> Image.Image:
    """Cut a region out of its image with what is around it, and outline it.

    A square of twice the region's longer side, or of a third of the image's shorter one where that is more, so that a
    reader sees where on the organism it is.

    Args:
        open_picture: opens an image; where it raises an ImageError, the picture says so.
        side: of the picture in pixels.
    """
    try:
        picture = open_picture(record)
    except ImageError as error:
        blank = Image.new("RGB", (side, side), "white")
        ImageDraw.Draw(blank).text((_MARGIN, _MARGIN), f"{record.file}\n{error}", fill="black", font=font())
        return blank
    return cut_out(
        picture, place_region(region, (0, 0), (picture.width / record.width, picture.height / record.height)), side=side
    )


def cut_out(picture: Image.Image, region: Region, *, side: int) -> Image.Image:
    """As `close_up`, of a picture that is open, with the region in its pixels."""
    x, y, width, height = region.box
    shorter = min(picture.size)
    extent = min(shorter, max(2 * max(width, height), shorter / 3))
    left = min(max(x + width / 2 - extent / 2, 0), picture.width - extent)
    top = min(max(y + height / 2 - extent / 2, 0), picture.height - extent)
    cut = picture.convert("RGB").resize(
        (side, side), Image.Resampling.LANCZOS, box=(left, top, left + extent, top + extent)
    )
    return draw_region(cut, place_region(region, (left, top), (side / extent, side / extent)))


def font(face: str = "DejaVuSans", size: int = 12) -> ImageFont.FreeTypeFont:
    """A font with the multiplication sign of hybrids, which Pillow's own lacks: one of those that matplotlib brings."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{face}.ttf"), size)
