"""The picture of a report, read back: outlines lie around what they were drawn around."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from traits.made_traits import box_region, described, record_of, trait_of

from sae_traits.describers.overlay import ORANGE
from sae_traits.evaluation.figures import draw_gallery
from sae_traits.schema import Collection
from sae_traits.traits.contact_sheet import close_up

MARGIN = 30
"""Of a region around the blue block, in source pixels."""
BLUE = (20, 40, 220)


def bounds(picture, color):
    """Left, top, right and bottom of all pixels near a colour, both ends included."""
    rows, columns = np.nonzero(np.abs(picture.astype(int) - color).max(axis=2) < 40)
    assert len(rows), f"nothing has the colour {color}"
    return np.array([columns.min(), rows.min(), columns.max(), rows.max()])


@pytest.mark.parametrize(
    ("size", "block"),
    [
        ((936, 624), (450, 300, 90, 120)),  # shrunk to a third
        ((624, 936), (300, 600, 120, 90)),
        ((156, 104), (60, 40, 30, 20)),  # enlarged to twice its size
    ],
)
def test_outlines_of_the_picture_lie_around_what_they_outline(tmp_path, size, block):
    x, y, width, height = block
    photograph = Image.new("RGB", size, (200, 200, 200))
    ImageDraw.Draw(photograph).rectangle((x, y, x + width - 1, y + height - 1), fill=BLUE)
    collection = Collection(tmp_path, (record_of(0, size=size),))
    margin = MARGIN if max(size) > 300 else MARGIN / 3
    region = box_region(x - margin, y - margin, width + 2 * margin, height + 2 * margin, size)

    traits = [trait_of(0, 3, described(), region=region)]
    assert draw_gallery(collection, traits, tmp_path / "regions.png", lambda record: photograph) == 1

    picture = np.array(Image.open(tmp_path / "regions.png").convert("RGB"))
    outline, inside = bounds(picture, ORANGE), bounds(picture, BLUE)
    scale = (inside[2] - inside[0] + 1) / width
    assert outline - inside == pytest.approx(scale * margin * np.array([-1, -1, 1, 1]), abs=3)
    assert scale == pytest.approx(312 / max(size), rel=0.04), "the photograph fills its tile"


@pytest.mark.parametrize("shrunk", [1, 2])
@pytest.mark.parametrize("block", [(450, 300, 90, 120), (0, 0, 90, 90), (840, 564, 96, 60), (100, 10, 700, 600)])
def test_a_close_up_shows_the_region_where_it_is_with_what_is_around(block, shrunk):
    x, y, width, height = block
    photograph = Image.new("RGB", (936, 624), (200, 200, 200))
    ImageDraw.Draw(photograph).rectangle((x, y, x + width - 1, y + height - 1), fill=BLUE)
    region = box_region(x, y, width, height, (936, 624))

    def open_picture(record):
        return photograph.resize((936 // shrunk, 624 // shrunk))

    picture = close_up(record_of(0, size=(936, 624)), region, open_picture, side=240)
    assert picture.size == (240, 240)
    seen = np.array(picture)
    outline, inside = bounds(seen, ORANGE), bounds(seen, BLUE)
    assert outline == pytest.approx(np.clip(inside + np.array([-1, -1, 1, 1]), 0, 239), abs=5)
    if width < 200:
        assert inside[2] - inside[0] == pytest.approx(width * 240 / max(208, 2 * max(width, height)), abs=6)
