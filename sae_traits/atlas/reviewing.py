"""The folder `review` of an atlas: a blind sheet as a page and as CSV, which works without the rest of the atlas.

Nothing in it says what an item is or of which image: pictures are called by the number of the item.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from PIL import Image

from sae_traits.atlas.drawing import close_up, full, outline_of
from sae_traits.atlas.nouns import Atlas
from sae_traits.describers.overlay import draw_region, place_region
from sae_traits.errors import ReleaseError
from sae_traits.evaluation.review.ratings import COLUMNS
from sae_traits.evaluation.review.rubric import QUESTION, RUBRIC, VERDICTS
from sae_traits.evaluation.review.sheets import Sheet
from sae_traits.images.pictures import fitted_size, resized
from sae_traits.io import write_csv
from sae_traits.rendering import render
from sae_traits.schema import Region

FOLDER = "review"
LONGEST_SIDE, _QUALITY = 768, 80
"""Of the pictures with the region drawn in."""


def write_review(folder: Path, atlas: Atlas, sheet: Sheet, templates: Path) -> None:
    """Write a sheet below the folder of an atlas.

    Raises:
        ReleaseError: an image of the sheet is not in the release, or the release names its images only.
    """
    review = folder / FOLDER
    for name in ("pictures", "outlined"):
        (review / name).mkdir(parents=True)
    images = {image.image_id: image for image in atlas.images}
    shown = []
    for number, item in enumerate(sheet.items, start=1):
        image = images.get(item.image_id)
        if image is None or image.picture is None:
            raise ReleaseError(
                f"{sheet.name} has a picture that is not in the release any more; make another with "
                "`sae-traits review sheet`"
            )
        region = Region(box=item.box, polygons=item.polygons, patches=(), area_fraction=0.0)
        region = place_region(region, (0.0, 0.0), image.size)
        x, y, width, height = (round(value) for value in region.box)
        shutil.copyfile(folder / image.picture, review / "pictures" / f"{number}.webp")
        _draw(region, folder / image.picture, review / "outlined" / f"{number}.webp")
        shown.append(
            {
                "text": item.text,
                "rights": str(image.rights),
                "size": image.size,
                "view": close_up((x, y, width, height), image.size),
                "outline": outline_of(region.polygons, (1.0, 1.0)),
            }
        )
    values = {"name": sheet.name, "items": shown}
    text = json.dumps(values, separators=(",", ":"), allow_nan=False)  # ASCII, as in all data of an atlas
    (review / "sheet.js").write_text(f"window.sheet={text};\n", encoding="ascii")
    rows = [
        (sheet.name, number, f"outlined/{number}.webp", item.text, "", "", "")
        for number, item in enumerate(sheet.items, start=1)
    ]
    write_csv(review / "sheet.csv", COLUMNS, rows)
    for name in ("atlas.css", "review.js"):
        (review / name).write_bytes((templates / name).read_bytes())
    page = render(
        templates,
        "review.html.jinja",
        title=atlas.title,
        note=atlas.note,
        question=QUESTION,
        verdicts=VERDICTS,
        rubric=RUBRIC,
        n_items=len(sheet.items),
        full=full,
    )
    (review / "index.html").write_text(page, encoding="utf-8")


def _draw(region: Region, source: Path, target: Path) -> None:
    """Write a picture with a region drawn on it, for those who fill in the table; small ones are enlarged first."""
    with Image.open(source) as image:
        size = fitted_size(image.size, LONGEST_SIDE)
        picture = resized(image.convert("RGB"), size)
        scale = size[0] / image.width, size[1] / image.height
    draw_region(picture, place_region(region, (0.0, 0.0), scale)).save(target, "WEBP", quality=_QUALITY)
