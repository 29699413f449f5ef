"""Boxes around organisms, as tables give them: they lie in their image, or nearly so, or are left out."""

from sae_traits.geometry import cut_to_image
from sae_traits.logging import warn

Box = tuple[float, float, float, float]
"""x, y, width, height in pixels of the upright image."""
MAX_PIXELS_BEYOND, MAX_SHARE_BEYOND = 2.0, 0.02
"""A box may reach this far beyond a side of its image, the larger of both: tables round, and detectors guess."""
_MANY = 0.1
"""Share of the boxes that are left out, from which they are probably written in another way."""


def box_in_image(box: Box, size: tuple[int, int]) -> Box | None:
    """A box as far as it lies in an image of (width, height) pixels; None where it reaches far beyond it."""
    beyond = [max(MAX_PIXELS_BEYOND, MAX_SHARE_BEYOND * side) for side in size]
    for start, length, side, margin in zip(box[:2], box[2:], size, beyond, strict=True):
        if start < -margin or start + length > side + margin:
            return None
    return cut_to_image(box, size)


def out_of_image(box: Box, size: tuple[int, int]) -> str:
    """Say that a box reaches out of its image of (width, height) pixels."""
    x, y, width, height = box
    return f"its box of {width:g} x {height:g} pixels at ({x:g}, {y:g}) reaches out of its {size[0]} x {size[1]} pixels"


def warn_of_corners(n_outside: int, n_boxes: int) -> None:
    """Where many boxes reach out of their images, say how boxes are written."""
    if n_outside > 1 and n_outside >= _MANY * n_boxes:
        warn(
            f"{n_outside:,} of {n_boxes:,} boxes reach out of their images and are left out; a box is x, y, width and "
            "height, not the corners x1, y1, x2, y2: if these are corners, the other boxes are wrong, too"
        )
