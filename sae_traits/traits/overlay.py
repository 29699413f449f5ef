"""Draw a region on its image, so that it can be seen whatever lies below and whoever looks; cut it out with context."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image, ImageDraw, ImageFont

from sae_traits.schema import Region

BLACK, WHITE, ORANGE = (0, 0, 0), (255, 255, 255), (230, 159, 0)
"""Orange of the palette of Okabe and Ito (2008), which colour-blind readers tell apart; black and white by contrast."""
CONTEXT = 0.5
"""Margin around a region's crop, in units of the longer side of its box."""
SMALLEST_CROP = 32
"""Pixels a side; a crop of less shows nothing, however much it is enlarged."""


def draw_region(image: Image.Image, region: Region, label: str | None = None) -> Image.Image:
    """A copy of an RGB image with the region's outline (orange, edged black) and its box (white, edged black).

    Lines and letters grow with the image.

    Args:
        image: upright RGB image.
        region: in pixels of `image`.
        label: a few words to write at the box.
    """
    drawn = image.copy()
    draw = ImageDraw.Draw(drawn)
    thin = max(1, round(max(image.size) / 300))
    left, top, width, height = region.box
    box = (left, top, left + width, top, left + width, top + height, left, top + height)
    for ring, color, line in [(box, WHITE, thin), *((polygon, ORANGE, 2 * thin) for polygon in region.polygons)]:
        _draw_ring(draw, ring, BLACK, line + 2 * thin, image.size)
        _draw_ring(draw, ring, color, line, image.size)
    if label:
        _draw_label(draw, label, region, image.size)
    return drawn


def _draw_ring(
    draw: ImageDraw.ImageDraw, ring: tuple[float, ...], color: tuple[int, int, int], width: int, size: tuple[int, int]
) -> None:
    """A closed line; what lies on the image's border is moved in, so that the line shows."""
    xs = [min(max(x, 0), size[0] - 1) for x in ring[::2]]
    ys = [min(max(y, 0), size[1] - 1) for y in ring[1::2]]
    points = list(zip(xs, ys, strict=True))
    # Ending on the second point gives the first corner its joint, too.
    draw.line([*points, *points[:2]], fill=color, width=width, joint="curve")


def _draw_label(draw: ImageDraw.ImageDraw, label: str, region: Region, size: tuple[int, int]) -> None:
    """White on black, above the box where there is room, else below its upper edge; cut to the image's width."""
    font = ImageFont.load_default(size=max(9, round(max(size) / 28)))
    text = " ".join(label.split())
    while len(text) > 1 and draw.textlength(text, font=font) > size[0] - 6:
        text = text.removesuffix("…")[:-1] + "…"
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = right - left + 6, bottom - top + 6
    x = min(max(region.box[0], 0), max(size[0] - width, 0))
    y = region.box[1] - height - 3 if region.box[1] >= height + 3 else max(min(region.box[1] + 3, size[1] - height), 0)
    draw.rectangle((x, y, x + width, y + height), fill=BLACK)
    draw.text((x + 3 - left, y + 3 - top), text, font=font, fill=WHITE)


def place_region(region: Region, origin: tuple[float, float], scale: tuple[float, float]) -> Region:
    """A region in the pixels of a picture that was cut out at `origin` and then resized by `scale`, both along x and y.

    Source pixel (x, y) becomes ((x - origin x) * scale x, (y - origin y) * scale y).
    """
    x, y, width, height = region.box
    return replace(
        region,
        box=((x - origin[0]) * scale[0], (y - origin[1]) * scale[1], width * scale[0], height * scale[1]),
        polygons=tuple(
            tuple((value - origin[i % 2]) * scale[i % 2] for i, value in enumerate(ring)) for ring in region.polygons
        ),
    )


def context_box(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a crop around a box: a margin of half its longer side, within the image.

    Args:
        box: x, y, width, height in pixels.
        size: width and height of the image; the crop has at least SMALLEST_CROP pixels a side where the image has.
    """
    margin = CONTEXT * max(box[2:])
    edges = []
    for start, extent, whole in zip(box[:2], box[2:], size, strict=True):
        side = min(whole, max(SMALLEST_CROP, round(extent + 2 * margin)))
        first = min(max(round(start + extent / 2 - side / 2), 0), whole - side)
        edges.append((first, first + side))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom
