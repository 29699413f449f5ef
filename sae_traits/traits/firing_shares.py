"""In how many individuals of each species latents fire, told apart by whether anything was learnt from them.

A latent fires wherever its activation is above its threshold, also where no region is kept of it: an image has a few
regions at most. So these shares, and not numbers of regions, say how often what a latent stands for is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Collection as Several
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from sae_traits.schema import ChosenLatent, Collection, ImageRecord, Taxon
from sae_traits.traits.contrast import relatives
from sae_traits.traits.species_counts import SpeciesCounts, count_firings
from sae_traits.vocabulary import ReferenceRank

if TYPE_CHECKING:
    from sae_traits.traits.encode import Codes  # loads torch


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
        """Individuals of a species."""
        return self._sum(0, (species,), held_out).of

    def of_species(self, latent: int, species: str, *, held_out: bool) -> Share:
        """Individuals of a species in which a latent fires."""
        return self._sum(latent, (species,), held_out)

    def of_relatives(self, latent: int, species: str, rank: ReferenceRank, *, held_out: bool) -> Share:
        """The same of the rest of the species' reference group of a rank."""
        return self._sum(latent, self.relatives(species, rank), held_out)

    def relatives(self, species: str, rank: ReferenceRank) -> tuple[str, ...]:
        """The other species of the reference group, of those with training individuals."""
        return relatives(self.training.taxa, species, rank)

    @cached_property
    def _row(self) -> dict[bool, dict[str, int]]:
        counts = {False: self.training, True: self.held_out}
        return {held_out: {str(t.species): row for row, t in enumerate(of.taxa)} for held_out, of in counts.items()}

    def _sum(self, latent: int, species: Several[str], held_out: bool) -> Share:
        counts, row = self.held_out if held_out else self.training, self._row[held_out]
        rows = [row[name] for name in species if name in row]
        fired = sum(int(counts.fired[i, latent]) for i in rows)
        return Share(fired, int(counts.n_individuals[rows].sum()) if rows else 0)


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
        others = firing.of_relatives(one.latent, one.species, one.contrast.reference_rank, held_out=True)
        added.append(replace(one, held_out_f_species=own.value, held_out_f_reference=others.value) if own.of else one)
    return added


def percent(share: float) -> str:
    """Give a share in whole per cent, or to two digits below one."""
    of_hundred = 100 * share
    return f"{of_hundred:.0f} %" if of_hundred >= 1 or of_hundred == 0 else f"{of_hundred:.2g} %"
