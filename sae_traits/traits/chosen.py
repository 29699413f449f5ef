"""The latents that describe each species: rows of a contrast, kept in columns and looked up a species at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from sae_traits.schema import ChosenLatent, Contrast, ImageRecord
from sae_traits.traits.contrast import SIGNIFICANT_Q, SpeciesContrasts
from sae_traits.traits.species_counts import SpeciesCounts

SPECIES_KEPT = 64
"""Species whose chosen latents are kept as objects: images of a species tend to follow each other."""


@dataclass(frozen=True, slots=True)
class DroppedLatent:
    """A latent that describes no species, and why."""

    latent: int
    share: float
    """Share of a species' individuals in the train split in which it fires, the mean over species."""

    @property
    def reason(self) -> str:
        """For a report."""
        return f"fires in {100 * self.share:.0f} % of the average species' individuals"


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
        self, contrasts: SpeciesContrasts, thresholds: NDArray[np.float32], dropped: tuple[DroppedLatent, ...]
    ) -> None:
        self.contrasts = contrasts
        self.dropped = dropped
        self._thresholds = thresholds
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
                threshold=float(self._thresholds[table.latent[i]]),
                contrast=Contrast(
                    f_species=float(table.f_species[i]),
                    f_reference=float(table.f_reference[i]),
                    effect=float(table.effect[i]),
                    q_value=float(table.q_value[i]),
                    significant=bool(table.q_value[i] <= SIGNIFICANT_Q),
                    reference_rank=table.reference_rank[row],
                ),
                n_fired=int(table.n_fired[i]),
                n_individuals=int(table.n_individuals[row]),
            )
            for i in range(int(table.offsets[row]), int(table.offsets[row + 1]))
        }


def choose_latents(
    contrasts: Iterable[SpeciesContrasts],
    thresholds: NDArray[np.float32],
    dropped: tuple[DroppedLatent, ...] = (),
) -> ChosenLatents:
    """The significant rows of a contrast; all rows of a species that has none (small classes, Algorithm 1).

    Args:
        contrasts: blocks of species; only what is chosen of a block stays in memory.
        thresholds: a latent fires above this activation `[n_latents]`.
    """
    useless = np.zeros(len(thresholds), dtype=bool)
    useless[[drop.latent for drop in dropped]] = True

    def choose(block: SpeciesContrasts) -> SpeciesContrasts:
        useful = ~useless[block.latent]
        species, significant = block.row_species, block.significant & useful
        has_significant = np.bincount(species[significant], minlength=len(block.species)) > 0
        return block.where(significant | (useful & ~has_significant[species]))

    return ChosenLatents(SpeciesContrasts.join(map(choose, contrasts)), thresholds, dropped)


def latents_everywhere(counts: SpeciesCounts, max_species_share: float) -> tuple[DroppedLatent, ...]:
    """The latents that fire nearly everywhere, and so say nothing of any species; in ascending order.

    Args:
        counts: firings of the training images; of a single species nothing can be said, so nothing is dropped.
        max_species_share: of the average species' individuals; a latent that fires in more is dropped.
    """
    if len(counts.taxa) < 2:
        return ()
    shares = counts.mean_share()
    return tuple(DroppedLatent(int(z), float(shares[z])) for z in np.flatnonzero(shares > max_species_share))


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
