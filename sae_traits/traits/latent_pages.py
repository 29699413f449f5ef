"""What a latent stands for: the species that it describes, and the images in which it fires most strongly.

Made for looking: two tables, and a contact sheet a latent with its regions outlined.
"""

from __future__ import annotations

import csv
import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Collection as Several
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from sae_traits.describers.overlay import draw_region, place_region
from sae_traits.errors import ConfigError, ImageError
from sae_traits.images.decode import open_image
from sae_traits.schema import BackboneInfo, ChosenLatent, Collection, ImageRecord, Region
from sae_traits.traits.chosen import LatentsBySpecies
from sae_traits.traits.encode import Codes
from sae_traits.traits.regions import make_region, strongest_component

_COLUMNS, _TILE, _CAPTION = 4, 288, 44
_Fired = tuple[float, int, NDArray[np.int32], NDArray[np.float32]]
"""Peak, minus the image's row (so that of equals the first is the stronger), patches and values."""


@dataclass(frozen=True, kw_only=True)
class StrongImage:
    """One of the images in which a latent is strongest."""

    record: ImageRecord
    activation: float
    """The peak."""
    region: Region
    """The connected group of patches with the largest summed activation."""


@dataclass(frozen=True, kw_only=True)
class LatentPage:
    """What is known of a latent."""

    latent: int
    threshold: float
    """It fires above this activation."""
    n_fired: int
    """Images of the collection, of all splits, in which it fires."""
    dropped: str | None
    """Why it describes no species, where it was dropped for a reason."""
    chosen: tuple[ChosenLatent, ...]
    """The species that it describes, with their contrast."""
    strongest: tuple[StrongImage, ...]
    """Images of any species and split, the strongest first."""

    def statistics_rows(self) -> list[dict[str, Any]]:
        """One row a species that it describes; one without a species where it describes none."""
        own = {"latent": self.latent, "threshold": self.threshold, "n_fired_in_all": self.n_fired}
        rows = []
        for choice in self.chosen:
            numbers = {"n_fired": choice.n_fired, "n_images": choice.n_images}
            rows.append(own | {"species": choice.species} | asdict(choice.contrast) | numbers)
        return rows or [own | {"dropped": self.dropped or "chosen for no species"}]

    def image_rows(self) -> list[dict[str, Any]]:
        """One row a strong image; boxes in pixels of the source image."""
        rows = []
        for rank, found in enumerate(self.strongest, start=1):
            one = found.record
            x, y, width, height = found.region.box
            who = {"image_id": one.image_id, "species": one.taxon.species, "split": one.split, "file": one.file}
            box = {"x": x, "y": y, "width": width, "height": height, "area_fraction": found.region.area_fraction}
            rows.append({"latent": self.latent, "rank": rank} | who | {"activation": found.activation} | box)
        return rows


STATISTICS_COLUMNS = (
    "latent", "threshold", "n_fired_in_all", "species", "f_species", "f_reference", "effect", "q_value", "significant",
    "reference_rank", "n_fired", "n_images", "dropped",
)  # fmt: skip
SPECIMEN_COLUMNS = (
    "latent", "rank", "image_id", "species", "split", "file", "activation", "x", "y", "width", "height",
    "area_fraction",
)  # fmt: skip


def latent_pages(
    codes: Codes,
    chosen: LatentsBySpecies,
    collection: Collection,
    info: BackboneInfo,
    *,
    latents: Several[int] | None = None,
    n_strongest: int = 12,
) -> list[LatentPage]:
    """Read the codes once, a part at a time, and say what is known of some latents.

    Args:
        codes: of the collection.
        chosen: the latents that describe its species.
        collection: whose codes they are.
        info: for the patches of its images.
        latents: which; None takes all that describe a species.
        n_strongest: images a latent, at most; only these are in memory.

    Raises:
        ConfigError: there is no such latent.
    """
    by_latent = _by_latent(chosen, latents)
    wanted = sorted(by_latent if latents is None else set(latents))
    if missing := [latent for latent in wanted if not 0 <= latent < codes.n_latents]:
        raise ConfigError(f"the SAE has latents 0 to {codes.n_latents - 1}, not {', '.join(map(str, missing))}")
    n_fired, strongest = _strongest(codes, wanted, n_strongest)
    dropped = {drop.latent: drop.reason for drop in chosen.dropped}
    return [
        LatentPage(
            latent=latent,
            threshold=float(codes.thresholds[latent]),
            n_fired=int(n_fired[latent]),
            dropped=dropped.get(latent),
            chosen=tuple(by_latent.get(latent, ())),
            strongest=tuple(_strong_image(fired, collection, info) for fired in strongest[latent]),
        )
        for latent in wanted
    ]


def _by_latent(
    chosen: Mapping[str, Mapping[int, ChosenLatent]], latents: Several[int] | None
) -> dict[int, list[ChosenLatent]]:
    """The species of each latent, in the order of `chosen`."""
    found: dict[int, list[ChosenLatent]] = {}
    only = None if latents is None else set(latents)
    for own in chosen.values():
        for latent, choice in own.items():
            if only is None or latent in only:
                found.setdefault(latent, []).append(choice)
    return found


def _strongest(codes: Codes, wanted: Sequence[int], n: int) -> tuple[NDArray[np.int64], dict[int, list[_Fired]]]:
    """In how many images each latent fired `[n_latents]`, and where the wanted ones were strongest."""
    n_fired = np.zeros(codes.n_latents, dtype=np.int64)
    heaps: dict[int, list[_Fired]] = {latent: [] for latent in wanted}
    # What a latent's peak must exceed to be among the strongest: most firings are turned away without a Python object.
    floor = np.full(codes.n_latents, np.inf)
    floor[list(wanted)] = -np.inf if n > 0 else np.inf
    for found in codes.images():
        starts = np.flatnonzero(np.diff(found.latents, prepend=-1))
        latents, peaks = found.latents[starts], np.maximum.reduceat(found.values, starts)
        n_fired[latents] += 1
        ends = np.append(starts[1:], len(found.latents))
        for i in np.flatnonzero(peaks > floor[latents]):
            latent, rows = int(latents[i]), slice(starts[i], ends[i])
            fired = float(peaks[i]), -found.image, found.patches[rows].copy(), found.values[rows].copy()
            heap = heaps[latent]
            if len(heap) < n:
                heapq.heappush(heap, fired)
            else:
                heapq.heapreplace(heap, fired)
            if len(heap) == n:
                floor[latent] = heap[0][0]
    return n_fired, {latent: sorted(heap, key=lambda one: one[:2], reverse=True) for latent, heap in heaps.items()}


def _strong_image(fired: _Fired, collection: Collection, info: BackboneInfo) -> StrongImage:
    peak, minus_row, patches, values = fired
    record = collection.images[-minus_row]
    grid = info.grid((record.width, record.height))
    component, _ = strongest_component(patches, values, grid)
    region = make_region([int(patch) for patch in component], grid)
    return StrongImage(record=record, activation=peak, region=region)


def write_latent_pages(pages: Iterable[LatentPage], collection: Collection, folder: Path) -> list[Path]:
    """Write latents.csv, images.csv and latent-00000.png … into a folder; the files written, the tables first."""
    pages = list(pages)
    folder.mkdir(parents=True, exist_ok=True)
    tables = folder / "latents.csv", folder / "images.csv"
    _write_table(tables[0], STATISTICS_COLUMNS, (row for page in pages for row in page.statistics_rows()))
    _write_table(tables[1], SPECIMEN_COLUMNS, (row for page in pages for row in page.image_rows()))
    files = [*tables]
    for page in pages:
        if page.strongest:
            files.append(folder / f"latent-{page.latent:05d}.png")
            contact_sheet(page, collection).save(files[-1])
    return files


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def contact_sheet(
    page: LatentPage, collection: Collection, open_picture: Callable[[ImageRecord], Image.Image] | None = None
) -> Image.Image:
    """Draw the strongest images of a latent with their regions outlined, in reading order; images are opened in turn.

    Args:
        page: with at least one image.
        collection: whose images they are.
        open_picture: gives a picture of an image, of any size and of the same shape; None opens the photograph.
    """
    open_picture = open_picture or (lambda record: open_image(collection.path(record)))
    # Pillow's own font lacks the multiplication sign of hybrids.
    font = ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), 12)
    n_rows = math.ceil(len(page.strongest) / _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * _TILE, n_rows * (_TILE + _CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for (left, top), found in zip(_places(len(page.strongest)), page.strongest, strict=True):
        sheet.paste(_tile(found, open_picture, font), (left, top))
        species = found.record.taxon.species or "no label"
        caption = f"{species}\n{found.record.image_id[:24]}, {found.activation:.3g}"
        draw.multiline_text((left, top + _TILE - 6), caption, fill="black", font=font)
    return sheet


def _places(n: int) -> Iterator[tuple[int, int]]:
    return ((index % _COLUMNS * _TILE + 4, index // _COLUMNS * (_TILE + _CAPTION) + 4) for index in range(n))


def _tile(
    found: StrongImage, open_picture: Callable[[ImageRecord], Image.Image], font: ImageFont.FreeTypeFont
) -> Image.Image:
    """The image with its region; an image that can no longer be read becomes a tile that says so."""
    size = _TILE - 8, _TILE - 8
    try:
        image = open_picture(found.record)
    except ImageError as error:
        tile = Image.new("RGB", size, "white")
        ImageDraw.Draw(tile).text((4, 4), f"{found.record.file}\n{error}", fill="black", font=font)
        return tile
    reduced = ImageOps.contain(image, size)
    scale = reduced.width / found.record.width, reduced.height / found.record.height
    return draw_region(reduced, place_region(found.region, (0, 0), scale))
