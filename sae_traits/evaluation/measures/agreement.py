"""Agreement of several raters, or describers, beyond chance."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Level = Literal["nominal", "ordinal", "interval"]


def krippendorff_alpha(ratings: ArrayLike, level: Level = "nominal") -> float:
    """Compute Krippendorff's alpha: 1 is agreement, 0 what chance gives, negative is worse.

    Args:
        ratings: numbers `[n_raters, n_units]`; NaN where a rater says nothing.
        level: what a difference between two ratings means; `ordinal` counts the ratings between them.

    Returns:
        Alpha; NaN where no unit has two ratings, or all ratings are equal.

    Source: Krippendorff 2019, Content Analysis, chapter 12.
    """
    ratings = np.asarray(ratings, dtype=np.float64)
    values, place = np.unique(ratings[~np.isnan(ratings)], return_inverse=True)
    of_unit = np.zeros((ratings.shape[1], len(values)))
    np.add.at(of_unit, (np.nonzero(~np.isnan(ratings))[1], place), 1)
    of_unit = of_unit[of_unit.sum(axis=1) > 1]  # a rating alone is compared with none
    pairs = of_unit / (of_unit.sum(axis=1, keepdims=True) - 1)
    observed = of_unit.T @ pairs - np.diag(pairs.sum(axis=0))
    total = of_unit.sum(axis=0)
    expected = (np.outer(total, total) - np.diag(total)) / (total.sum() - 1) if len(of_unit) else observed
    difference = _squared_differences(values, total, level)
    by_chance = (expected * difference).sum()
    return float(1 - (observed * difference).sum() / by_chance) if by_chance > 0 else float("nan")


def _squared_differences(values: NDArray[np.float64], total: NDArray[np.float64], level: Level) -> NDArray[np.float64]:
    """How much it matters that two raters differ `[n_values, n_values]`."""
    if level == "nominal":
        return 1 - np.eye(len(values))
    if level == "interval":
        return np.subtract.outer(values, values) ** 2
    middle = np.cumsum(total) - total / 2  # ratings between two values, with half of those of each
    return np.subtract.outer(middle, middle) ** 2
