"""Which latents describe a species: those that fire in it more than in its relatives.

`paper_contrast` is Algorithm 1 of Pahuja et al. 2026. `specimen_contrast`, the default, counts each individual once,
leaves the species out of its own reference group, and falls back from the genus to the family, the order and the whole
collection, so that a species alone in its genus gets traits too. Both work on a block of species at a time, so that
memory does not grow with species x latents.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import binom, logit

from sae_traits.schema import Contrast, Taxon
from sae_traits.traits.species_counts import SpeciesCounts, group_totals
from sae_traits.vocabulary import RANKS, REFERENCE_RANKS, ReferenceRank

SIGNIFICANT_Q = 0.05
PRIOR_STRENGTH = 4.0
"""Weight of the collection's rate in the shrunken effect, in individuals."""
RATE_FLOOR = 0.01
"""No latent's prior rate is taken below this or above one minus this."""
BLOCK_CELLS = 4_000_000
"""Cells of the dense [species, latent] array of one block."""


@dataclass(frozen=True, kw_only=True)
class SpeciesContrasts:
    """Contrasts of some species, in columns: the rows of species s are offsets[s] to offsets[s + 1]."""

    species: tuple[str, ...]
    n_individuals: NDArray[np.int64]
    """Individuals of each species in the train split `[n_species]`."""
    reference_rank: tuple[ReferenceRank, ...]
    """Rank of the reference group of each species."""
    can_be_significant: NDArray[np.bool_]
    """Whether a latent of all individuals of the species, and of none of its reference, would be significant, all of
    its other latents being without a difference; False where nothing is tested `[n_species]`."""
    offsets: NDArray[np.int64]
    """`[n_species + 1]`."""
    latent: NDArray[np.int32]
    """Ascending within a species `[n_rows]`, as all below."""
    f_species: NDArray[np.float64]
    f_reference: NDArray[np.float64]
    effect: NDArray[np.float64]
    q_value: NDArray[np.float64]
    """NaN where nothing was tested."""
    n_fired: NDArray[np.int32]
    """Individuals of the species in which the latent fired."""

    @property
    def significant(self) -> NDArray[np.bool_]:
        """Whether a row's q-value is at most SIGNIFICANT_Q `[n_rows]`."""
        return self.q_value <= SIGNIFICANT_Q

    @property
    def row_species(self) -> NDArray[np.intp]:
        """Index of each row's species `[n_rows]`."""
        return np.repeat(np.arange(len(self.species)), np.diff(self.offsets))

    def contrast(self, row: int, species: int) -> Contrast:
        """The contrast in a row, which is one of a species, given by its index."""
        return Contrast(
            f_species=float(self.f_species[row]),
            f_reference=float(self.f_reference[row]),
            effect=float(self.effect[row]),
            q_value=float(self.q_value[row]),
            significant=bool(self.q_value[row] <= SIGNIFICANT_Q),
            reference_rank=self.reference_rank[species],
        )

    def where(self, keep: NDArray[np.bool_]) -> SpeciesContrasts:
        """The rows that are kept `[n_rows]`, and all species."""
        return replace(
            self,
            offsets=np.concatenate([[0], np.cumsum(keep)])[self.offsets],
            **{name: getattr(self, name)[keep] for name in _ROW_COLUMNS},
        )

    @classmethod
    def join(cls, blocks: Iterable[SpeciesContrasts]) -> SpeciesContrasts:
        """All species of the blocks, in their order."""
        blocks = list(blocks)

        def together(name: str, dtype: type[np.generic]) -> NDArray[Any]:
            return np.concatenate([np.empty(0, dtype), *(getattr(block, name) for block in blocks)])

        lengths = [np.diff(block.offsets) for block in blocks]
        return cls(
            species=tuple(name for block in blocks for name in block.species),
            n_individuals=together("n_individuals", np.int64),
            reference_rank=tuple(rank for block in blocks for rank in block.reference_rank),
            can_be_significant=together("can_be_significant", np.bool_),
            offsets=np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths])),
            **{name: together(name, dtype) for name, dtype in _ROW_COLUMNS.items()},
        )


_ROW_COLUMNS = dict.fromkeys(("f_species", "f_reference", "effect", "q_value"), np.float64) | dict.fromkeys(
    ("latent", "n_fired"), np.int32
)


def relative_frequency(counts: csr_array) -> csr_array:
    """Share of each latent among all firings of a group: f(z) = C(z) / sum over z' of C(z').

    Args:
        counts: patches of each group (species, or genus) at which each latent fired, sparse `[n_groups, n_latents]`.

    Returns:
        Frequencies, sparse `[n_groups, n_latents]`; a group in which nothing fired is empty.

    Source: Pahuja et al. 2026, section 3.2, the two frequencies of Algorithm 1.
    """
    firings = np.asarray(counts.sum(axis=1)).ravel()
    shares = counts.data / np.repeat(firings, np.diff(counts.indptr))
    return csr_array((shares, counts.indices, counts.indptr), shape=counts.shape)


def paper_contrast(counts: SpeciesCounts, min_frequency: float) -> Iterator[SpeciesContrasts]:
    """Algorithm 1: latents with f_species > t, f_genus > t and f_species > f_genus.

    Args:
        counts: firings of the training images; species without a genus get no latents.
        min_frequency: t, the paper's t_freq.

    Returns:
        A block of species at a time; effect is log(f_species / f_genus), q_value NaN.

    Source: Pahuja et al. 2026, section 3.2, Algorithm 1.
    """
    t = min_frequency
    genus, n_genera = reference_groups(counts.taxa, "genus")
    in_genera = group_totals(counts.patches, genus, n_genera)
    for first, last in _blocks(counts):
        in_species = relative_frequency(counts.patches[first:last])
        species, latent, f_species = _cells(in_species)
        named = np.flatnonzero(genus[first:last] >= 0)
        f_genera = np.zeros((last - first, counts.n_latents))
        f_genera[named] = relative_frequency(in_genera[genus[first:last][named]]).toarray()
        f_genus = f_genera[species, latent]
        chosen = (f_species > t) & (f_genus > t) & (f_species > f_genus)
        ratio = np.divide(f_species, f_genus, out=np.ones_like(f_species), where=chosen)
        yield SpeciesContrasts(
            species=_names(counts, first, last),
            n_individuals=counts.n_individuals[first:last],
            reference_rank=("genus",) * (last - first),
            can_be_significant=np.zeros(last - first, np.bool_),
            offsets=in_species.indptr.astype(np.int64),
            latent=latent,
            f_species=f_species,
            f_reference=f_genus,
            effect=np.log(ratio),
            q_value=np.full(len(latent), np.nan),
            n_fired=counts.fired[first:last].data,
        ).where(chosen)


def specimen_contrast(counts: SpeciesCounts) -> Iterator[SpeciesContrasts]:
    """Latents that fire in a larger share of a species' individuals than of its closest relatives'.

    The reference is the rest of the genus, or of the family, the order or the collection where the narrower group has
    no second species. Effects are log odds ratios shrunk towards the collection's rate by a Dirichlet (here beta) prior
    (Monroe, Colaresi and Quinn 2008, "Fightin' Words", section 3.3), so that a latent seen in one individual of two
    does not beat one seen in nineteen of twenty. q-values are those of a one-sided hypergeometric test,
    Benjamini-Hochberg adjusted over the latents that fired in the species or its reference.

    Returns:
        A block of species at a time; the latents with a positive effect.
    """
    prior = _prior_rate(counts)
    references = _References(counts)
    for first, last in _blocks(counts):
        in_block = counts.fired[first:last]
        species, latent, fired = _cells(in_block)
        fired_in_group = references.fired(first, last)
        fired_reference = fired_in_group[species, latent] - fired
        n_species = counts.n_individuals[first:last][species]
        n_reference = references.n_individuals[first:last][species] - n_species
        effect = shrunken_effect(fired, n_species, fired_reference, n_reference, prior[latent])
        p_value = _hypergeometric_tail(fired, n_species, fired_reference, n_reference)
        n_tests = np.count_nonzero(fired_in_group, axis=1)
        of_species, of_group = counts.n_individuals[first:last], references.n_individuals[first:last]
        yield SpeciesContrasts(
            species=_names(counts, first, last),
            n_individuals=counts.n_individuals[first:last],
            reference_rank=tuple(REFERENCE_RANKS[level] for level in references.level[first:last]),
            can_be_significant=np.maximum(n_tests, 1) / binom(of_group, of_species) <= SIGNIFICANT_Q,
            offsets=in_block.indptr.astype(np.int64),
            latent=latent,
            f_species=fired / n_species,
            f_reference=fired_reference / np.maximum(n_reference, 1),
            effect=effect,
            q_value=_adjust(p_value, species, n_tests),
            n_fired=in_block.data,
        ).where(effect > 0)


def reference_groups(taxa: Sequence[Taxon], rank: ReferenceRank) -> tuple[NDArray[np.intp], int]:
    """The number of each taxon's group at a rank `[n_taxa]`, -1 without one; and how many groups there are."""
    return _factorise([("all",)] * len(taxa) if rank == "collection" else _groups_of(taxa, rank))


def relatives_among(taxa: Sequence[Taxon]) -> Callable[[str, ReferenceRank], tuple[str, ...]]:
    """Look up the others of a species' reference group by name; none of a species without one, or not among the taxa.

    Args:
        taxa: of the species with training individuals, once each.
    """
    rows = {taxon.species: row for row, taxon in enumerate(taxa)}
    groups = cache(partial(reference_groups, taxa))

    @cache
    def relatives(species: str, rank: ReferenceRank) -> tuple[str, ...]:
        row, (group, _) = rows.get(species), groups(rank)
        if row is None or group[row] < 0:
            return ()
        members: list[int] = np.flatnonzero(group == group[row]).tolist()
        return tuple(sorted(str(taxa[other].species) for other in members if other != row))

    return relatives


def shrunken_effect(
    fired: NDArray[np.integer],
    n_species: NDArray[np.integer] | int,
    fired_reference: NDArray[np.integer],
    n_reference: NDArray[np.integer] | int,
    prior: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Log odds ratio of firing in the species against the reference, both shrunk towards the prior rate `[n]`."""

    def log_odds(count: NDArray[np.integer], n: NDArray[np.integer] | int) -> NDArray[np.float64]:
        return logit((count + PRIOR_STRENGTH * prior) / (n + PRIOR_STRENGTH))

    return log_odds(fired, n_species) - log_odds(fired_reference, n_reference)


class _References:
    """The reference group of every species: the narrowest that holds a second species, or the collection."""

    def __init__(self, counts: SpeciesCounts) -> None:
        n_species = len(counts.taxa)
        self._n_latents = counts.n_latents
        self.level = np.full(n_species, -1, dtype=np.intp)
        """Index into REFERENCE_RANKS of each species' reference `[n_species]`."""
        self.n_individuals = np.zeros(n_species, dtype=np.int64)
        """Individuals of each species' reference, its own included `[n_species]`."""
        self._levels: list[tuple[NDArray[np.intp], csr_array]] = []
        for level, rank in enumerate(REFERENCE_RANKS):
            whole = rank == "collection"
            group, n_groups = reference_groups(counts.taxa, rank)
            inside = group >= 0
            # One group more, always empty, is what the -1 of a species without a name at this rank points to.
            together = np.bincount(group[inside], minlength=n_groups + 1)
            individuals = np.bincount(group[inside], weights=counts.n_individuals[inside], minlength=n_groups + 1)
            here = np.flatnonzero((self.level < 0) & inside & ((together[group] >= 2) | whole))
            self.level[here] = level
            self.n_individuals[here] = individuals[group[here]].astype(np.int64)
            # Groups that are no species' reference need no counts.
            used = np.where(np.isin(group, group[here]), group, -1)
            self._levels.append((group, group_totals(counts.fired, used, n_groups)))

    def fired(self, first: int, last: int) -> NDArray[np.int32]:
        """Individuals of the references of species `first` to `last` in which each latent fired `[n, n_latents]`."""
        fired = np.zeros((last - first, self._n_latents), dtype=np.int32)
        for level, (group, totals) in enumerate(self._levels):
            rows = np.flatnonzero(self.level[first:last] == level)
            if len(rows):
                fired[rows] = totals[group[first:last][rows]].toarray()
        return fired


def _blocks(counts: SpeciesCounts) -> Iterator[tuple[int, int]]:
    """First species of each block, and the one after its last."""
    size = max(1, BLOCK_CELLS // counts.n_latents)
    for first in range(0, len(counts.taxa), size):
        yield first, min(first + size, len(counts.taxa))


def _names(counts: SpeciesCounts, first: int, last: int) -> tuple[str, ...]:
    return tuple(str(taxon.species) for taxon in counts.taxa[first:last])


def _cells(counts: csr_array) -> tuple[NDArray[np.intp], NDArray[np.int32], NDArray[Any]]:
    """Row, column and value of every cell that is not empty; whole numbers as int64, so that products fit."""
    row = np.repeat(np.arange(len(counts.indptr) - 1), np.diff(counts.indptr))
    values = counts.data.astype(np.int64) if counts.dtype.kind == "i" else counts.data
    return row, counts.indices.astype(np.int32, copy=False), values


def _prior_rate(counts: SpeciesCounts) -> NDArray[np.float64]:
    """Share of all individuals in which each latent fired, kept away from 0 and 1 `[n_latents]`."""
    fired = np.asarray(counts.fired.sum(axis=0, dtype=np.int64)).ravel()
    return np.clip(fired / max(int(counts.n_individuals.sum()), 1), RATE_FLOOR, 1 - RATE_FLOOR)


def _hypergeometric_tail(
    fired: NDArray[np.integer],
    n_species: NDArray[np.integer],
    fired_reference: NDArray[np.integer],
    n_reference: NDArray[np.integer],
) -> NDArray[np.float64]:
    """P(at least `fired` of the individuals in which the latent fired are of the species), by chance `[n]`."""
    from scipy.stats import hypergeom  # scipy.stats takes a while to load, and not every command contrasts

    p_value = np.ones(len(fired))
    higher = np.flatnonzero(fired * np.maximum(n_reference, 1) > fired_reference * n_species)
    a, n, b, m = (values[higher] for values in (fired, n_species, fired_reference, n_reference))
    _, sizes = np.unique(n * (m.max(initial=0) + 1) + m, return_inverse=True)
    key = (sizes * (a.max(initial=0) + 1) + a) * (b.max(initial=0) + 1) + b
    _, first, same = np.unique(key, return_index=True, return_inverse=True)
    a, n, b, m = (values[first] for values in (a, n, b, m))
    p_value[higher] = hypergeom.sf(a - 1, n + m, a + b, n)[same]
    return p_value


def _adjust(p_value: NDArray[np.float64], family: NDArray[np.intp], n_tests: NDArray[np.intp]) -> NDArray[np.float64]:
    """Benjamini-Hochberg q-values within each family, whose further tests all had p = 1."""
    order = np.lexsort((p_value, family))
    starts = np.searchsorted(family, np.arange(len(n_tests)))
    rank = np.arange(len(p_value)) - starts[family] + 1
    scaled = np.minimum(p_value[order] * (n_tests[family] / rank), 1)
    # The smallest of a value and of those after it in its family. Done on whole numbers, the values' ranks, so that
    # families can be kept apart by an offset and no digit is lost.
    values, place = np.unique(scaled, return_inverse=True)
    offset = family * len(values)
    least = np.minimum.accumulate((place + offset)[::-1])[::-1] - offset
    q_value = np.empty_like(p_value)
    q_value[order] = values[least]
    return q_value


def _groups_of(taxa: Sequence[Taxon], rank: str) -> list[tuple[str, ...] | None]:
    """The group of each taxon at a rank; names that stand in several places of the tree of life are several groups.

    Ammophila is a genus of wasps and one of grasses. Where the taxa of one name differ in a higher rank, that rank's
    name tells their groups apart, and those without it are a group of their own.
    """
    higher = RANKS[: RANKS.index(rank)]
    above: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for taxon in taxa:
        for other in higher:
            if (value := taxon.rank(other)) is not None:
                above[taxon.rank(rank) or ""][other].add(value)

    def group(taxon: Taxon) -> tuple[str, ...] | None:
        if (name := taxon.rank(rank)) is None:
            return None
        return name, *(taxon.rank(other) or "" for other in higher if len(above[name][other]) > 1)

    return list(map(group, taxa))


def _factorise(names: Sequence[tuple[str, ...] | None]) -> tuple[NDArray[np.intp], int]:
    """Index of each name among the distinct names in alphabetical order, -1 for None; and how many there are."""
    distinct = {name: index for index, name in enumerate(sorted({name for name in names if name is not None}))}
    return np.array([-1 if name is None else distinct[name] for name in names], dtype=np.intp), len(distinct)
