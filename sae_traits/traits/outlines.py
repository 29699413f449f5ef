"""Outlines that follow the image: which pixels in and around a region's patches look like the region.

A patch is coarse, the part that it lies on is not. Colours inside the region are compared with colours around it, pixel
by pixel, and how far a pixel is from the patches counts too: where colours do not tell, the outline is that of the
patches. Where it is known which patches show the organism (`Region.organism`), colours that occur more often on the
others speak against a pixel: regions have patches beside the organism, because features know their neighbourhood.

Source: histogram back-projection, Swain and Ballard 1991, as log odds of inside against around.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.special import expit
from skimage.color import rgb2lab
from skimage.measure import find_contours

from sae_traits.geometry import PatchGrid
from sae_traits.schema import BackboneInfo, ImageRecord, Region
from sae_traits.traits.regions import region_of_outlines

VERSION = 4
"""Raised whenever the same image and patches could give another outline."""
REACH = 1 / 7
"""How far around a region pixels may become part of it, as a share of the patches along the grid's shorter side: two of
14, and never fewer."""
POINTS_PER_PATCH = 12
MAXIMUM_SIDE = 384
"""Points per side at most, however many patches a region has."""
BIN_WIDTHS = (10, 8, 8)
"""Of the histogram of colours, in units of CIELAB."""
MAXIMUM_ODDS = 6.0
"""A colour's log odds are held within these, so that no single one decides."""
NEARNESS = 0.6
"""Log odds of a pixel one patch or more inside the region, by its place alone; as much against one outside."""
SAMPLE_SIDE = 128
"""Points per longer side of what patches show of a photograph, for the colours of an organism and its surroundings."""
SURROUNDINGS, ORGANISM = 0.4, 0.8
"""How surely a point shows the organism, up to which it counts as its surroundings, and from which on as the organism;
between it counts as both."""

OUTLINED = "outlined"
"""Under which the ledger keeps an outline, beside what was measured in it."""


@dataclass(frozen=True)
class Outlines:
    """How regions of a collection's photographs are outlined, before any is open."""

    info: BackboneInfo
    box_margin: float = 0.0
    """See `make_region`."""

    def of(self, record: ImageRecord) -> OutlineOfImage:
        """What outlines the regions of one image."""
        return OutlineOfImage(self.info.grid((record.width, record.height)), self.box_margin)


@dataclass(frozen=True)
class OutlineOfImage:
    """Gives the regions of one photograph outlines that follow it; needs its pixels."""

    grid: PatchGrid
    box_margin: float = 0.0
    """See `make_region`."""

    def __call__(self, image: NDArray[np.uint8], region: Region) -> Region:
        """The region with another outline, box and area; its patches stay.

        Args:
            image: upright RGB source image `[height, width, 3]`.
            region: as `make_region` made it of its patches.
        """
        window = window_of(self.grid, region.patches)
        distance = distance_of(window, region.patches, self.grid)
        lab = rgb2lab(pixels_of(image, window))
        odds = None if region.organism is None else organism_color_odds(image, self.grid, region.organism, lab)
        inside = outline_mask(lab, distance, odds)
        if (ring := ring_of(inside, window)) is None:
            return region
        outlined = region_of_outlines([ring], region.patches, self.grid.source, self.box_margin)
        return replace(outlined, animal=region.animal)


def outline_record(region: Region) -> dict[str, Any]:
    """What the image changed of a region, as plain values; `with_outline` puts it back."""
    return {"box": region.box, "polygons": region.polygons, "area_fraction": region.area_fraction}


def with_outline(region: Region, record: Mapping[str, Any]) -> Region:
    """A region of patches with the outline that its image gave it."""
    return replace(
        region,
        box=tuple(record["box"]),
        polygons=tuple(tuple(ring) for ring in record["polygons"]),
        area_fraction=record["area_fraction"],
    )


def outline_mask(
    lab: NDArray[np.float64], distance: NDArray[np.float64], organism: NDArray[np.float64] | None = None
) -> NDArray[np.bool_]:
    """Pixels that belong to a region: one connected piece without holes; none where no pixel of the patches does.

    Args:
        lab: CIELAB `[rows, columns, 3]`.
        distance: of each pixel from the border of the region's patches, in patches, positive inside `[rows, columns]`.
        organism: `organism_color_odds` of the pixels; None where the organism is not known `[rows, columns]`.
    """
    # A patch on the border of a part has both on it; its middle, more often than not, has the part.
    weight = np.clip(2 * distance, 0, 1)
    if organism is None:
        odds = color_odds(lab, weight, lab)
    else:
        odds = color_odds(lab, weight * expit(organism), lab) + np.minimum(organism, 0)
    similar = ndimage.gaussian_filter(odds, 1.0) + NEARNESS * np.clip(distance, -1, 1) > 0
    pieces, n_pieces = ndimage.label(similar)  # pyright: ignore[reportGeneralTypeIssues]
    in_patches = np.bincount(pieces[distance > 0], minlength=n_pieces + 1)
    in_patches[0] = 0
    if not in_patches.any():
        return np.zeros(distance.shape, dtype=bool)
    return ndimage.binary_fill_holes(pieces == int(np.argmax(in_patches)))  # pyright: ignore[reportReturnType]


def organism_color_odds(
    image: NDArray[np.uint8], grid: PatchGrid, organism: bytes, lab: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How much more often a colour occurs on the organism than in the rest of its photograph `[rows, columns]`.

    Args:
        image: RGB source image `[height, width, 3]`.
        grid: of its patches; what they do not show of the photograph, as of one that was cropped, has no say.
        organism: how surely each of them shows the organism, see `schema.Region`.
        lab: colours asked about, CIELAB `[rows, columns, 3]`.

    Returns:
        As log odds.
    """
    corners = grid.corners[grid.valid]
    left, top = np.floor(corners[:, :2].min(axis=0)).astype(int)
    right, bottom = np.ceil(corners[:, 2:].max(axis=0)).astype(int)
    step = -(-max(right - left, bottom - top) // SAMPLE_SIDE)
    sample = image[top:bottom:step, left:right:step]
    y, x = (start + np.arange(n) * step + 0.5 for start, n in zip((top, left), sample.shape[:2], strict=True))
    surely = grid.between_patches(np.frombuffer(organism, np.uint8) / 255, x, y)
    within = np.clip((surely - SURROUNDINGS) / (ORGANISM - SURROUNDINGS), 0, 1)
    return color_odds(rgb2lab(sample), within, lab)


def color_odds(
    lab: NDArray[np.float64], weight: NDArray[np.float64], asked: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How much more often a colour occurs inside than around, as log odds, of each pixel asked about `[rows, columns]`.

    Args:
        lab: CIELAB `[height, width, 3]`.
        weight: how far each of these pixels counts as inside, 0 to 1 `[height, width]`.
        asked: CIELAB `[rows, columns, 3]`.
    """
    color, color_asked = _bins(lab), _bins(asked)

    def frequency(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        counts = np.bincount(color.ravel(), weights=weights.ravel(), minlength=int(np.prod(_N_BINS))).reshape(_N_BINS)
        smooth = ndimage.gaussian_filter(counts, 1.0).ravel()
        return smooth[color_asked] / max(float(smooth.sum()), 1e-9) + 1e-6

    return np.clip(np.log(frequency(weight) / frequency(1 - weight)), -MAXIMUM_ODDS, MAXIMUM_ODDS)


_N_BINS = tuple(-(-extent // width) + 1 for extent, width in zip((100, 256, 256), BIN_WIDTHS, strict=True))


def _bins(lab: NDArray[np.float64]) -> NDArray[np.intp]:
    """Number of each pixel's bin in the histogram of colours `[rows, columns]`."""
    bins = np.clip(np.floor((lab - [0, -128, -128]) / BIN_WIDTHS).astype(int), 0, np.array(_N_BINS) - 1)
    return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(bins, -1, 0)), _N_BINS))


@dataclass(frozen=True)
class Window:
    """Evenly spaced points over a region's patches and those around it, within the image."""

    left: float
    top: float
    right: float
    bottom: float
    """In source pixels."""
    columns: int
    rows: int

    @property
    def step(self) -> tuple[float, float]:
        """Source pixels between points, along x and along y."""
        return (self.right - self.left) / self.columns, (self.bottom - self.top) / self.rows


def window_of(grid: PatchGrid, patches: tuple[int, ...]) -> Window:
    """The window over some patches and those within REACH of them, POINTS_PER_PATCH points per patch and side."""
    row, column = np.divmod(np.array(patches), grid.columns)
    reach = max(2, round(REACH * min(grid.rows, grid.columns)))
    first = max(0, row.min() - reach) * grid.columns + max(0, column.min() - reach)
    last = min(grid.rows - 1, row.max() + reach) * grid.columns + min(grid.columns - 1, column.max() + reach)
    left, top, right, bottom = (*grid.corners[first, :2].tolist(), *grid.corners[last, 2:].tolist())
    scale_x, scale_y = grid.scale
    sides = (right - left) * scale_x / grid.patch[0], (bottom - top) * scale_y / grid.patch[1]  # in patches
    density = min(POINTS_PER_PATCH, MAXIMUM_SIDE / max(sides))
    columns, rows = (max(2, round(side * density)) for side in sides)
    return Window(left, top, right, bottom, columns, rows)


def pixels_of(image: NDArray[np.uint8], window: Window) -> NDArray[np.uint8]:
    """Means of the image around the window's points `[rows, columns, 3]`."""
    x, y = int(window.left), int(window.top)
    crop = Image.fromarray(np.ascontiguousarray(image[y : int(np.ceil(window.bottom)), x : int(np.ceil(window.right))]))
    box = window.left - x, window.top - y, min(window.right - x, crop.width), min(window.bottom - y, crop.height)
    return np.asarray(crop.resize((window.columns, window.rows), Image.Resampling.BOX, box=box))


def distance_of(window: Window, patches: tuple[int, ...], grid: PatchGrid) -> NDArray[np.float64]:
    """How far each point is from the border of the patches, in patches, positive inside `[rows, columns]`."""
    (step_x, step_y), (scale_x, scale_y) = window.step, grid.scale
    x = window.left + (np.arange(window.columns) + 0.5) * step_x
    y = window.top + (np.arange(window.rows) + 0.5) * step_y
    chosen = np.zeros((grid.rows, grid.columns), dtype=bool)
    chosen.flat[list(patches)] = True
    inside = chosen[np.ix_(*grid.rows_and_columns(x, y))]
    sampling = step_y * scale_y / grid.patch[1], step_x * scale_x / grid.patch[0]
    # From a point to the nearest one across the border; the border lies half a step before that.
    half = max(sampling) / 2
    within = np.asarray(ndimage.distance_transform_edt(np.pad(inside, 1), sampling=sampling))[1:-1, 1:-1] - half
    if inside.all():
        return within
    beyond = np.asarray(ndimage.distance_transform_edt(~inside, sampling=sampling)) - half
    return np.where(inside, within, -beyond)


def ring_of(inside: NDArray[np.bool_], window: Window) -> NDArray[np.float64] | None:
    """The outline of one piece without holes in source pixels (x, y) `[n, 2]`, not closed; None of a speck."""
    if not inside.any():
        return None
    contour = max(find_contours(np.pad(inside, 1).astype(float), 0.5), key=len)[:, ::-1] - 0.5  # x, y; from the corner
    polygon = shapely.Polygon(contour).simplify(0.75)
    if polygon.is_empty or not polygon.is_valid or polygon.geom_type != "Polygon":
        return None
    ring = shapely.get_coordinates(shapely.get_exterior_ring(polygon.normalize()))[:-1] * window.step + [
        window.left,
        window.top,
    ]
    return np.clip(ring, [window.left, window.top], [window.right, window.bottom])
