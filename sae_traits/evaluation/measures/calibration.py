"""How far the confidence of a classifier is from how often it is right."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike


def expected_calibration_error(
    confidence: ArrayLike, right: ArrayLike, *, n_bins: int = 15, norm: Literal["l1", "max"] = "l1"
) -> float:
    """Compare confidence and accuracy in bins of equal width; 0 is perfect.

    Args:
        confidence: probability of the first class `[n]`.
        right: whether the first class is the true one, or its credit under ties `[n]`.
        n_bins: bins between 0 and 1; each holds its lower edge, and a confidence of 1 has a bin of its own.
        norm: `l1` weighs the gaps of bins by their images, `max` is the largest gap.

    Returns:
        The error; NaN without images.

    Source: Guo et al. 2017, section 2; the edges of bins are those of torchmetrics.
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    right = np.asarray(right, dtype=np.float64)
    if not len(confidence):
        return float("nan")
    edges = np.linspace(0, 1, n_bins + 1)
    of_bin = np.searchsorted(edges, confidence, side="right") - 1
    n_images = np.bincount(of_bin, minlength=n_bins + 1)
    gap = np.abs(np.bincount(of_bin, weights=right - confidence, minlength=n_bins + 1))
    gap = np.divide(gap, n_images, out=np.zeros_like(gap), where=n_images > 0)
    return float(gap.max() if norm == "max" else gap @ n_images / len(confidence))
