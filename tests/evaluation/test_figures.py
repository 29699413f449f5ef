"""The picture of some regions: outlines lie where the regions are, whatever the size of the photographs."""

import numpy as np
import pytest
from PIL import Image
from traits.made_traits import box_region, collection_of, described, record_of, trait_of

from sae_traits.evaluation.figures import GALLERY_SIZE, draw_gallery
from sae_traits.schema import Collection

TILE, MARGIN = 320, 4


def outlined(folder, size, box):
    """The rows and columns of a tile, as shares of the image's side, between which an outline is drawn."""
    record = record_of(0, size=size)
    Image.new("RGB", size, "black").save(folder / record.file)
    trait = trait_of(0, 1, described(), region=box_region(*box, size))
    path = folder / "figures" / "regions.png"
    assert draw_gallery(Collection(folder, (record,)), [trait], 1, path) == 1
    with Image.open(path) as sheet:
        scale = (TILE - 2 * MARGIN) / max(size)
        width, height = (round(side * scale) for side in size)
        tile = np.asarray(sheet.convert("RGB").crop((MARGIN, MARGIN, MARGIN + width, MARGIN + height)))
    rows, columns = np.nonzero(tile.max(axis=-1) > 60)
    return [(columns.min() / width, columns.max() / width), (rows.min() / height, rows.max() / height)]


@pytest.mark.parametrize("size", [(100, 80), (900, 1200), (2000, 500)])
def test_the_outline_lies_on_the_region(tmp_path, size):
    width, height = size
    box = (0.25 * width, 0.5 * height, 0.5 * width, 0.25 * height)
    across, down = outlined(tmp_path, size, box)
    assert across == pytest.approx((0.25, 0.75), abs=0.04)
    assert down == pytest.approx((0.5, 0.75), abs=0.08)


def test_regions_are_spread_evenly_over_the_traits_and_hybrids_have_a_letter(tmp_path):
    collection = collection_of(["Aus × bus"] * 45, root=tmp_path)
    for record in collection.images[::2]:
        Image.new("RGB", (record.width, record.height), "black").save(tmp_path / record.file)
    traits = [trait_of(row, 1, described()) for row in range(45)]
    path = tmp_path / "regions.png"
    assert draw_gallery(collection, traits, len(traits), path) == GALLERY_SIZE, (
        "every second one: the others are missing"
    )
    assert draw_gallery(collection, [], 0, tmp_path / "none.png") == 0
    assert not (tmp_path / "none.png").exists()
