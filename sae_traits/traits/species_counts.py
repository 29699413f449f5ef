"""How often each latent fired in each species, added up while the codes are read part by part.

All the contrast needs of a collection: its size is bounded by species x latents that fired, whatever the number of
images. An individual fired a latent if any of its images did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, vstack

from sae_traits.schema import Taxon
from sae_traits.vocabulary import RANKS

FiringsOfImages = tuple[NDArray[np.intp], csr_array]
"""Rows of some images in the collection, ascending `[n]`, and the patches at which each latent fired in each of them,
sparse `[n, n_latents]`."""
PENDING_CELLS = 8_000_000
"""Cells of parts that wait before they are merged: merging costs as much as all that was merged before."""


@dataclass(frozen=True)
class SpeciesCounts:
    """What the contrast knows of the training images."""

    taxa: tuple[Taxon, ...]
    """One per species, in the order of their names; `species` is never None."""
    n_latents: int
    """Size of the dictionary."""
    n_individuals: NDArray[np.int64]
    """Individuals of each species `[n_species]`."""
    fired: csr_array
    """Individuals of each species in which each latent fired, int32 `[n_species, n_latents]`."""
    patches: csr_array
    """Patches of each species at which each latent fired, int64 `[n_species, n_latents]`."""

    def mean_share(self) -> NDArray[np.float64]:
        """In which share of a species' individuals a latent fires, the mean over species `[n_latents]`.

        Over species, not individuals: what fires in all of one common species does not fire everywhere.
        """
        weights = 1 / (self.n_individuals * max(len(self.taxa), 1))
        return np.asarray(self.fired.T @ weights).ravel()

    def without(self, latents: Sequence[int]) -> SpeciesCounts:
        """The same as if some latents had never fired: nothing is tested of them."""
        kept = np.ones(self.n_latents, dtype=bool)
        kept[list(latents)] = False
        return replace(self, fired=_columns(self.fired, kept), patches=_columns(self.patches, kept))


def _columns(counts: csr_array, kept: NDArray[np.bool_]) -> csr_array:
    """Counts with some columns alone, the others empty."""
    cells = counts.tocoo()
    inside = kept[cells.col]
    return csr_array((cells.data[inside], (cells.row[inside], cells.col[inside])), shape=counts.shape)


def count_firings(
    parts: Iterable[FiringsOfImages],
    taxa: Sequence[Taxon | None],
    individuals: Sequence[str],
    n_latents: int,
    *,
    pending_cells: int = PENDING_CELLS,
) -> SpeciesCounts:
    """Add up the firings of every species.

    Args:
        parts: the firings of some of the images each, which come after those of the parts before it; images in which
            nothing fired may be left out.
        taxa: the taxon of each image; those without a taxon or a species are not counted (other splits).
        pending_cells: cells of parts that wait before they are merged; for memory and speed, not the result.
    """
    names = sorted({taxon.species for taxon in taxa if taxon is not None and taxon.species is not None})
    index = {name: row for row, name in enumerate(names)}
    species = np.array([-1 if t is None or t.species is None else index[t.species] for t in taxa], dtype=np.intp)
    by_individual = IndividualFirings(individuals, species, n_latents)
    shape = (len(names), n_latents)
    fired, patches = (_Sum(shape, np.dtype(dtype), pending_cells) for dtype in (np.int32, np.int64))
    for images, counts in parts:
        patches.add(group_totals(counts, species[images], len(names)))
        fired.add(group_totals(*by_individual.add(images, counts), len(names)))
    for rest in by_individual.rest():
        fired.add(group_totals(*rest, len(names)))
    return SpeciesCounts(
        taxa=_taxa_of_species(names, taxa),
        n_latents=n_latents,
        n_individuals=np.bincount(by_individual.group, minlength=len(names)),
        fired=fired.total(),
        patches=patches.total(),
    )


class IndividualFirings:
    """Makes of the firings of images those of individuals, each of which may have images in several parts.

    What the images of an individual fired is carried along until its last image is there. That is next to nothing
    where the images of an individual follow each other, and at most the firings of a collection where all individuals
    come once before any comes twice.

    Args:
        individuals: the individual of each image.
        groups: a number of each image, such as that of its species `[n_images]`; images with a negative one are left
            out, and an individual that is in two groups is one of each.
    """

    def __init__(self, individuals: Sequence[str], groups: NDArray[np.intp], n_latents: int) -> None:
        self._n_latents = n_latents
        numbers: dict[tuple[str, int], int] = {}
        self._individual = np.full(len(individuals), -1, dtype=np.intp)
        for row in np.flatnonzero(groups >= 0).tolist():
            self._individual[row] = numbers.setdefault((individuals[row], int(groups[row])), len(numbers))
        self.group = np.array([group for _, group in numbers], dtype=np.intp)
        """Of each individual `[n_individuals]`."""
        self._last_image = np.zeros(len(numbers), dtype=np.intp)
        rows = np.flatnonzero(groups >= 0)
        self._last_image[self._individual[rows]] = rows  # of a repeated index the last, which is the largest, stays
        self._carried: tuple[NDArray[np.intp], csr_array] | None = None
        """Numbers of individuals, and what they fired."""

    def add(self, images: NDArray[np.intp], counts: csr_array) -> tuple[csr_array, NDArray[np.intp]]:
        """What the individuals that are complete with a part fired.

        Args:
            images, counts: of the part, as in `count_firings`.

        Returns:
            1 where any image of the individual fired the latent, sparse int32 `[n, n_latents]`, and the group of each
            individual `[n]`.
        """
        fired = csr_array((np.ones(counts.nnz, np.int32), counts.indices, counts.indptr), shape=counts.shape)
        numbers = self._individual[images]
        if self._carried is not None:
            numbers = np.concatenate([self._carried[0], numbers])
            fired = csr_array(vstack([self._carried[1], fired], format="csr"))
        present = np.unique(numbers[numbers >= 0])
        fired = group_totals(fired, np.where(numbers >= 0, np.searchsorted(present, numbers), -1), len(present))
        fired.data[:] = 1
        is_open = self._last_image[present] > images.max(initial=-1)
        self._carried = (present[is_open], fired[is_open]) if is_open.any() else None
        return fired[~is_open], self.group[present[~is_open]]

    def rest(self) -> Iterator[tuple[csr_array, NDArray[np.intp]]]:
        """Those that were carried along to the end, because nothing fired in their last image; as in `add`."""
        if self._carried is not None:
            numbers, fired = self._carried
            yield fired, self.group[numbers]


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
        self._merged = csr_array(self._merged + csr_array((data, (row, column)), shape=self._merged.shape))


def _taxa_of_species(names: Sequence[str], taxa: Sequence[Taxon | None]) -> tuple[Taxon, ...]:
    """One taxon per species: at each rank the name that most of its images have, of those that have one."""
    ranks = RANKS[:-1]
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
        chosen.append(Taxon.from_dict(best | {"species": name}))
    return tuple(chosen)
