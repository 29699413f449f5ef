"""Names for colours: a stated vocabulary with anchors, and the nearest name by CIEDE2000.

Each name has several sRGB anchors, because a colour word covers more than a ball around one point: organisms are mostly
muted, drawings are mostly saturated, and both are called green. The saturated anchors follow the medians of the XKCD
colour survey (Munroe 2010, CC0); the muted ones were added by us for photographs of animals and plants.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab

Lab = tuple[float, float, float]

VOCABULARY: dict[str, tuple[str, ...]] = {
    "black": ("#000000", "#141414", "#241f1c"),
    "dark grey": ("#3c3c3c", "#4e4e4e"),
    "grey": ("#6a6a6a", "#808080", "#929591", "#9c9c96"),
    "pale grey": ("#b2b2b2", "#c4c4c2"),
    "white": ("#ffffff", "#f2f2f0", "#e2e2e0", "#d9d9d7"),
    "cream": ("#fff3cf", "#efe6cc"),
    "tan": ("#d2b48c", "#c0a67e", "#ad9269"),
    "brown": ("#8b5a2b", "#7a4f2a", "#6b4a2f", "#8c6a4a", "#653700"),
    "dark brown": ("#341c02", "#3d2817", "#4a3020", "#2e1f14"),
    "rufous": ("#a8441a", "#9b4a23", "#b5562b"),
    "red": ("#e50000", "#c81e1e", "#d63a30", "#b01e20"),
    "dark red": ("#7a0f14", "#5e0b15"),
    "orange": ("#f97306", "#ff8c1a", "#e8782a", "#ffa31a"),
    "ochre": ("#c9912b", "#b4822d"),
    "yellow": ("#ffff14", "#ffd700", "#f5d327", "#e0c31c", "#ffee66"),
    "olive": ("#6e750e", "#7b7a3a", "#5a5f2d"),
    "dark green": ("#033500", "#1f4d2b", "#2d4a24"),
    "green": ("#15b01a", "#2ca02c", "#3f9b3f", "#5fa052", "#228b22"),
    "pale green": ("#96d98a", "#b5d6a0"),
    "turquoise": ("#06c2ac", "#2a9d8f", "#40e0d0"),
    "pale blue": ("#95d0fc", "#add8e6", "#a9c4dd"),
    "blue": ("#0343df", "#1f77b4", "#3b6fc4", "#2b5fa8", "#4f8fe0"),
    "dark blue": ("#00035b", "#14213d", "#1a2a5e"),
    "purple": ("#7e1e9c", "#6a3d9a", "#8e5aa8", "#5b2a6e"),
    "lilac": ("#c8a2d0", "#b19cd9"),
    "pink": ("#ff81c0", "#f4a6b8", "#e377c2", "#e58f9c"),
}
"""Colour name -> sRGB anchors."""

FAMILIES: dict[str, str] = {
    "dark grey": "grey",
    "pale grey": "grey",
    "cream": "white",
    "tan": "brown",
    "rufous": "brown",
    "dark red": "red",
    "ochre": "yellow",
    "olive": "green",
    "dark green": "green",
    "pale green": "green",
    "turquoise": "blue",
    "pale blue": "blue",
    "dark blue": "blue",
    "lilac": "purple",
}
"""Finer name -> the plainer word that also holds; the names that are missing here are plain words themselves."""


def color_family(name: str) -> str:
    """One of twelve plain words that a name of the vocabulary belongs to; `dark brown` counts as one of them."""
    return FAMILIES.get(name, name)


@cache
def family_in_words(name: str) -> str | None:
    """All names of a colour's family, as in `tan/brown/rufous`; None where it has one alone, or is no colour's name."""
    names = [other for other in VOCABULARY if color_family(other) == color_family(name)]
    return "/".join(names) if name in names and len(names) > 1 else None


@cache
def _anchors() -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """The name of each anchor, and its CIELAB `[n_anchors, 3]`."""
    pairs = [(name, anchor) for name, anchors in VOCABULARY.items() for anchor in anchors]
    rgb = np.array([list(bytes.fromhex(anchor[1:])) for _, anchor in pairs], dtype=np.uint8)
    return tuple(name for name, _ in pairs), rgb2lab(rgb)


def color_name(lab: Lab) -> str:
    """The name whose nearest anchor is closest to a CIELAB colour.

    Source: the colour difference CIEDE2000, Sharma, Wu and Dalal 2005.
    """
    names, anchors = _anchors()
    differences = deltaE_ciede2000(np.broadcast_to(lab, anchors.shape), anchors)  # it does not broadcast by itself
    return names[int(np.argmin(differences))]


def color_difference(first: Lab, second: Lab) -> float:
    """CIEDE2000 difference of two CIELAB colours; about 2 is just noticeable, 20 is plain to see."""
    return float(deltaE_ciede2000(np.array(first), np.array(second)))
