"""In how many individuals of each species latents fire, told apart by whether anything was learnt from them.

A latent fires wherever its activation is above its threshold, also where no region is kept of it: an image has a few
regions at most. So these shares, and not numbers of regions, say how often what a latent stands for is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from sae_traits.schema import ChosenLatent, Collection, ImageRecord, Taxon
from sae_traits.traits.codes import Codes
from sae_traits.traits.contrast import reference_groups, relatives_among
from sae_traits.traits.species_counts import SpeciesCounts, count_firings, group_totals
from sae_traits.vocabulary import REFERENCE_RANKS, ReferenceRank


@dataclass(frozen=True, slots=True)
class Share:
    """Individuals with something, of all there are."""

    n: int
    of: int

    @property
    def value(self) -> float | None:
        """The share; None where there are none."""
        return self.n / self.of if self.of else None

    def __str__(self) -> str:
        return "none" if self.value is None else f"{percent(self.value)} ({self.n} of {self.of})"


@dataclass(frozen=True)
class FiringShares:
    """Firings in the individuals from which everything was learnt and chosen, and in those that were held out."""

    training: SpeciesCounts
    held_out: SpeciesCounts

    def n_individuals(self, species: str, *, held_out: bool) -> int:
        return self.of_species(0, species, held_out=held_out).of

    def of_species(self, latent: int, species: str, *, held_out: bool) -> Share:
        """Individuals of a species in which a latent fires."""
        counts, row = self._counts[held_out], self._row[held_out].get(species)
        return Share(0, 0) if row is None else Share(int(counts.fired[row, latent]), int(counts.n_individuals[row]))

    def fired_in(self, species: str, *, held_out: bool) -> dict[int, int]:
        """Latent -> in how many individuals of a species it fires, of those that fire in any."""
        if (row := self._row[held_out].get(species)) is None:
            return {}
        fired = self._counts[held_out].fired[[row]].tocoo()
        return dict(zip(fired.coords[1].tolist(), fired.data.tolist(), strict=True))

    def of_relatives(self, latent: int, species: str, rank: ReferenceRank) -> Share:
        """Held-out individuals of the rest of the species' reference group of a rank in which a latent fires."""
        if (group := self._group(species, rank)) < 0:
            return Share(0, 0)
        own, (fired, n_individuals) = self.of_species(latent, species, held_out=True), self._held_out_totals[rank]
        return Share(int(fired[group, latent]) - own.n, int(n_individuals[group]) - own.of)

    @cached_property
    def relatives(self) -> Callable[[str, ReferenceRank], tuple[str, ...]]:
        """Gives the other species of the reference group, of those with training individuals."""
        return relatives_among(self.training.taxa)

    @property
    def _counts(self) -> dict[bool, SpeciesCounts]:
        return {False: self.training, True: self.held_out}

    @cached_property
    def _row(self) -> dict[bool, dict[str, int]]:
        """The row of each species in the counts."""
        return {of: {str(taxon.species): row for row, taxon in enumerate(c.taxa)} for of, c in self._counts.items()}

    @cached_property
    def _groups(self) -> dict[ReferenceRank, tuple[NDArray[np.intp], int]]:
        """The reference group of each species with training individuals, and how many groups there are."""
        return {rank: reference_groups(self.training.taxa, rank) for rank in REFERENCE_RANKS}

    def _group(self, species: str, rank: ReferenceRank) -> int:
        """The species' reference group; -1 where it has none."""
        row = self._row[False].get(species)
        return -1 if row is None else int(self._groups[rank][0][row])

    @cached_property
    def _held_out_totals(self) -> dict[ReferenceRank, tuple[csr_array, NDArray[np.int64]]]:
        """Of each reference group the held-out individuals in which each latent fired, and how many it has."""
        counts, totals = self.held_out, {}
        for rank, (_, n_groups) in self._groups.items():
            groups = np.array([self._group(name, rank) for name in self._row[True]], dtype=np.intp)
            n_individuals = np.zeros(n_groups, dtype=np.int64)
            np.add.at(n_individuals, groups[groups >= 0], counts.n_individuals[groups >= 0])
            totals[rank] = group_totals(counts.fired, groups, n_groups), n_individuals
        return totals


def firing_shares(codes: Codes, collection: Collection) -> FiringShares:
    """Read the codes twice, a part at a time; images without a species are left out."""
    individuals = [record.individual_id for record in collection.images]

    def count(is_counted: Callable[[ImageRecord], bool]) -> SpeciesCounts:
        taxa: list[Taxon | None] = [record.taxon if is_counted(record) else None for record in collection.images]
        return count_firings(codes.firing_counts(), taxa, individuals, codes.n_latents)

    return FiringShares(count(lambda record: record.split == "train"), count(lambda record: record.split != "train"))


def with_held_out_shares(latents: Iterable[ChosenLatent], firing: FiringShares) -> list[ChosenLatent]:
    """Latents with the shares of held-out individuals in which they fire, where there are any of their species."""
    added = []
    for one in latents:
        own = firing.of_species(one.latent, one.species, held_out=True)
        others = firing.of_relatives(one.latent, one.species, one.contrast.reference_rank)
        added.append(replace(one, held_out_f_species=own.value, held_out_f_reference=others.value) if own.of else one)
    return added


def percent(share: float) -> str:
    """Give a share in whole per cent, or to two digits below one."""
    of_hundred = 100 * share
    return f"{of_hundred:.0f} %" if of_hundred >= 1 or of_hundred == 0 else f"{of_hundred:.2g} %"
