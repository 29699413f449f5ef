"""How embeddings are laid out beyond species: variants against species, and distances against traits.

These are our readings of what Gu et al. 2025 (BioCLIP 2, section 5) call emergent properties, who give no formula. None
of the figures says anything by itself: an anisotropic cloud without structure has a large share of its variation in any
span, and the Fisher ratio of random halves is about 4 / n. So each comes with the values of permuted labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sae_traits.errors import CollectionError
from sae_traits.evaluation.measures.distance_matrices import jackknife_correlation, mantel, permute_within
from sae_traits.evaluation.statistics import Interval, bootstrap_interval, bootstrap_ratio, group_means

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
_ROUNDING = 1e-12
"""A variance below this share of the mean square is none: it is the difference of the two."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of the structure, with its interval and what it is without structure."""

    value: float
    interval: Interval
    """Over species."""
    null: str
    """What was permuted."""
    null_mean: float
    null_low: float
    null_high: float
    """Mean and central 95 % of the permutations."""
    p_lower: float
    """How often the permutations are as low as the value, which counts as one of them."""
    p_upper: float
    """How often they are as high."""
    n_permutations: int

    @property
    def p_value(self) -> float:
        """Two-sided: twice the smaller of the two, 1 at most."""
        return min(1.0, 2 * min(self.p_lower, self.p_upper))


@dataclass(frozen=True)
class VariantFigures:
    """Two variants (life stages, sexes) within each species that has both."""

    squared_difference: FloatArray
    """Squared length of the difference between the means of a species' variants `[n_species]`."""
    squared_in_span: FloatArray
    """That of its part in the span of the species `[n_species]`."""
    fisher_ratios: FloatArray
    """Squared difference of the means over the sum of the variants' variances (traces, with 1/n); NaN where neither
    variant varies, as of species with one image of each `[n_species]`."""

    @property
    def share_in_span(self) -> float:
        """Share of the differences of all species that lies in their span, larger ones weighing more."""
        return float(self.squared_in_span.sum() / self.squared_difference.sum())

    @property
    def fisher_ratio(self) -> float:
        """Mean over the species in which a variant varies; NaN where there is none."""
        ratios = self.fisher_ratios[np.isfinite(self.fisher_ratios)]
        return float(ratios.mean()) if len(ratios) else math.nan


def between_species_span(embeddings: NDArray[np.floating], species: ArrayLike) -> FloatArray:
    """Find an orthonormal basis `[d, rank]` of the centred means of the species; rank < number of species.

    Args:
        embeddings: `[n, d]`.
        species: of each, numbers or names `[n]`.
    """
    from scipy.linalg import orth

    means = group_means(np.asarray(embeddings, dtype=np.float64), _numbers(species))
    basis = np.asarray(orth((means - means.mean(axis=0)).T))
    return basis[:, : len(means) - 1]  # rounding may leave a last direction that centred means do not have


def within_variance_in_span(embeddings: NDArray[np.floating], species: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Sum squared deviations from the species' means: their parts in the span of the species, and all of them.

    Arguments as in `between_species_span`. The share of the variation in the span is the ratio of the sums.

    Returns:
        Two arrays by species, in their order `[n_species]`.
    """
    of_species = centred(embeddings, species)
    in_span = (of_species.table[:, of_species.d : -1] ** 2).sum(axis=1)
    in_span, total = (np.bincount(of_species.member, weights=squares) for squares in (in_span, of_species.table[:, -1]))
    return in_span.astype(np.float64), total.astype(np.float64)


def structure_of_variants(
    embeddings: NDArray[np.floating],
    species: ArrayLike,
    variants: ArrayLike,
    *,
    units: ArrayLike | None = None,
    n_permutations: int = 999,
    seed: int = 0,
) -> dict[str, Figure]:
    """Compare the variants of species with variants permuted within species: `share_in_span` and `fisher_ratio`.

    Variants that differ in a direction of their own have a low share; ones that differ at all a high ratio. The
    intervals take the span of the species as given. There is no `fisher_ratio` where no species has two different
    images of a variant.

    Args:
        embeddings: `[n, d]`.
        species: of each `[n]`.
        variants: 0 or 1 `[n]`.
        units: the individual that each image shows, whose images are permuted together: they are alike, whatever their
            variant `[n]`. None makes every image its own.

    Raises:
        CollectionError: no species has both variants.
    """
    of_species, variants = centred(embeddings, species), np.asarray(variants)
    figures = variant_figures(of_species, variants)
    dealt = _dealt(variants, of_species.member, units, n_permutations, np.random.default_rng(seed))
    permuted = [variant_figures(of_species, labels) for labels in dealt]
    shares, ratios = np.array([(one.share_in_span, one.fisher_ratio) for one in permuted]).T
    null = "variants permuted within species"
    share = bootstrap_ratio(figures.squared_in_span, figures.squared_difference, seed=seed)
    found = {"share_in_span": _figure(figures.share_in_span, share, shares, null)}
    if not math.isnan(figures.fisher_ratio):
        interval = bootstrap_interval(figures.fisher_ratios[np.isfinite(figures.fisher_ratios)], seed=seed)
        found["fisher_ratio"] = _figure(figures.fisher_ratio, interval, ratios[np.isfinite(ratios)], null)
    return found


def structure_of_species(
    embeddings: NDArray[np.floating],
    species: ArrayLike,
    *,
    genera: ArrayLike | None = None,
    units: ArrayLike | None = None,
    n_permutations: int = 999,
    seed: int = 0,
) -> dict[str, Figure]:
    """Compare the share of within-species variation in the span of the species with that of permuted species.

    Args:
        embeddings: `[n, d]`.
        species: of each `[n]`.
        genera: of each `[n]`; None leaves out the second figure.
        units: as in `structure_of_variants`.

    Returns:
        `within_variance_in_span`, species permuted among all images, and `within_variance_in_span_given_genera`, the
        same value with species permuted within genera. The interval takes the span as given.
    """
    embeddings, member = np.asarray(embeddings, dtype=np.float64), _numbers(species)
    in_span, total = within_variance_in_span(embeddings, member)
    interval = bootstrap_ratio(in_span, total, seed=seed)
    everywhere = np.zeros(len(member), dtype=np.int64)
    nulls = {"within_variance_in_span": (everywhere, "species permuted")}
    if genera is not None:
        nulls["within_variance_in_span_given_genera"] = (_numbers(genera), "species permuted within genera")
    figures = {}
    for number, (name, (groups, null)) in enumerate(nulls.items()):
        drawn = _dealt(member, groups, units, n_permutations, np.random.default_rng([seed, number]))
        shares = np.array([_share(*within_variance_in_span(embeddings, permuted)) for permuted in drawn])
        figures[name] = _figure(_share(in_span, total), interval, shares, null)
    return figures


def structure_of_traits(
    embeddings: NDArray[np.floating],
    species: ArrayLike,
    trait_distances: FloatArray,
    *,
    genera: ArrayLike | None = None,
    n_permutations: int = 999,
    seed: int = 0,
) -> dict[str, Figure]:
    """Correlate the distances of species by embedding with those by traits (Spearman's, of pairs of species).

    Args:
        embeddings: `[n, d]`.
        species: of each `[n]`.
        trait_distances: of the species in the order of their sorted names `[n_species, n_species]`.
        genera: of the species in that order `[n_species]`; None leaves out the second figure.

    Returns:
        `trait_correlation`, species permuted, and `trait_correlation_given_genera`, the same value with species
        permuted within genera: relatives are alike in both, and only the second null knows it.
    """
    by_embedding = species_distances(embeddings, species)
    interval = jackknife_correlation(by_embedding, trait_distances)
    nulls: dict[str, tuple[ArrayLike | None, str]] = {"trait_correlation": (None, "species permuted")}
    if genera is not None:
        nulls["trait_correlation_given_genera"] = (genera, "species permuted within genera")
    figures = {}
    for name, (groups, null) in nulls.items():
        r, permuted = mantel(
            by_embedding, trait_distances, method="spearman", groups=groups, n_permutations=n_permutations, seed=seed
        )
        figures[name] = _figure(r, interval, permuted, null)
    return figures


def species_distances(embeddings: NDArray[np.floating], species: ArrayLike) -> FloatArray:
    """Compute 1 - cosine of the means of species, in the order of their sorted names `[n_species, n_species]`."""
    from scipy.spatial.distance import pdist, squareform

    return squareform(pdist(group_means(np.asarray(embeddings, dtype=np.float64), _numbers(species)), "cosine"))


def _dealt(
    labels: NDArray[np.generic], groups: IntArray, units: ArrayLike | None, n: int, generator: np.random.Generator
) -> Iterator[NDArray[np.generic]]:
    """Yield the labels of the images, dealt anew within groups n times, those of the images of one unit together `[n]`.

    A unit with several labels or of several groups counts as several.
    """
    number = np.arange(len(labels)) if units is None else _numbers(units)
    every = np.stack([number, groups, _numbers(labels)], axis=1)
    _, first, unit = np.unique(every, axis=0, return_index=True, return_inverse=True)
    for _ in range(n):
        yield labels[first][permute_within(groups[first], generator)][unit.ravel()]


@dataclass(frozen=True)
class Centred:
    """Embeddings less the means of their species."""

    member: IntArray
    """Species of each, numbered from 0 `[n]`."""
    table: FloatArray
    """Deviations, their coordinates in the span of the species, and their squared lengths `[n, d + rank + 1]`."""
    d: int


def centred(embeddings: NDArray[np.floating], species: ArrayLike) -> Centred:
    """Take from embeddings `[n, d]` what the means of their species `[n]`, numbers or names, have of them."""
    embeddings = np.asarray(embeddings, dtype=np.float64)
    member = _numbers(species)
    deviations = embeddings - group_means(embeddings, member)[member]
    in_span = deviations @ between_species_span(embeddings, member)
    squares = (deviations**2).sum(axis=1, keepdims=True)
    return Centred(member, np.concatenate([deviations, in_span, squares], axis=1), embeddings.shape[1])


def variant_figures(of_species: Centred, variants: NDArray[np.generic]) -> VariantFigures:
    """Measure the difference between two variants, 0 and 1 `[n]`, within every species that has both."""
    n_species, d = of_species.member.max() + 1, of_species.d
    group = 2 * of_species.member + variants.astype(np.int64)
    both = (np.bincount(group, minlength=2 * n_species).reshape(n_species, 2) > 0).all(axis=1)
    if not both.any():
        raise CollectionError("no species has both variants, so there is nothing to compare")
    means = group_means(of_species.table, group, 2 * n_species).reshape(n_species, 2, -1)[both]
    variance = means[:, :, -1] - (means[:, :, :d] ** 2).sum(axis=2)
    squared = (means[:, 1] - means[:, 0]) ** 2
    squared_difference = squared[:, :d].sum(axis=1)
    varies = variance > _ROUNDING * means[:, :, -1]
    total = np.where(varies, variance, 0.0).sum(axis=1)
    return VariantFigures(
        squared_difference=squared_difference,
        squared_in_span=squared[:, d:-1].sum(axis=1),
        fisher_ratios=np.divide(squared_difference, total, out=np.full(len(total), np.nan), where=total > 0),
    )


def _figure(value: float, interval: Interval, permuted: FloatArray, null: str) -> Figure:
    n = len(permuted)
    low, high = np.quantile(permuted, [0.025, 0.975])
    slack = 1e-9 * max(1.0, abs(value))  # sums in another order are the same value
    return Figure(
        value=value,
        interval=interval,
        null=null,
        null_mean=float(permuted.mean()),
        null_low=float(low),
        null_high=float(high),
        p_lower=(1 + int((permuted <= value + slack).sum())) / (1 + n),
        p_upper=(1 + int((permuted >= value - slack).sum())) / (1 + n),
        n_permutations=n,
    )


def _numbers(names: ArrayLike) -> IntArray:
    return np.unique(np.asarray(names), return_inverse=True)[1]


def _share(in_span: FloatArray, total: FloatArray) -> float:
    return float(in_span.sum() / total.sum())
