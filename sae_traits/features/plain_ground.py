"""Plain ground in a photograph: a dish, a card, a wall or the sky, whose colour hardly changes from place to place.

Organisms have texture nearly everywhere, so a large area without any is what they lie on or before, even in the middle
of the photograph. Nothing is learnt for this: it is read off the pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.measure import label

LONGEST_SIDE = 128
"""Pixels that a photograph is shrunk to before, so that grain and compression do not count as texture."""
WINDOW = 5
"""Pixels per side of the square in which colours are compared."""
MAX_DEVIATION = 2.5
"""Standard deviation of the colours (CIELAB) in it below which a place is plain. A fifth of ordinary photographs have
plain ground then, and 0 to 4 % of it lies on an organism; with 1.5 a seventh (0 to 1 %), with 4 a third (0 to 7 %)."""
MIN_SHARE = 0.2
"""Of the photograph: a smaller plain area may be part of an organism."""
MARGIN = 4
"""Pixels at the ground's border that are left out, half a patch of 14 per side: a model sees the organism there."""


def plain_ground(image: Image.Image) -> NDArray[np.bool_] | None:
    """Mark the largest connected plain area of a photograph that is shrunk; None where none is large enough.

    Args:
        image: in RGB.

    Returns:
        `[rows, columns]` over the whole photograph, without the margin.
    """
    scale = LONGEST_SIDE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    lab = rgb2lab(np.asarray(image.resize((width, height), Image.Resampling.BOX)))
    mean = ndimage.uniform_filter(lab, WINDOW, mode="nearest", axes=(0, 1))
    variance = (ndimage.uniform_filter(lab**2, WINDOW, mode="nearest", axes=(0, 1)) - mean**2).sum(axis=2)
    areas = np.asarray(label(variance < MAX_DEVIATION**2, connectivity=1))
    sizes = np.bincount(areas.ravel())[1:]
    if not len(sizes) or sizes.max() < MIN_SHARE * areas.size:
        return None
    largest = areas == sizes.argmax() + 1
    return np.asarray(ndimage.binary_erosion(largest, iterations=MARGIN, border_value=1), dtype=bool)


def lies_on(ground: NDArray[np.bool_] | None, places: NDArray[np.intp], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Whether places of a photograph lie on its plain ground `[n]`.

    Args:
        ground: of `plain_ground`.
        places: x and y, in pixels of the photograph `[n, 2]`.
        size: width and height of the photograph.
    """
    if ground is None:
        return np.zeros(len(places), dtype=bool)
    columns, rows = (places * np.array(ground.shape[::-1]) // np.array(size)).T
    return ground[rows, columns]
