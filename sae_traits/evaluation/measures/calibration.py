"""How far the confidence of a classifier is from how often it is right."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

N_BINS = 15
"""Of equal width between 0 and 1; each holds its lower edge, and a confidence of 1 has a bin of its own."""


def expected_calibration_error(confidence: ArrayLike, right: ArrayLike) -> float:
    """Compare confidence and accuracy in bins, which are weighed by their images; 0 is perfect.

    Args:
        confidence: probability of the first class `[n]`.
        right: whether the first class is the true one, or its credit under ties `[n]`.

    Returns:
        The error; NaN without images.

    Source: Guo et al. 2017, section 2; the edges of bins are those of torchmetrics.
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    right = np.asarray(right, dtype=np.float64)
    if not len(confidence):
        return float("nan")
    of_bin = np.searchsorted(np.linspace(0, 1, N_BINS + 1), confidence, side="right") - 1
    n_images = np.bincount(of_bin)
    gap = np.abs(np.bincount(of_bin, weights=right - confidence)) / np.maximum(n_images, 1)
    return float(gap @ n_images / len(confidence))
