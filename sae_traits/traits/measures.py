"""Measure a region: length, width, contrast, colour, and place on the animal, in units that a reader can check."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import shapely
from numpy.typing import NDArray

from sae_traits.describers.colours import color_name
from sae_traits.describers.surface import color_clusters, cut_out
from sae_traits.schema import Measurement, Region
from sae_traits.traits.animals import Animal, place_in_frame, place_on_animal


def measure(image: NDArray[np.uint8], region: Region, animal: Animal | None = None) -> Measurement:
    """Length, width, texture contrast and dominant colour of a region in pixels, and where on the animal it lies.

    Args:
        image: upright RGB source image `[height, width, 3]`.
        region: in pixels of `image`; may touch its border and may be as small as a pixel.
        animal: by its mask; colour and contrast are then those of the region's pixels on the animal, unless none is.
            None where no mask is used: then the place is that on the region's estimated animal, if there is one.
    """
    cutout = cut_out(image, region, animal.mask if animal else None)
    placement = place_in_frame(region, region.animal) if region.animal else None
    placement = place_on_animal(region, animal) if animal else placement
    length, width = _sides(region)
    dominant, *_ = color_clusters(cutout.lab)
    return Measurement(
        length_px=length,
        width_px=width,
        elongation=length / width,
        texture_contrast=float(cutout.lab[:, 0].std()),
        color_lab=dominant.lab,
        color_name=color_name(dominant.lab),
        **(asdict(placement) if placement else {}),
    )


def _sides(region: Region) -> tuple[float, float]:
    """Length and width of the smallest rectangle, turned as need be, around the region; at least one pixel each."""
    vertices = np.concatenate([np.reshape(ring, (-1, 2)) for ring in region.polygons])
    with np.errstate(divide="ignore", invalid="ignore"):  # a region thinner than rounding errors; its sides become 1
        rectangle = shapely.get_coordinates(shapely.oriented_envelope(shapely.multipoints(vertices)))
    sides = np.linalg.norm(np.diff(rectangle[:3], axis=0), axis=1)
    # A line has one side and a point none; nothing is measured finer than a pixel.
    width, length = sorted(max(1.0, side) for side in [*sides.tolist(), 0.0, 0.0][:2])
    return length, width
