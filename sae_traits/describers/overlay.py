"""Draw a region on its image, so that it can be seen whatever lies below and whoever looks; cut it out with context."""

from dataclasses import replace

from PIL import Image, ImageDraw

from sae_traits.schema import Region

BLACK, WHITE, ORANGE = (0, 0, 0), (255, 255, 255), (230, 159, 0)
"""Orange of the palette of Okabe and Ito (2008), which colour-blind readers tell apart; black and white by contrast."""
SMALL = 200
"""Pixels of the longer side, below which an outline of two pixels would cover a good part of what it surrounds."""
CONTEXT = 0.5
"""Margin around a region's crop, in units of the longer side of its box."""
MIN_CROP = 32
"""Pixels per side; a crop of less shows nothing, however much it is enlarged."""


def draw_region(image: Image.Image, region: Region) -> Image.Image:
    """A copy of an RGB image with the region's outline (orange, edged black) and its box (white, edged black).

    Lines grow with the image; below SMALL pixels they are as thin as can be, so that they do not hide the region, which
    is in pixels of the image.
    """
    drawn = image.copy()
    draw = ImageDraw.Draw(drawn)
    thin = max(1, round(max(image.size) / 300))
    left, top, width, height = region.box
    box = (left, top, left + width, top, left + width, top + height, left, top + height)
    thick = 2 * thin if max(image.size) >= SMALL else 1
    for ring, color, line in [(box, WHITE, thin), *((polygon, ORANGE, thick) for polygon in region.polygons)]:
        _draw_ring(draw, ring, BLACK, line + 2 * thin, image.size)
        _draw_ring(draw, ring, color, line, image.size)
    return drawn


def _draw_ring(
    draw: ImageDraw.ImageDraw, ring: tuple[float, ...], color: tuple[int, int, int], width: int, size: tuple[int, int]
) -> None:
    """Draw a closed line; what lies on the image's border is moved in, so that the line shows."""
    xs = [min(max(x, 0), size[0] - 1) for x in ring[::2]]
    ys = [min(max(y, 0), size[1] - 1) for y in ring[1::2]]
    points = list(zip(xs, ys, strict=True))
    # Ending on the second point gives the first corner its joint, too.
    draw.line([*points, *points[:2]], fill=color, width=width, joint="curve")


def place_region(region: Region, origin: tuple[float, float], scale: tuple[float, float]) -> Region:
    """A region in the pixels of a picture that was cut out at `origin` and then resized by `scale`, both along x and y.

    Source pixel (x, y) becomes ((x - origin x) * scale x, (y - origin y) * scale y).
    """
    x, y, width, height = region.box

    def place(ring: tuple[float, ...]) -> tuple[float, ...]:
        return tuple((value - origin[i % 2]) * scale[i % 2] for i, value in enumerate(ring))

    box = (*place((x, y)), width * scale[0], height * scale[1])
    return replace(region, box=box, polygons=tuple(map(place, region.polygons)))


def context_box(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a crop around a box of an image of (width, height): half its longer side as margin.

    It lies within the image, and has at least MIN_CROP pixels per side where the image has.
    """
    margin = CONTEXT * max(box[2:])
    edges = []
    for start, extent, whole in zip(box[:2], box[2:], size, strict=True):
        side = min(whole, max(MIN_CROP, round(extent + 2 * margin)))
        first = min(max(round(start + extent / 2 - side / 2), 0), whole - side)
        edges.append((first, first + side))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom
