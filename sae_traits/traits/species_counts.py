"""How often each latent fired in each species, added up while the codes are read part by part.

All the contrast needs of a collection: its size is bounded by species x latents that fired, whatever the number of
images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from sae_traits.schema import Taxon

PENDING_CELLS = 8_000_000
"""Cells of parts that wait before they are merged: merging costs as much as all that was merged before."""


@dataclass(frozen=True)
class SpeciesCounts:
    """What the contrast knows of the training images."""

    taxa: tuple[Taxon, ...]
    """One a species, in the order of their names; `species` is never None."""
    n_latents: int
    """Size of the dictionary."""
    n_images: NDArray[np.int64]
    """Images of each species `[n_species]`."""
    images: csr_array
    """Images of each species in which each latent fired, int32 `[n_species, n_latents]`."""
    patches: csr_array
    """Patches of each species at which each latent fired, int64 `[n_species, n_latents]`."""

    def mean_share(self) -> NDArray[np.float64]:
        """In which share of a species' images a latent fires, the mean over species `[n_latents]`.

        Over species, not images: what fires in all images of one common species does not fire everywhere.
        """
        weights = 1 / (self.n_images * max(len(self.taxa), 1))
        return np.asarray(self.images.T @ weights).ravel()


def count_firings(
    parts: Iterable[csr_array],
    taxa: Sequence[Taxon | None],
    n_latents: int,
    *,
    pending_cells: int = PENDING_CELLS,
) -> SpeciesCounts:
    """Add up the firings of every species.

    Args:
        parts: patches at which each latent fired in each image, sparse `[n_images, n_latents]`; each part holds
            some of the images, its other rows are empty.
        taxa: the taxon of each image; those without a taxon or a species are not counted (other splits).
        n_latents: size of the dictionary.
        pending_cells: cells of parts that wait before they are merged; for memory and speed, not the result.
    """
    names = sorted({taxon.species for taxon in taxa if taxon is not None and taxon.species is not None})
    index = {name: row for row, name in enumerate(names)}
    species = np.array([-1 if t is None or t.species is None else index[t.species] for t in taxa], dtype=np.intp)
    shape = (len(names), n_latents)
    records = _Sum(shape, np.dtype(np.int32), pending_cells)
    patches = _Sum(shape, np.dtype(np.int64), pending_cells)
    for part in parts:
        once = csr_array((np.ones_like(part.data), part.indices, part.indptr), shape=part.shape)
        records.add(group_totals(once, species, len(names)))
        patches.add(group_totals(part, species, len(names)))
    return SpeciesCounts(
        taxa=_taxa_of_species(names, taxa),
        n_latents=n_latents,
        n_images=np.bincount(species[species >= 0], minlength=len(names)),
        images=records.total(),
        patches=patches.total(),
    )


def group_totals(counts: csr_array, group: NDArray[np.intp], n_groups: int) -> csr_array:
    """Sum of the rows of each group, sparse `[n_groups, n_latents]`; rows with a negative group are left out."""
    rows = np.flatnonzero(group >= 0)
    ones = np.ones(len(rows), dtype=counts.dtype)
    members = csr_array((ones, (group[rows], rows)), shape=(n_groups, len(group)))
    return csr_array(members @ counts)


class _Sum:
    """A sum of many sparse arrays of one shape, merged some at a time."""

    def __init__(self, shape: tuple[int, int], dtype: np.dtype, pending_cells: int) -> None:
        self._merged = csr_array(shape, dtype=dtype)
        self._pending_cells = pending_cells
        self._pending: list[coo_array] = []
        self._n_pending = 0

    def add(self, addend: csr_array) -> None:
        self._pending.append(addend.tocoo())
        self._n_pending += addend.nnz
        if self._n_pending >= self._pending_cells:
            self._merge()

    def total(self) -> csr_array:
        """The sum of all that was added, with sorted indices."""
        self._merge()
        self._merged.sort_indices()
        return self._merged

    def _merge(self) -> None:
        if not self._pending:
            return
        data = np.concatenate([addend.data for addend in self._pending]).astype(self._merged.dtype)
        row, column = (np.concatenate([addend.coords[axis] for addend in self._pending]) for axis in (0, 1))
        self._pending, self._n_pending = [], 0
        self._merged = self._merged + csr_array((data, (row, column)), shape=self._merged.shape)


def _taxa_of_species(names: Sequence[str], taxa: Sequence[Taxon | None]) -> tuple[Taxon, ...]:
    """One taxon a species: at each rank the name that most of its images have, of those that have one."""
    ranks = ("genus", "family", "order")
    votes: dict[tuple[str, str], Counter[str]] = {(name, rank): Counter() for name in names for rank in ranks}
    for taxon, n_images in Counter(taxa).items():
        if taxon is None or taxon.species is None:
            continue
        for rank in ranks:
            if (value := taxon.rank(rank)) is not None:
                votes[taxon.species, rank][value] += n_images
    chosen = []
    for name in names:
        # Of equally frequent names the first in the alphabet, so that the order of images does not matter.
        best = {
            rank: min(counts, key=lambda value: (-counts[value], value))
            for rank in ranks
            if (counts := votes[name, rank])
        }
        chosen.append(Taxon(species=name, **best))
    return tuple(chosen)
