"""Which latents describe a species: those that fire in it more than in its relatives.

`paper_contrast` is Algorithm 1 of Pahuja et al. 2026. `specimen_contrast`, the default, counts each specimen once,
leaves the species out of its own reference group, and falls back from the genus to the family, the order and the whole
collection, so that a species alone in its genus gets traits too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import logit
from scipy.stats import false_discovery_control, hypergeom

from sae_traits.schema import REFERENCE_RANKS, ReferenceRank, Taxon

SIGNIFICANT_Q = 0.05
PRIOR_STRENGTH = 4.0
"""Weight of the collection's rate in the shrunken effect, in specimens."""
RATE_FLOOR = 0.01
"""No latent's prior rate is taken below this or above one minus this."""

CONTRAST_COLUMNS = (
    "species", "latent", "f_species", "f_reference", "effect", "q_value", "significant", "reference_rank",
    "n_fired", "n_specimens",
)  # fmt: skip


def relative_frequency(counts: csr_array, group: NDArray[np.intp], n_groups: int) -> NDArray[np.float64]:
    """Share of each latent among all firings of a group: f(z) = C(z) / sum over z' of C(z').

    Args:
        counts: patches at which each latent fired in each specimen `[n_specimens, n_latents]`.
        group: group index of each specimen `[n_specimens]`, 0 .. n_groups - 1.
        n_groups: number of groups (species, or genera).

    Returns:
        Frequencies `[n_groups, n_latents]`; a group in which nothing fired is all zeros.

    Source: Pahuja et al. 2026, section 3.2, the two frequencies of Algorithm 1.
    """
    totals = group_totals(counts, group, n_groups).toarray().astype(np.float64)
    firings = totals.sum(axis=1, keepdims=True)
    return np.divide(totals, firings, out=np.zeros_like(totals), where=firings > 0)


def group_totals(counts: csr_array, group: NDArray[np.intp], n_groups: int) -> csr_array:
    """Sum of the rows of each group, sparse `[n_groups, n_latents]`; rows with a negative group are left out."""
    rows = np.flatnonzero(group >= 0)
    members = csr_array((np.ones(len(rows), dtype=np.int64), (group[rows], rows)), shape=(n_groups, len(group)))
    return csr_array(members @ counts)


def paper_contrast(counts: csr_array, taxa: Sequence[Taxon], minimum_frequency: float) -> pd.DataFrame:
    """Algorithm 1: latents with f_species > t, f_genus > t and f_species > f_genus.

    Args:
        counts: patches at which each latent fired in each training specimen, sparse `[n_specimens, n_latents]`.
        taxa: the taxon of each specimen; those without a genus are left out.
        minimum_frequency: t, the paper's t_freq.

    Returns:
        One row a (species, latent) with the columns CONTRAST_COLUMNS; effect is log(f_species / f_genus), q_value NaN.

    Source: Pahuja et al. 2026, section 3.2, Algorithm 1.
    """
    species, species_names = _factorise([t.species for t in taxa])
    genus, genus_names = _factorise([t.genus for t in taxa])
    genus_of_species = np.full(len(species_names), -1)
    genus_of_species[species[species >= 0]] = genus[species >= 0]
    f_genus_all = relative_frequency(counts, genus, len(genus_names))
    f_species_all = relative_frequency(counts, species, len(species_names))
    fired = group_totals(_once(counts), species, len(species_names))
    sizes = np.bincount(species[species >= 0], minlength=len(species_names))
    tables = []
    for index, name in enumerate(species_names):
        if genus_of_species[index] < 0:
            continue
        f_species, f_genus = f_species_all[index], f_genus_all[genus_of_species[index]]
        t = minimum_frequency
        latent = np.flatnonzero((f_species > t) & (f_genus > t) & (f_species > f_genus))
        tables.append(
            pd.DataFrame(
                {
                    "species": name,
                    "latent": latent,
                    "f_species": f_species[latent],
                    "f_reference": f_genus[latent],
                    "effect": np.log(f_species[latent] / f_genus[latent]),
                    "q_value": np.nan,
                    "significant": False,
                    "reference_rank": "genus",
                    "n_fired": fired[[index]].toarray()[0, latent],
                    "n_specimens": sizes[index],
                }
            )
        )
    return _join(tables)


def specimen_contrast(counts: csr_array, taxa: Sequence[Taxon]) -> pd.DataFrame:
    """Latents that fire in a larger share of a species' specimens than of its closest relatives'.

    The reference is the rest of the genus, or of the family, the order or the collection where the narrower group has
    no second species. Effects are log odds ratios shrunk towards the collection's rate by a Dirichlet (here beta) prior
    (Monroe, Colaresi and Quinn 2008, "Fightin' Words", section 3.3), so that a latent seen in one specimen of two does
    not beat one seen in nineteen of twenty. q-values are those of a one-sided hypergeometric test,
    Benjamini-Hochberg adjusted over the latents that fired in the species or its reference.

    Args:
        counts: patches at which each latent fired in each training specimen, sparse `[n_specimens, n_latents]`.
        taxa: the taxon of each specimen.

    Returns:
        One row a (species, latent) with a positive effect, with the columns CONTRAST_COLUMNS.
    """
    once = _once(counts)
    species, names = _factorise([t.species for t in taxa])
    per_species = group_totals(once, species, len(names))
    n_per_species = np.bincount(species[species >= 0], minlength=len(names))
    prior = _prior_rate(np.asarray(once.sum(axis=0)).ravel(), len(taxa))
    references = _References(per_species, n_per_species, _taxon_of_species(taxa, species, len(names)))
    tables = []
    for index, name in enumerate(names):
        n_species = int(n_per_species[index])
        in_species = per_species[[index]]
        latent = in_species.indices
        fired = in_species.data
        reference = references.of(index)
        fired_reference = reference.fired[latent] - fired
        n_reference = reference.n_specimens - n_species
        effect = shrunken_effect(fired, n_species, fired_reference, n_reference, prior[latent])
        # Only a higher share can be significant: screening spares most of the tests.
        higher = fired * max(n_reference, 1) > fired_reference * n_species
        p_value = np.ones(len(latent))
        p_value[higher] = hypergeom.sf(
            fired[higher] - 1, n_species + n_reference, fired[higher] + fired_reference[higher], n_species
        )
        q_value = _adjust(p_value, n_tests=int(np.count_nonzero(reference.fired)))
        keep = effect > 0
        tables.append(
            pd.DataFrame(
                {
                    "species": name,
                    "latent": latent,
                    "f_species": fired / n_species,
                    "f_reference": fired_reference / max(n_reference, 1),
                    "effect": effect,
                    "q_value": q_value,
                    "significant": q_value <= SIGNIFICANT_Q,
                    "reference_rank": reference.rank,
                    "n_fired": fired,
                    "n_specimens": n_species,
                }
            )[keep]
        )
    return _join(tables)


def shrunken_effect(
    fired: NDArray[np.int64],
    n_species: int,
    fired_reference: NDArray[np.int64],
    n_reference: int,
    prior: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Log odds ratio of firing in the species against the reference, both shrunk towards the prior rate `[n]`."""

    def log_odds(count: NDArray[np.int64], n: int) -> NDArray[np.float64]:
        return logit((count + PRIOR_STRENGTH * prior) / (n + PRIOR_STRENGTH))

    return log_odds(fired, n_species) - log_odds(fired_reference, n_reference)


@dataclass(frozen=True)
class _Reference:
    """The group that a species is contrasted with, the species included."""

    rank: ReferenceRank
    fired: NDArray[np.int64]
    """Specimens in which each latent fired `[n_latents]`."""
    n_specimens: int


class _References:
    """Finds the reference group of each species; keeps the counts of every group at every rank, sparse."""

    def __init__(self, per_species: csr_array, sizes: NDArray[np.intp], ranks: Sequence[Taxon]) -> None:
        """Groups of species at every rank.

        Args:
            per_species: specimens of each species in which each latent fired `[n_species, n_latents]`.
            sizes: specimens of each species `[n_species]`.
            ranks: the taxon of each species.
        """
        self._levels: list[tuple[ReferenceRank, NDArray[np.intp], csr_array, NDArray[np.intp], NDArray[np.intp]]] = []
        for rank in REFERENCE_RANKS:
            names = ["all"] * len(ranks) if rank == "collection" else [taxon.rank(rank) for taxon in ranks]
            group, group_names = _factorise(names)
            inside = group >= 0
            totals = group_totals(per_species, group, len(group_names))
            n_specimens = np.bincount(group[inside], weights=sizes[inside], minlength=len(group_names)).astype(np.intp)
            n_species = np.bincount(group[inside], minlength=len(group_names))
            self._levels.append((rank, group, totals, n_specimens, n_species))

    def of(self, species: int) -> _Reference:
        """The narrowest group that holds a second species; the collection when there is no other species at all."""
        for rank, group_of_species, totals, n_specimens, n_species in self._levels:
            group = group_of_species[species]
            if rank == "collection" or (group >= 0 and n_species[group] >= 2):
                return _Reference(rank, totals[[group]].toarray()[0], int(n_specimens[group]))
        raise AssertionError("unreachable: the collection is the last resort")


def _taxon_of_species(taxa: Sequence[Taxon], species: NDArray[np.intp], n_species: int) -> list[Taxon]:
    """One taxon a species: at each rank the name that most of its specimens have, of those that have one."""
    members: list[list[Taxon]] = [[] for _ in range(n_species)]
    for taxon, index in zip(taxa, species, strict=True):
        if index >= 0:
            members[index].append(taxon)
    ranks = ("genus", "family", "order")
    chosen = []
    for own in members:
        names = {rank: Counter(name for taxon in own if (name := taxon.rank(rank)) is not None) for rank in ranks}
        # Of equally frequent names the first in the alphabet, so that the order of specimens does not matter.
        best = {rank: min(counts, key=lambda name: (-counts[name], name)) for rank, counts in names.items() if counts}
        chosen.append(Taxon(**best))
    return chosen


def _once(counts: csr_array) -> csr_array:
    """1 where a latent fired in a specimen at all."""
    return csr_array((np.ones_like(counts.data), counts.indices, counts.indptr), shape=counts.shape)


def _prior_rate(fired: NDArray[np.int64], n_specimens: int) -> NDArray[np.float64]:
    """Share of all specimens in which each latent fired, kept away from 0 and 1 `[n_latents]`."""
    return np.clip(fired / max(n_specimens, 1), RATE_FLOOR, 1 - RATE_FLOOR)


def _adjust(p_value: NDArray[np.float64], n_tests: int) -> NDArray[np.float64]:
    """Benjamini-Hochberg q-values when n_tests - len(p_value) further tests had p = 1."""
    padded = np.ones(max(n_tests, len(p_value)))
    padded[: len(p_value)] = p_value
    return false_discovery_control(padded)[: len(p_value)] if len(p_value) else p_value


def _factorise(names: Sequence[str | None]) -> tuple[NDArray[np.intp], list[str]]:
    """Index of each name in the sorted list of distinct names; -1 for None."""
    index, distinct = pd.factorize(np.array(names, dtype=object), sort=True)
    return index.astype(np.intp), [str(name) for name in distinct]


def _join(tables: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    if not filled:
        return pd.DataFrame({column: [] for column in CONTRAST_COLUMNS})
    return pd.concat(filled, ignore_index=True)
