"""Plain ground in a photograph: a dish, a card, a wall or the sky, whose colour hardly changes from place to place.

Organisms have texture nearly everywhere, so a large area without any that surrounds something, or goes on beyond the
photograph, is what they lie on or before, even in the middle. Nothing is learnt for this: it is read off the pixels. An
organism that is itself smooth (an egg, a cap, a leaf) is told from ground only where it lies whole in the photograph.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.measure import label

SIDE = 128
"""Pixels of the longer side that a photograph is resized to, so that grain and compression do not count as texture."""
WINDOW = 5
"""Pixels per side of the square in which colours are compared."""
MAX_DEVIATION = 2.5
"""Standard deviation of the colours (CIELAB) in it below which a place is plain. A fifth of ordinary photographs have
plain ground then, and 0 to 4 % of it lies on an organism; with 1.5 a seventh (0 to 1 %), with 4 a third (0 to 7 %)."""
MIN_SHARE = 0.2
"""Of the photograph: a smaller plain area may be part of an organism."""
MIN_SURROUNDED = 0.02
"""Of the photograph: an area that does not reach its edge is ground if it surrounds this much; an eye covers less."""
MARGIN = 4
"""Pixels at the ground's border that are left out, half a patch of 14 per side: a model sees the organism there."""


def plain_ground(image: Image.Image) -> NDArray[np.bool_] | None:
    """Mark the large connected plain areas of a photograph that is resized; None where there is none.

    Args:
        image: in RGB.

    Returns:
        `[rows, columns]` over the whole photograph, without the margin.
    """
    scale = SIDE / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    lab = rgb2lab(np.asarray(image.resize((width, height), Image.Resampling.BOX)))
    mean = ndimage.uniform_filter(lab, WINDOW, mode="nearest", axes=(0, 1))
    variance = (ndimage.uniform_filter(lab**2, WINDOW, mode="nearest", axes=(0, 1)) - mean**2).sum(axis=2)
    areas = np.asarray(label(variance < MAX_DEVIATION**2, connectivity=1))
    large = 1 + np.flatnonzero(np.bincount(areas.ravel())[1:] >= MIN_SHARE * areas.size)
    ground = np.isin(areas, [area for area in large if _is_around_something(areas == area)])
    if not ground.any():
        return None
    return np.asarray(ndimage.binary_erosion(ground, iterations=MARGIN, border_value=1), dtype=bool)


def _is_around_something(area: NDArray[np.bool_]) -> bool:
    """Whether a connected area reaches the photograph's edge, or surrounds enough of what is not part of it."""
    if area[[0, -1]].any() or area[:, [0, -1]].any():
        return True
    filled = np.asarray(ndimage.binary_fill_holes(area), dtype=bool)
    return int(filled.sum() - area.sum()) >= MIN_SURROUNDED * area.size


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
