"""The latents that describe each species: rows of a contrast, kept in columns and looked up a species at a time."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from sae_traits.errors import StoreError
from sae_traits.io import write_whole
from sae_traits.schema import ChosenLatent, ImageRecord
from sae_traits.traits.contrast import SpeciesContrasts
from sae_traits.traits.species_counts import SpeciesCounts

MAX_BACKGROUND = 0.5
"""A latent that fires on background with a higher mean probability describes no species."""
ON_BACKGROUND = "fires on background"
_NAMES = ("species", "reference_rank")
_ARRAYS = tuple(f.name for f in fields(SpeciesContrasts) if f.name not in _NAMES)
SPECIES_KEPT = 64
"""Species whose chosen latents are kept as objects: images of a species tend to follow each other."""


@dataclass(frozen=True, slots=True)
class DroppedLatent:
    """A latent that describes no species, and why."""

    latent: int
    reason: str
    """For a report."""


class LatentsBySpecies(Mapping[str, Mapping[int, ChosenLatent]]):
    """Species -> latent -> what was chosen; species without a chosen latent are no keys."""

    dropped: tuple[DroppedLatent, ...] = ()

    def of(self, record: ImageRecord) -> Mapping[int, ChosenLatent]:
        """Those of its species; for an image without a label those of all species, see `strongest_choices`."""
        species = record.taxon.species
        return self._of_all_species if species is None else self.get(species, {})

    @cached_property
    def _of_all_species(self) -> Mapping[int, ChosenLatent]:
        return strongest_choices(choice for latents in self.values() for choice in latents.values())


class ChosenLatents(LatentsBySpecies):
    """What a contrast chose, kept in columns."""

    def __init__(
        self,
        contrasts: SpeciesContrasts,
        thresholds: NDArray[np.float32],
        dropped: tuple[DroppedLatent, ...],
        background: NDArray[np.float32] | None,
        places: NDArray[np.float64] | None,
    ) -> None:
        self.contrasts = contrasts
        self.dropped = dropped
        self.thresholds = thresholds
        self.background = background
        self.places = places
        rows = np.flatnonzero(np.diff(contrasts.offsets))
        self._row_of = {contrasts.species[row]: int(row) for row in rows}
        self._read = lru_cache(maxsize=SPECIES_KEPT)(self._read_species)

    def __getitem__(self, species: str) -> Mapping[int, ChosenLatent]:
        return self._read(self._row_of[species])

    def __iter__(self) -> Iterator[str]:
        return iter(self._row_of)

    def __len__(self) -> int:
        return len(self._row_of)

    def _read_species(self, row: int) -> Mapping[int, ChosenLatent]:
        table = self.contrasts
        return {
            int(table.latent[i]): ChosenLatent(
                species=table.species[row],
                latent=int(table.latent[i]),
                threshold=float(self.thresholds[table.latent[i]]),
                contrast=table.contrast(i, row),
                n_fired=int(table.n_fired[i]),
                n_individuals=int(table.n_individuals[row]),
                background=self._background_of(int(table.latent[i])),
                usual_x=(place := self._usual_place_of(int(table.latent[i])))[0],
                usual_y=place[1],
            )
            for i in range(int(table.offsets[row]), int(table.offsets[row + 1]))
        }

    def _background_of(self, latent: int) -> float | None:
        if self.background is None or np.isnan(self.background[latent]):
            return None
        return round(float(self.background[latent]), 3)

    def _usual_place_of(self, latent: int) -> tuple[float, float] | tuple[None, None]:
        if self.places is None or np.isnan(self.places[latent]).any():
            return None, None
        x, y = self.places[latent].tolist()
        return x, y


def write_chosen(path: Path, chosen: ChosenLatents) -> None:
    """Keep what a contrast chose, to the last bit, for other processes."""
    table, buffer = chosen.contrasts, io.BytesIO()
    arrays: dict[str, Any] = {name: getattr(table, name) for name in _ARRAYS}
    arrays |= {name: np.array(getattr(table, name), dtype=np.str_) for name in _NAMES}
    arrays["dropped_latents"] = np.array([one.latent for one in chosen.dropped], dtype=np.int64)
    arrays["dropped_reasons"] = np.array([one.reason for one in chosen.dropped], dtype=np.str_)
    arrays["thresholds"] = chosen.thresholds
    if chosen.background is not None:
        arrays["background"] = chosen.background
    if chosen.places is not None:
        arrays["places"] = chosen.places
    np.savez(buffer, **arrays)
    write_whole(path, buffer.getvalue())


def read_chosen(path: Path) -> ChosenLatents:
    """Read what `write_chosen` wrote; a StoreError where it cannot be read."""
    try:
        with np.load(path) as stored:
            arrays = dict(stored)
    except (OSError, ValueError, BadZipFile) as error:
        raise StoreError(f"{path} cannot be read ({error}); prepare the shards again") from error
    columns: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
    columns |= {name: tuple(arrays[name].tolist()) for name in _NAMES}
    contrasts = SpeciesContrasts(**columns)
    pairs = zip(arrays["dropped_latents"].tolist(), arrays["dropped_reasons"].tolist(), strict=True)
    dropped = tuple(DroppedLatent(latent, reason) for latent, reason in pairs)
    return ChosenLatents(contrasts, arrays["thresholds"], dropped, arrays.get("background"), arrays.get("places"))


def choose_latents(
    contrasts: Iterable[SpeciesContrasts],
    thresholds: NDArray[np.float32],
    dropped: tuple[DroppedLatent, ...] = (),
    background: NDArray[np.float32] | None = None,
    places: NDArray[np.float64] | None = None,
    *,
    significant_only: bool = True,
) -> ChosenLatents:
    """The significant rows of a contrast; all rows where none of its species has the individuals that a test needs.

    The latter are collections of few individuals per species, and all of Algorithm 1, which tests nothing. Elsewhere a
    species without significant latents gets none: all of its rows would be what chance gives.

    Args:
        contrasts: blocks of species; only what is chosen of a block stays in memory.
        thresholds: a latent fires above this activation `[n_latents]`.
        dropped: latents that describe no species.
        background: mean probability that each latent fires on background `[n_latents]`; None where it is not known.
        places: where on organisms each latent usually fires `[n_latents, 2]`; None where it is not known.
        significant_only: whether a species without significant latents gets none, or all of its rows.
    """
    useless = np.zeros(len(thresholds), dtype=bool)
    useless[[drop.latent for drop in dropped]] = True

    def choose(block: SpeciesContrasts) -> SpeciesContrasts:
        useful = ~useless[block.latent]
        significant = block.significant & useful
        only_significant = np.bincount(block.row_species[significant], minlength=len(block.species)) > 0
        if significant_only:
            only_significant |= block.can_be_significant
        return block.where(significant | (useful & ~only_significant[block.row_species]))

    rows = SpeciesContrasts.join(map(choose, contrasts))
    if significant_only and rows.can_be_significant.any():
        rows = rows.where(rows.significant)
    return ChosenLatents(rows, thresholds, dropped, background, places)


def latents_everywhere(counts: SpeciesCounts, max_species_share: float) -> tuple[DroppedLatent, ...]:
    """The latents that fire nearly everywhere, and so say nothing of any species; in ascending order.

    Args:
        counts: firings of the training images; of a single species nothing can be said, so nothing is dropped.
        max_species_share: of the average species' individuals; a latent that fires in more is dropped.
    """
    if len(counts.taxa) < 2:
        return ()
    shares = counts.mean_share()
    return tuple(
        DroppedLatent(int(z), f"fires in {100 * shares[z]:.0f} % of the average species' individuals")
        for z in np.flatnonzero(shares > max_species_share)
    )


def latents_on_background(background: NDArray[np.float32] | None) -> tuple[DroppedLatent, ...]:
    """The latents that fire on background more than on organisms; in ascending order.

    Args:
        background: as in `choose_latents`.
    """
    if background is None:
        return ()
    return tuple(
        DroppedLatent(int(z), f"{ON_BACKGROUND} with a mean probability of {background[z]:.2f}")
        for z in np.flatnonzero(background > MAX_BACKGROUND)
    )


def strongest_choices(rows: Iterable[ChosenLatent]) -> dict[int, ChosenLatent]:
    """Latent -> its row for the species with the largest effect, of equal ones the first in the alphabet.

    These are the latents of an image whose species is unknown: each counts as it does for the species that it tells
    from its relatives best. The row's species is that of the latent; of the image it says nothing.

    Args:
        rows: of all species, read once; no more than one row per latent stays in memory.
    """
    strongest: dict[int, ChosenLatent] = {}
    for row in rows:
        other = strongest.get(row.latent)
        if other is None or (-row.contrast.effect, row.species) < (-other.contrast.effect, other.species):
            strongest[row.latent] = row
    return strongest
