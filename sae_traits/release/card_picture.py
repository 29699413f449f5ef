"""The picture with which the card of a dataset opens: what tells some of its species apart, outlined and said."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from sae_traits.evaluation.species_order import DescribedLatent, best_first
from sae_traits.evaluation.species_tallies import DescribedRegion, Tally, said_of
from sae_traits.evaluation.telling_words import SaidOfSpecies
from sae_traits.io import write_whole
from sae_traits.release.facts import DatasetSummary, Rights
from sae_traits.release.tables import ConfigName, Row
from sae_traits.schema import Contrast, Region, Taxon
from sae_traits.traits.contact_sheet import cut_out, font, wrap_text
from sae_traits.traits.contrast import relatives_among
from sae_traits.traits.released_latents import CONTRAST, contrast_of
from sae_traits.vocabulary import RANKS, SPLITS, Split

CARD_PICTURE = "atlas.jpg"
"""What it is called in the folder of a dataset."""
N_SHOWN, _COLUMNS = 8, 4
_SIDE, _GAP, _LINE = 264, 16, 18
"""Of a tile, between tiles, and from one line of a caption to the next, in pixels."""
_PAPER, _INK, _GREY = "#fbfaf7", "#1c1b1a", "#5d5a55"
"""As in the atlas."""
_QUALITY = 82
_DESCRIBED = [
    "trait_id", "species", "individual_id", "text", "part", "part_source", "attributes", "region_source", "latent",
    "activation", "background", *CONTRAST,
]  # fmt: skip
_SHOWN = ["image", "species", "text", "box", "polygons", *CONTRAST, "license", "rights_holder"]


def draw_card_picture(folder: Path, summary: DatasetSummary) -> tuple[Rights, ...] | None:
    """Draw some traits of a dataset into its folder: of some species the latent that report and atlas put first.

    Of its regions the one that they show; see `Tally.shown`. An earlier picture goes.

    Returns:
        Those of the images in it; None, and no picture, where the dataset holds no images.
    """
    (folder / CARD_PICTURE).unlink(missing_ok=True)
    if summary.images != "embed":
        return None
    rows = _read(folder, _best_of_species(folder))
    sheet = io.BytesIO()
    _draw(rows).save(sheet, "JPEG", quality=_QUALITY)
    write_whole(folder / CARD_PICTURE, sheet.getvalue())
    rights = Counter((row["license"], row["rights_holder"]) for row in rows)
    return tuple(Rights(*names, n) for names, n in rights.most_common())


def _best_of_species(folder: Path) -> list[str]:
    """One trait per species, those with the best evidence first; photographs that came without labels are one each."""
    held_out: dict[str, set[str]] = defaultdict(set)
    learnt_from: dict[str, Taxon] = {}
    for split, row in _rows(folder, "images", ["individual_id", *RANKS]):
        if split != "train":
            held_out[_group(row)].add(row["individual_id"])
        elif row["species"] is not None:
            learnt_from[row["species"]] = Taxon.from_dict({rank: row[rank] for rank in RANKS})
    shares = ["species", "latent", "held_out_f_species", "held_out_f_reference"]
    chosen = {(row["species"], row["latent"]): row for _, row in _rows(folder, "latents", shares)}
    tallies: dict[str, dict[str, Tally]] = defaultdict(dict)
    rows: dict[tuple[str, str], Row] = {}
    for split, row in _rows(folder, "default", _DESCRIBED):
        name = row["region_source"] if row["latent"] is None else str(row["latent"])
        rows.setdefault((_group(row), name), row)
        tallies[_group(row)].setdefault(name, Tally()).count(_described(split, row))
    said, relatives = SaidOfSpecies(tallies, held_out), relatives_among(list(learnt_from.values()))

    def described(species: str, name: str) -> DescribedLatent:
        row = rows[species, name]
        own = chosen.get((row["species"], row["latent"]))
        contrast = _contrast(row) if own is not None or row["species"] is None else None  # not that of another species
        again = None if own is None else own["held_out_f_species"]
        return DescribedLatent(
            name=name,
            tally=tallies[species][name],
            contrast=contrast,
            held_out=None if own is None or again is None else (again, own["held_out_f_reference"]),
            relatives=() if contrast is None else relatives(species, contrast.reference_rank),
        )

    best = {
        species: best_first([described(species, name) for name in found], said, species)[0][0]
        for species, found in tallies.items()
    }
    first = sorted(best, key=lambda species: (best[species].order, species))
    return [best[species].shown.trait_id for species in first[:N_SHOWN]]


def _group(row: Row) -> str:
    """The species, or a name that no species has of an individual without a label."""
    return row["species"] or f" {row['individual_id']}"


def _described(split: Split, row: Row) -> DescribedRegion:
    attributes = ((one["name"], one["value"]) for one in row["attributes"])
    return DescribedRegion(
        trait_id=row["trait_id"],
        individual_id=row["individual_id"],
        split=split,
        text=row["text"],
        said=said_of(row["part"], row["part_source"], attributes),
        peak=row["activation"],
        background=row["background"],
    )


def _groups_of_rows(folder: Path, config: ConfigName) -> Iterator[tuple[Split, pq.ParquetFile, int]]:
    """The groups of rows of a config, of which one is in memory."""
    for split in SPLITS:
        for path in sorted((folder / "data" / config).glob(f"{split}-*.parquet")):
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    yield split, file, group


def _rows(folder: Path, config: ConfigName, columns: list[str]) -> Iterator[tuple[Split, Row]]:
    """Some columns of all rows of a config, with their split."""
    for split, file, group in _groups_of_rows(folder, config):
        for row in file.read_row_group(group, columns=columns).to_pylist():
            yield split, row


def _contrast(row: Row) -> Contrast | None:
    """The contrast of a trait; None of a region without a latent, or of a latent that was not contrasted."""
    return None if row["f_species"] is None else Contrast(**contrast_of(row))


def _read(folder: Path, trait_ids: Sequence[str]) -> list[Row]:
    """What is shown of some traits."""
    rows: dict[str, Row] = {}
    for _, file, group in _groups_of_rows(folder, "default"):
        of_group = file.read_row_group(group, columns=["trait_id"])["trait_id"].to_pylist()
        if places := [(number, one) for number, one in enumerate(of_group) if one in trait_ids]:
            table = file.read_row_group(group, columns=_SHOWN)
            rows |= {trait_id: table.slice(number, 1).to_pylist()[0] for number, trait_id in places}
    return [rows[trait_id] for trait_id in trait_ids]


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
