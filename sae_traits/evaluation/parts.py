"""Do the regions of latents lie on parts of the organism? The measures, as functions of plain arrays.

A row of the arrays `[n]` is a region: a latent at a place of an image. `species`, `latent` and `part` are numbers from
0, of which there are `n_species`, `n_latents` and `n_parts`; the part of a region is OFF_PART where it lies on none;
`held_out` says whether its image is of validation or test. Every measure is a ratio of two sums per species (`Ratio`),
so that it can be said per species and over all, and two methods be compared by resampling species.

`evaluation.part_truth` finds the part, the place and the share of a region; `evaluation.part_evidence` joins them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sae_traits.evaluation.measures.distance_matrices import permute_within
from sae_traits.evaluation.statistics import N_RESAMPLES, Interval, group_means

OFF_PART = -1
"""Part of a region that lies on no part: off the animal, or on what of it nobody named."""
UNKNOWN_PART = -2
"""Part of a region of an image whose parts nobody named; such regions are left out."""
MIN_REGIONS = 5
"""A latent with fewer regions of a species in all has no purity: of one region it would be 1."""
MIN_FIRINGS = 10
"""A latent that fires in fewer held-out images is no detector: by luck alone it could be right in half of them."""
DETECTOR_SHARE = 0.5
"""A detector's peak lies within its part in at least this share of the held-out images in which it fires."""
N_PERMUTATIONS = 100
N_DEALS = 10
"""Of the peaks of every image among the latents that fired in it."""
CLIPPED_AT = 0.5
"""Places relative to the animal are clipped at half its size around its box, so that a few regions far off it do not
make up all of the variance."""

Ints = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Ratio:
    """A measure as two sums per species: its value is their ratio, for a species or for all of them together."""

    total: NDArray[np.float64]
    """`[n_species]`, for example how many regions are right."""
    weight: NDArray[np.float64]
    """`[n_species]`, for example how many regions there are."""

    @property
    def value(self) -> float:
        """Over all species; NaN where nothing was measured."""
        weight = float(self.weight.sum())
        return float(self.total.sum()) / weight if weight > 0 else math.nan

    @property
    def by_species(self) -> NDArray[np.float64]:
        """Per species `[n_species]`; NaN where nothing was measured."""
        return np.divide(self.total, self.weight, out=np.full(len(self.total), np.nan), where=self.weight > 0)


def mean_per_species(values: Floats | Bools, species: Ints, n_species: int) -> Ratio:
    """Mean of a value per region, as a Ratio; NaN values are left out.

    With the share of each region inside the animal's mask or box this is the *share inside*; with whether the peak of
    its latent is inside it is the *pointing game*.

    Args:
        values: one per region `[n]`.
    """
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    return _ratio(values[known], np.ones(int(known.sum())), species[known], n_species)


def purity(
    latent: Ints, part: Ints, species: Ints, n_species: int, n_parts: int, min_regions: int = MIN_REGIONS
) -> Ratio:
    """Share of a latent's regions in a species that lie on the one part on which most of them do.

    The mean over all pairs of species and latent with enough regions, each weighted by its regions. Regions on no part
    count among the regions and never as a part. Read it only beside `permuted_purity`: where most regions lie on one
    part, any latent is pure.

    Args:
        min_regions: pairs with fewer regions are left out.
    """
    known = part != UNKNOWN_PART
    latent, part, species = latent[known], part[known], species[known]
    pairs = species.astype(np.int64) * (int(latent.max(initial=0)) + 1) + latent
    _, first, pair, size = np.unique(pairs, return_index=True, return_inverse=True, return_counts=True)
    largest = _counts_on_parts(pair, part, len(size), n_parts).max(axis=1, initial=0)
    kept = size >= min_regions
    return _ratio(largest[kept], size[kept], species[first[kept]], n_species)


def permuted_purity(latent: Ints, part: Ints, species: Ints, n_species: int, n_parts: int) -> Ratio:
    """Purity with the latents dealt anew among the regions of each species: what it would be if latents meant nothing.

    The regions stay where they are and each latent keeps its number of them; those of images whose parts nobody named
    are left out before. The mean over permutations; arguments as of `purity`.
    """
    known = part != UNKNOWN_PART
    latent, part, species = latent[known], part[known], species[known]
    return _permuted(lambda dealt: purity(dealt, part, species, n_species, n_parts), latent, species)


def held_out_part(
    latent: Ints,
    part: Ints,
    species: Ints,
    held_out: Bools,
    n_species: int,
    n_parts: int,
    min_regions: int = 1,
) -> Ratio:
    """Share of the held-out regions on the part that their latent was learnt to mean on training images.

    A latent means the part on which most of its training regions lie, whatever their species. A held-out region on
    another part, or on none, is wrong. With `min_regions` of 1 regions of latents that had no training region on any
    part are wrong too: that is the score of all latents. With more, latents with fewer training regions on their part
    are left out.

    Args:
        min_regions: training regions that a latent needs on its part.
    """
    known = part != UNKNOWN_PART
    latent, part, species, held_out = latent[known], part[known], species[known], held_out[known]
    latents, number = np.unique(latent, return_inverse=True)
    on_part = _counts_on_parts(number[~held_out], part[~held_out], len(latents), n_parts)
    n_learnt = on_part.max(axis=1, initial=0)
    learnt = np.where(n_learnt > 0, on_part.argmax(axis=1), UNKNOWN_PART) if len(latents) else n_learnt
    asked = held_out & ((n_learnt[number] >= min_regions) | (min_regions <= 1))
    right = part[asked] == learnt[number[asked]]
    return _ratio(right.astype(np.float64), np.ones(len(right)), species[asked], n_species)


def permuted_held_out_part(
    latent: Ints,
    part: Ints,
    species: Ints,
    held_out: Bools,
    n_species: int,
    n_parts: int,
    min_regions: int = 1,
) -> Ratio:
    """The held-out part with the latents dealt anew among the regions of each species, training and held-out apart.

    As of `permuted_purity`, among those of images whose parts are known.
    """
    known = part != UNKNOWN_PART
    latent, part, species, held_out = latent[known], part[known], species[known], held_out[known]

    def measure(dealt: Ints) -> Ratio:
        return held_out_part(dealt, part, species, held_out, n_species, n_parts, min_regions)

    return _permuted(measure, latent, species * 2 + held_out)


def location_explained(place: Floats, latent: Ints, species: Ints, held_out: Bools, n_species: int) -> Ratio:
    """R2 of location: how much of the variance of held-out places the latents' mean places on training images explain.

    1 - sum |place - mean of the latent|^2 / sum |place - mean of the species|^2 over held-out regions, both means over
    training regions. 1: each latent has its place on the animal; 0: knowing the latent helps no more than knowing the
    species; below 0: it misleads. A latent without a training region says what its species says.

    A mean of few regions is off by itself, so chance lies below 0, and far below where latents have few training
    regions: read it beside `permuted_location_explained`.

    Args:
        place: centre of each region relative to the animal, (0, 0) the upper left and (1, 1) the lower right corner of
            its box `[n, 2]`; NaN where that is unknown, which is left out. Clipped, see CLIPPED_AT.
    """
    known = ~np.isnan(place).any(axis=1)
    place = np.clip(place[known].astype(np.float64), -CLIPPED_AT, 1 + CLIPPED_AT)
    latent, species, held_out = latent[known], species[known], held_out[known]
    latents, number = np.unique(latent, return_inverse=True)
    of_species = group_means(place[~held_out], species[~held_out], n_species)
    of_latent = group_means(place[~held_out], number[~held_out], len(latents))
    is_learnt = np.isin(number, number[~held_out])
    predicted = np.where(is_learnt[:, None], of_latent[number], of_species[species])
    asked = held_out & np.isin(species, species[~held_out])
    place, species, predicted = place[asked], species[asked], predicted[asked]
    before = ((place - of_species[species]) ** 2).sum(axis=1)
    after = ((place - predicted) ** 2).sum(axis=1)
    return _ratio(before - after, before, species, n_species)


def permuted_location_explained(place: Floats, latent: Ints, species: Ints, held_out: Bools, n_species: int) -> Ratio:
    """R2 of location with the latents dealt anew among the regions of each species, training and held-out apart.

    What it would be if latents meant nothing and had as many regions. As of `permuted_purity`, among those of known
    place; arguments as of `location_explained`.
    """
    known = ~np.isnan(place).any(axis=1)
    place, latent, species, held_out = place[known], latent[known], species[known], held_out[known]

    def measure(dealt: Ints) -> Ratio:
        return location_explained(place, dealt, species, held_out, n_species)

    return _permuted(measure, latent, species * 2 + held_out)


def detectors(
    latent: Ints, part: Ints, n_latents: int, n_parts: int, min_firings: int = MIN_FIRINGS
) -> NDArray[np.bool_]:
    """Latents whose firing in an image tells where a part is, without any contrast `[n_latents, n_parts]`.

    A latent detects a part when its peak lies within it in at least half of the held-out images in which it fires, and
    it fires in enough of them.

    Args:
        latent: of each firing, a latent in a held-out image in which it is above its threshold anywhere `[n]`.
        part: in which its strongest patch lies, or which keypoint is nearest to it within the tolerance `[n]`.
        min_firings: latents that fire in fewer images detect nothing.
    """
    known = part != UNKNOWN_PART
    n_firings = np.bincount(latent[known], minlength=n_latents)
    hits = _counts_on_parts(latent[known], part[known], n_latents, n_parts)
    return (hits >= DETECTOR_SHARE * n_firings[:, None]) & (n_firings >= min_firings)[:, None]


def permuted_detectors(latent: Ints, part: Ints, image: Ints, n_latents: int, n_parts: int) -> float:
    """How many latents detect a part when the peaks of each image are dealt anew among the latents that fired in it."""
    rng = np.random.default_rng(0)
    counts = [
        detectors(latent[permute_within(image, rng)], part, n_latents, n_parts).any(axis=1).sum()
        for _ in range(N_DEALS)
    ]
    return float(np.mean(counts))


def difference_over_species(first: Ratio, second: Ratio, nulls: tuple[Ratio, Ratio] | None = None) -> Interval:
    """The value of `second` minus that of `first`, with a paired percentile bootstrap interval over species.

    A species is drawn with what both methods had of it. Species of which either has nothing are left out.

    Args:
        nulls: what chance gives of `first` and of `second`; each is then taken above it.
    """
    terms = ((first, -1), (second, 1)) if nulls is None else ((first, -1), (second, 1), (nulls[0], 1), (nulls[1], -1))
    kept = np.logical_and.reduce([ratio.weight > 0 for ratio, _ in terms])
    n = int(kept.sum())
    if n == 0:
        return Interval(math.nan, math.nan, math.nan)
    sums = np.stack([(ratio.total[kept], ratio.weight[kept]) for ratio, _ in terms], axis=1)  # [2, n_terms, n]
    signs = np.array([sign for _, sign in terms])

    def difference(of: NDArray[np.float64]) -> NDArray[np.float64]:
        return signs @ (of[0] / of[1])

    mean = float(difference(sums.sum(axis=2)))
    if n < 2:
        return Interval(mean, math.nan, math.nan, n)
    draws = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=N_RESAMPLES)
    low, high = np.quantile(difference(sums @ draws.T), [0.025, 0.975])
    return Interval(mean, float(low), float(high), n)


def _counts_on_parts(group: Ints, part: Ints, n_groups: int, n_parts: int) -> NDArray[np.int64]:
    """How many regions of each group lie on each part `[n_groups, n_parts]`; those on no part are not counted."""
    on = part >= 0
    cells = group[on].astype(np.int64) * n_parts + part[on]
    return np.bincount(cells, minlength=n_groups * n_parts).reshape(n_groups, n_parts)


def _ratio(total: NDArray[Any], weight: NDArray[Any], species: Ints, n_species: int) -> Ratio:
    """Sums per species."""
    return Ratio(
        *(np.bincount(species, weights=values, minlength=n_species).astype(np.float64) for values in (total, weight))
    )


def _permuted(measure: Callable[[Ints], Ratio], latent: Ints, group: Ints) -> Ratio:
    """Mean of the sums of a measurement with the latents dealt anew among the regions of each group."""
    rng = np.random.default_rng(0)
    ratios = [measure(latent[permute_within(group, rng)]) for _ in range(N_PERMUTATIONS)]
    return Ratio(np.mean([r.total for r in ratios], axis=0), np.mean([r.weight for r in ratios], axis=0))
