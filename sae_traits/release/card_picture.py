"""The picture with which the card of a dataset opens: what tells some of its species apart, outlined and said."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from sae_traits.evaluation.verdict import Observed, rank
from sae_traits.io import write_whole
from sae_traits.release.facts import DatasetSummary, Rights
from sae_traits.release.tables import Row
from sae_traits.schema import Contrast, Region
from sae_traits.traits.contact_sheet import cut_out, font, wrap_text

CARD_PICTURE = "atlas.jpg"
"""What it is called in the folder of a dataset."""
N_SHOWN, _COLUMNS = 8, 4
_SIDE, _GAP, _LINE = 264, 16, 18
"""Of a tile, between tiles, and from one line of a caption to the next, in pixels."""
_PAPER, _INK, _GREY = "#fbfaf7", "#1c1b1a", "#5d5a55"
"""As in the atlas."""
_QUALITY = 82
_CONTRAST = tuple(field.name for field in fields(Contrast))
_JUDGED = ["species", "individual_id", "activation", "background", *_CONTRAST]
_SHOWN = ["image", "species", "text", "box", "polygons", *_CONTRAST, "license", "rights_holder"]


@dataclass(frozen=True)
class _Place:
    """Where a row lies in the tables."""

    file: Path
    group: int
    row: int


def draw_card_picture(folder: Path, summary: DatasetSummary) -> tuple[Rights, ...] | None:
    """Draw some traits of a dataset into its folder: of each of some species the one with the best evidence.

    They are of the first split, which is that of training where there is one. An earlier picture goes.

    Returns:
        Those of the images in it; None, and no picture, where the dataset holds no images.
    """
    (folder / CARD_PICTURE).unlink(missing_ok=True)
    if summary.images != "embed":
        return None
    split = next(iter(summary.rows["default"]))
    files = sorted((folder / "data" / "default").glob(f"{split}-*.parquet"))
    rows = _read(_best_of_species(files))
    sheet = io.BytesIO()
    _draw(rows).save(sheet, "JPEG", quality=_QUALITY)
    write_whole(folder / CARD_PICTURE, sheet.getvalue())
    rights = Counter((row["license"], row["rights_holder"]) for row in rows)
    return tuple(Rights(*names, n) for names, n in rights.most_common())


def _best_of_species(files: Sequence[Path]) -> list[_Place]:
    """One trait per species, by the evidence for its latent, then by how strongly this fires; the best first."""
    best: dict[str, tuple[tuple[Any, ...], _Place]] = {}
    for place, row in _judged(files):
        key = (*rank(_contrast(row), Observed(background=row["background"])), -(row["activation"] or 0.0))
        group = row["species"] or f" {row['individual_id']}"  # photographs that came without labels are one each
        if group not in best or key < best[group][0]:
            best[group] = key, place
    chosen = sorted(best.items(), key=lambda item: (item[1][0], item[0]))[:N_SHOWN]
    return [place for _, (_, place) in chosen]


def _judged(files: Sequence[Path]) -> Iterator[tuple[_Place, Row]]:
    for path in files:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                rows = file.read_row_group(group, columns=_JUDGED).to_pylist()
                yield from ((_Place(path, group, number), row) for number, row in enumerate(rows))


def _contrast(row: Row) -> Contrast | None:
    """The contrast of a trait; None of a region without a latent, or of a latent that was not contrasted."""
    if row["f_species"] is None:
        return None
    q_value = math.nan if row["q_value"] is None else row["q_value"]
    values: Row = {name: row[name] for name in _CONTRAST} | {"q_value": q_value}
    return Contrast(**values)


def _read(places: Sequence[_Place]) -> list[Row]:
    """What is shown of some rows, each group of rows read once."""
    rows: dict[_Place, Row] = {}
    for path, group in {(place.file, place.group): None for place in places}:
        with pq.ParquetFile(path) as file:
            table = file.read_row_group(group, columns=_SHOWN)
        of_group = [place for place in places if (place.file, place.group) == (path, group)]
        rows |= {place: table.slice(place.row, 1).to_pylist()[0] for place in of_group}
    return [rows[place] for place in places]


def _draw(rows: Sequence[Row]) -> Image.Image:
    """Tiles in reading order, below each the species, the sentence and the two shares."""
    name, text = font("DejaVuSerif-BoldItalic", 16), font(size=13)
    captions = [
        [(line, name, _INK) for line in wrap_text(row["species"] or "no label", name, _SIDE)]
        + [(line, text, _INK) for line in wrap_text(row["text"], text, _SIDE)]
        + [(line, text, _GREY) for line in wrap_text(_shares(row), text, _SIDE)]
        for row in rows
    ]
    lines = [slice(first, first + _COLUMNS) for first in range(0, len(rows), _COLUMNS)]
    heights = [_SIDE + _GAP // 2 + _LINE * max(map(len, captions[line])) + _GAP for line in lines]
    n_columns = min(_COLUMNS, len(rows))
    sheet = Image.new("RGB", (n_columns * (_SIDE + _GAP) + _GAP, sum(heights) + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (row, caption) in enumerate(zip(rows, captions, strict=True)):
        left = _GAP + number % _COLUMNS * (_SIDE + _GAP)
        top = _GAP + sum(heights[: number // _COLUMNS])
        sheet.paste(_tile(row), (left, top))
        for place, (line, letters, color) in enumerate(caption):
            draw.text((left, top + _SIDE + _GAP // 2 + place * _LINE), line, fill=color, font=letters)
    return sheet


def _tile(row: Row) -> Image.Image:
    with Image.open(io.BytesIO(row["image"]["bytes"])) as image:
        polygons = tuple(map(tuple, row["polygons"]))
        region = Region(box=tuple(row["box"]), polygons=polygons, patches=(), area_fraction=0.0)
        return cut_out(image.convert("RGB"), region, side=_SIDE)


def _shares(row: Row) -> str:
    """In which share of individuals the latent fires; nothing where it was not tested, as by the paper's contrast."""
    if row["q_value"] is None:
        return ""
    return f"in {100 * row['f_species']:.0f} %, of its relatives in {100 * row['f_reference']:.0f} %"
