"""What a latent stands for: the species that it describes, and the images in which it fires most strongly.

Made for looking: two tables, and a contact sheet per latent with the patches outlined at which it fires: raw, as a
dictionary has them. The regions of a dataset leave out what is probably background, and follow the image.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection as Several
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, starmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sae_traits.errors import ConfigError
from sae_traits.io import write_csv
from sae_traits.schema import BackboneInfo, ChosenLatent, Collection, ImageRecord, Region
from sae_traits.traits.chosen import LatentsBySpecies
from sae_traits.traits.codes import Codes
from sae_traits.traits.contact_sheet import OpenPicture, draw_sheet
from sae_traits.traits.regions import make_region, strongest_component
from sae_traits.traits.species_counts import IndividualFirings

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
    """Individuals of the collection, of all splits, in which it fires."""
    dropped: str | None
    """Why it describes no species, where it was dropped for a reason."""
    chosen: tuple[ChosenLatent, ...]
    """The species that it describes, with their contrast."""
    strongest: tuple[StrongImage, ...]
    """Images of any species and split, one per individual, the strongest first."""

    def statistics_rows(self) -> list[dict[str, Any]]:
        """One row per species that it describes; one without a species where it describes none."""
        latent = {"latent": self.latent, "threshold": self.threshold, "n_fired_in_all": self.n_fired}
        rows = []
        for choice in self.chosen:
            numbers = {"n_fired": choice.n_fired, "n_individuals": choice.n_individuals}
            rows.append(latent | {"species": choice.species} | asdict(choice.contrast) | numbers)
        return rows or [latent | {"dropped": self.dropped or "chosen for no species"}]

    def image_rows(self) -> list[dict[str, Any]]:
        """One row per strong image; boxes in pixels of the source image."""
        rows = []
        for rank, image in enumerate(self.strongest, start=1):
            record, region = image.record, image.region
            place = dict(zip(("x", "y", "width", "height"), region.box, strict=True))
            who = {name: getattr(record, name) for name in ("image_id", "individual_id", "split", "file")}
            what = {"latent": self.latent, "rank": rank, "species": record.taxon.species}
            rows.append(what | who | {"activation": image.activation, "area_fraction": region.area_fraction} | place)
        return rows


STATISTICS_COLUMNS = (
    "latent", "threshold", "n_fired_in_all", "species", "f_species", "f_reference", "effect", "q_value", "significant",
    "reference_rank", "n_fired", "n_individuals", "dropped",
)  # fmt: skip
IMAGE_COLUMNS = (
    "latent", "rank", "image_id", "individual_id", "species", "split", "file", "activation", "x", "y", "width",
    "height", "area_fraction",
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
    """Read the codes, a part at a time, and say what is known of some latents.

    Args:
        latents: which; None takes all that describe a species.
        n_strongest: images per latent, at most; only these are in memory.

    Raises:
        ConfigError: there is no such latent.
    """
    by_latent: dict[int, list[ChosenLatent]] = defaultdict(list)
    for of_species in chosen.values():
        for latent, choice in of_species.items():
            by_latent[latent].append(choice)
    wanted = sorted(by_latent if latents is None else set(latents))
    if missing := [latent for latent in wanted if not 0 <= latent < codes.n_latents]:
        raise ConfigError(f"the SAE has latents 0 to {codes.n_latents - 1}, not {', '.join(map(str, missing))}")
    individuals = [record.individual_id for record in collection.images]
    n_fired, strongest = _count_individuals(codes, individuals), _strongest(codes, individuals, wanted, n_strongest)
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


def _count_individuals(codes: Codes, individuals: Sequence[str]) -> NDArray[np.int64]:
    """In how many individuals each latent fired `[n_latents]`."""
    firings = IndividualFirings(individuals, np.zeros(len(individuals), dtype=np.intp), codes.n_latents)
    n_fired = np.zeros(codes.n_latents, dtype=np.int64)
    for fired, _ in chain(starmap(firings.add, codes.firing_counts()), firings.rest()):
        n_fired += np.bincount(fired.indices, minlength=codes.n_latents)
    return n_fired


def _strongest(codes: Codes, individuals: Sequence[str], wanted: Sequence[int], n: int) -> dict[int, list[_Fired]]:
    """Where the wanted latents were strongest: at most n images each, one per individual."""
    strongest: dict[int, dict[str, _Fired]] = {latent: {} for latent in wanted}
    # What a latent's peak must exceed to be among the strongest: most firings are turned away without a Python object.
    floor = np.full(codes.n_latents, np.inf)
    floor[list(wanted)] = -np.inf if n > 0 else np.inf
    for image in codes.images():
        starts = np.flatnonzero(np.diff(image.latents, prepend=-1))
        latents, peaks = image.latents[starts], np.maximum.reduceat(image.values, starts)
        ends = np.append(starts[1:], len(image.latents))
        individual = individuals[image.image]
        for i in np.flatnonzero(peaks > floor[latents]):
            latent, rows = int(latents[i]), slice(starts[i], ends[i])
            kept = strongest[latent]
            fired = float(peaks[i]), -image.image, image.patches[rows].copy(), image.values[rows].copy()
            if individual not in kept or kept[individual][:2] < fired[:2]:
                kept[individual] = fired
            if len(kept) > n:
                del kept[min(kept, key=lambda name: kept[name][:2])]
            if len(kept) == n:
                floor[latent] = min(peak for peak, *_ in kept.values())
    return {z: sorted(kept.values(), key=lambda fired: fired[:2], reverse=True) for z, kept in strongest.items()}


def _strong_image(fired: _Fired, collection: Collection, info: BackboneInfo) -> StrongImage:
    peak, minus_row, patches, values = fired
    record = collection.images[-minus_row]
    grid = info.grid((record.width, record.height))
    component, _ = strongest_component(patches, values, grid)
    region = make_region(component.tolist(), grid)
    return StrongImage(record=record, activation=peak, region=region)


def write_latent_pages(pages: Iterable[LatentPage], open_picture: OpenPicture, folder: Path) -> list[Path]:
    """Write latents.csv, images.csv and latent-00000.png … into a folder; the files written, the tables first."""
    pages = list(pages)
    folder.mkdir(parents=True, exist_ok=True)
    tables = folder / "latents.csv", folder / "images.csv"
    statistics = (row for page in pages for row in page.statistics_rows())
    images = (row for page in pages for row in page.image_rows())
    for path, columns, rows in zip(tables, (STATISTICS_COLUMNS, IMAGE_COLUMNS), (statistics, images), strict=True):
        write_csv(path, columns, ([row.get(column, "") for column in columns] for row in rows))
    files = [*tables]
    for page in pages:
        if page.strongest:
            files.append(folder / f"latent-{page.latent:05d}.png")
            contact_sheet(page, open_picture).save(files[-1])
    return files


def contact_sheet(page: LatentPage, open_picture: OpenPicture) -> Image.Image:
    """Draw the strongest images of a latent, in each the strongest patches at which it fires outlined."""
    shown = []
    for image in page.strongest:
        who = f"{image.record.taxon.species or 'no label'}\n{image.record.image_id[:24]}, {image.activation:.3g}"
        shown.append((image.record, image.region, who))
    return draw_sheet(shown, open_picture, n_columns=4, side=288)
