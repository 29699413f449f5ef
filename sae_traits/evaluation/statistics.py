"""Intervals around means, by bootstrap; and tests that compare two classifiers on the same images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BeforeValidator

from sae_traits.errors import ConfigError

N_RESAMPLES = 2000
LEVEL = 0.95
"""Of confidence."""
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A float that may be NaN, which JSON knows as null."""
MAX_NAMED = 5


def named_below_chance(shares: Mapping[str, float], chance: Mapping[str, float]) -> str:
    """Say how many species have a smaller share than chance gives them, and name those of the smallest shares."""
    below = sorted((name for name, share in shares.items() if share < chance[name]), key=shares.__getitem__)
    if not below:
        return f"none of {len(shares):,} species is below chance"
    more = f" and {len(below) - MAX_NAMED:,} more" if len(below) > MAX_NAMED else ""
    return f"{len(below):,} of {len(shares):,} species below chance: {', '.join(below[:MAX_NAMED])}{more}"


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with a confidence interval; NaN where there was nothing to take it from."""

    mean: Number
    low: Number
    """NaN where there was only one group, hence no interval."""
    high: Number
    n_groups: int = 0
    """Groups that were resampled: individuals, or species."""

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "none"
        mean, low, high = (f"{value:z.3f}" for value in (self.mean, self.low, self.high))  # no figure is -0.000
        return mean if math.isnan(self.low) else f"{mean} [{low}, {high}]"


def bootstrap_interval(
    values: ArrayLike, *, groups: ArrayLike | None = None, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Interval:
    """Take the mean of all values with a percentile bootstrap interval.

    Groups are resampled whole, with replacement, and the mean is taken over all values of the groups drawn, so that an
    individual with five regions counts five times but is one observation.

    Args:
        values: numbers or booleans `[n]`.
        groups: which group each value belongs to `[n]`, of any sortable type; None makes every value its own group.

    Returns:
        The interval; all NaN without values, low and high NaN with a single group.

    Source: Efron & Tibshirani 1993, chapter 13 (percentile interval); Davison & Hinkley 1997, section 3.8 (clusters).
    """
    # scipy.stats takes a while to load, and not every reader of an Interval needs it.
    from scipy.stats import bootstrap

    flat = np.asarray(values, dtype=np.float64).ravel()
    if flat.size == 0:
        return Interval(math.nan, math.nan, math.nan)
    if groups is None:
        totals, counts = flat, np.ones_like(flat)
    else:
        _, member = np.unique(np.asarray(groups), return_inverse=True)
        totals, counts = np.bincount(member, weights=flat), np.bincount(member).astype(np.float64)
    mean = float(flat.mean())
    if len(totals) < 2:
        return Interval(mean, math.nan, math.nan, len(totals))

    def pooled_mean(total: NDArray[np.float64], count: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        return total.sum(axis=axis) / count.sum(axis=axis)

    interval = bootstrap(
        (totals, counts),
        pooled_mean,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=n_resamples,
        batch=max(1, 2_000_000 // len(totals)),  # a resample is one index per group: bounds the memory
        confidence_level=LEVEL,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return _around(mean, float(interval.low), float(interval.high), len(totals))


def bootstrap_intervals(
    values: ArrayLike, *, groups: ArrayLike | None = None, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> tuple[Interval, ...]:
    """Take the means of several measures of the same images, with intervals that share their resamples.

    With one column and no NaN that is `bootstrap_interval` with other draws; many columns cost little more than one.

    Args:
        values: numbers or booleans `[n, n_measures]`; NaN where an image has no value.
        groups: as in `bootstrap_interval`.

    Returns:
        One interval per measure.
    """
    table = np.asarray(values, dtype=np.float64)
    valued = ~np.isnan(table)
    totals, counts = np.where(valued, table, 0.0), valued.astype(np.float64)
    if groups is not None:
        _, member = np.unique(np.asarray(groups), return_inverse=True)
        totals, counts = (
            np.stack([np.bincount(member, weights=column) for column in part.T], axis=1) for part in (totals, counts)
        )
    return _ratio_intervals(totals, counts, seed, n_resamples)


def bootstrap_ratio(numerators: ArrayLike, denominators: ArrayLike, *, seed: int = 0) -> Interval:
    """Divide the sum of the numerators `[n]` by that of the denominators `[n]`, with an interval over their pairs."""
    totals, counts = (np.asarray(part, dtype=np.float64)[:, None] for part in (numerators, denominators))
    return _ratio_intervals(totals, counts, seed)[0]


def _around(mean: float, low: float, high: float, n_groups: int) -> Interval:
    """An interval whose ends are the mean where they differ from it by rounding alone, as those of constants do."""
    low, high = (mean if math.isclose(end, mean, rel_tol=1e-12, abs_tol=1e-15) else end for end in (low, high))
    return Interval(mean, low, high, n_groups)


_DRAWS_AT_A_TIME = 50


def _ratio_intervals(
    totals: NDArray[np.float64], counts: NDArray[np.float64], seed: int, n_resamples: int = N_RESAMPLES
) -> tuple[Interval, ...]:
    """Intervals of sum(totals) / sum(counts) over resampled rows `[n_groups, n_measures]`."""
    n_groups, n_measures = totals.shape
    with np.errstate(invalid="ignore", divide="ignore"):  # a measure without any value is NaN
        means = totals.sum(axis=0) / counts.sum(axis=0)
        if n_groups < 2:
            return tuple(Interval(float(mean), math.nan, math.nan, n_groups) for mean in means)
        generator = np.random.default_rng(seed)
        drawn = np.empty((n_resamples, n_measures))
        both = np.concatenate([totals, counts], axis=1)
        for start in range(0, n_resamples, _DRAWS_AT_A_TIME):
            times = np.stack(
                [
                    np.bincount(generator.integers(n_groups, size=n_groups), minlength=n_groups)
                    for _ in range(min(_DRAWS_AT_A_TIME, n_resamples - start))
                ]
            )
            sums = times.astype(np.float64) @ both
            drawn[start : start + len(times)] = sums[:, :n_measures] / sums[:, n_measures:]
    intervals = []
    for mean, of_measure, n_valued in zip(means.tolist(), drawn.T, (counts > 0).sum(axis=0).tolist(), strict=True):
        low = high = math.nan
        if n_valued > 1:  # draws without any value of a measure say nothing of it
            low, high = np.nanquantile(of_measure, [(1 - LEVEL) / 2, 1 - (1 - LEVEL) / 2]).tolist()
        intervals.append(_around(mean, low, high, n_valued))
    return tuple(intervals)


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Take the mean of `second` minus `first`, measured on the same images, with a paired bootstrap interval.

    An image is drawn with both of its values; see `bootstrap_interval` for the arguments.

    Raises:
        ConfigError: the two are not of the same images.
    """
    first, second = _paired(first, second)
    difference = second.astype(np.float64) - first.astype(np.float64)
    return bootstrap_interval(difference, groups=groups, n_resamples=n_resamples, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """Do two classifiers err equally often on the same individuals?"""

    only_first: int
    """Individuals that only the first classifier gets right (of several images: more of them than the second)."""
    only_second: int
    """Individuals that only the second one gets right."""
    p_value: float
    """Two-sided, by the exact binomial."""


def mcnemar(first: ArrayLike, second: ArrayLike, *, groups: ArrayLike | None = None) -> McNemar:
    """Do McNemar's test in its exact form: under the null hypothesis either one is right alone equally often.

    The exact form holds its level at any number of images, so that no approximation is needed. Images of a group are
    one observation, of which the sign counts (a sign test); with one image per group that is McNemar's test.

    Args:
        first: whether the first classifier is right on an image `[n]`.
        second: the same for the second one `[n]`.
        groups: which group each image belongs to `[n]`; None makes every image its own group.

    Raises:
        ConfigError: the two are not of the same images.

    Source: McNemar 1947; Fagerland, Lydersen & Laake 2013 (BMC Medical Research Methodology 13:91), exact conditional.
    """
    from scipy.stats import binomtest

    first, second = _paired(first, second)
    difference = second.astype(np.int64) - first.astype(np.int64)
    if groups is not None:
        difference = np.bincount(np.unique(np.asarray(groups), return_inverse=True)[1], weights=difference)
    only_first, only_second = int((difference < 0).sum()), int((difference > 0).sum())
    n_discordant = only_first + only_second
    p_value = float(binomtest(only_first, n_discordant, 0.5).pvalue) if n_discordant else 1.0
    return McNemar(only_first=only_first, only_second=only_second, p_value=p_value)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust p-values for making several comparisons, in the order given `[n]`.

    Source: Holm 1979, the sequentially rejective Bonferroni test.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    stepwise = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepwise), 1.0)
    return adjusted


def group_means(
    values: NDArray[np.floating[Any]], group: NDArray[np.integer[Any]], n_groups: int | None = None
) -> NDArray[np.float64]:
    """Take the mean of the rows of each group, numbered from 0 `[n_groups, d]`; zeros where it has none."""
    from scipy.sparse import csr_array

    n = np.bincount(group, minlength=n_groups or 0)
    ones = np.ones(len(group), dtype=values.dtype)
    total = csr_array((ones, (group, np.arange(len(group)))), shape=(len(n), len(group))) @ values
    return total / np.maximum(n, 1)[:, None]


def _paired(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    pair = np.asarray(first), np.asarray(second)
    if pair[0].shape != pair[1].shape or pair[0].ndim != 1:
        raise ConfigError(
            f"paired values must be two lists of the same images, not {pair[0].shape} and {pair[1].shape}"
        )
    return pair
