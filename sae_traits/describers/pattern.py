"""Plain, banded or spotted: told from the contrast, the direction of the gradients and the blobs in a region."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.feature import structure_tensor
from skimage.filters import threshold_otsu
from skimage.measure import label

from sae_traits.describers.surface import Cutout

Pattern = Literal["plain", "banded", "spotted"]

MINIMUM_SIDE = 7
"""A region into which no square of this many lattice points per side fits is too small to show a pattern."""
EDGE = 2
"""Lattice points at the region's edge that are left out: what lies there may belong to the neighbourhood."""
MINIMUM_CONTRAST = 6.0
"""Standard deviation along the main colour axis (CIELAB) below which a region is plain."""
BAND_COHERENCE = 0.5
"""Coherence of the gradients, 0 every direction to 1 one direction, above which a pattern can be bands."""
BAND_CROSSINGS = 3
"""Changes from one colour to the other across the bands: two bands or more; one edge or one stripe is no pattern."""
SPOT_COUNT = 2
SPOT_AREA = 0.002
SPOT_ELONGATION = 3.0
"""Spots are at least this many blobs of the rarer colour, of at least this share of the region, no longer than this."""


def pattern_of(cutout: Cutout) -> Pattern:
    """The pattern inside the region, a little away from its edge.

    `banded`: at least two parallel bands. `spotted`: at least two whole, compact spots. `plain`: neither, so also a
    region that an edge divides in two. Colours count as well as lightness: the signal is the main axis of variation in
    CIELAB.

    Source: structure tensor coherence, Bigun and Granlund 1987; threshold, Otsu 1979.
    """
    if not _eroded(cutout.inside, MINIMUM_SIDE // 2).any():
        return "plain"
    core = _eroded(cutout.inside, EDGE)
    signal = _main_axis(rgb2lab(cutout.averaged), core)
    if signal[core].std() < MINIMUM_CONTRAST:
        return "plain"
    coherence, direction = _gradient_direction(signal, core)
    if coherence >= BAND_COHERENCE and _crossings(signal, core, direction) >= BAND_CROSSINGS:
        return "banded"
    return "spotted" if _count_spots(signal, core) >= SPOT_COUNT else "plain"


def _eroded(mask: NDArray[np.bool_], n_points: int) -> NDArray[np.bool_]:
    """The points that have `n_points` points of the mask on every side; 2 n + 1 points per side leave one."""
    return np.asarray(ndimage.binary_erosion(mask, structure=np.ones((3, 3)), iterations=n_points), dtype=bool)


def _main_axis(lab: NDArray[np.float64], core: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Each point's place along the direction in which the core's colours vary most `[rows, columns]`, mean zero."""
    mean = lab[core].mean(axis=0)
    _, axes = np.linalg.eigh(np.cov(lab[core].T))
    return (lab - mean) @ axes[:, -1]


def _gradient_direction(signal: NDArray[np.float64], core: NDArray[np.bool_]) -> tuple[float, NDArray[np.float64]]:
    """Coherence of the gradients over the core, and their main direction as a unit vector (row, column)."""
    a_rr, a_rc, a_cc = (part[core].sum() for part in structure_tensor(signal, sigma=1, mode="nearest", order="rc"))
    total = a_rr + a_cc
    coherence = float(np.hypot(a_rr - a_cc, 2 * a_rc) / total) if total > 0 else 0.0
    _, axes = np.linalg.eigh(np.array([[a_rr, a_rc], [a_rc, a_cc]]))
    return coherence, axes[:, -1]


def _crossings(signal: NDArray[np.float64], core: NDArray[np.bool_], direction: NDArray[np.float64]) -> int:
    """How often the mean signal along `direction` changes sides, by more than half a standard deviation each way."""
    place = np.argwhere(core) @ direction
    bins = np.floor(place - place.min()).astype(int)
    counts = np.bincount(bins)
    profile = np.bincount(bins, weights=signal[core])[counts > 0] / counts[counts > 0]
    middle = (profile.max() + profile.min()) / 2
    margin = 0.5 * signal[core].std()
    sides = np.sign(profile - middle)[np.abs(profile - middle) > margin]
    return int(np.count_nonzero(np.diff(sides)))


def _count_spots(signal: NDArray[np.float64], core: NDArray[np.bool_]) -> int:
    """Compact blobs of the rarer side of Otsu's threshold that lie wholly in the core."""
    high = signal > threshold_otsu(signal[core])
    rare = core & (high if high[core].mean() < 0.5 else ~high)
    labels = np.asarray(label(rare, connectivity=2))
    edge = core & ~_eroded(core, 1)
    cut = set(np.unique(labels[edge & rare]).tolist())
    min_points = max(4.0, SPOT_AREA * core.sum())
    blobs = [np.argwhere(labels == blob) for blob in range(1, labels.max() + 1) if blob not in cut]
    return sum(len(points) >= min_points and _elongation(points) <= SPOT_ELONGATION for points in blobs)


def _elongation(points: NDArray[np.intp]) -> float:
    """Length over width of lattice points `[n, 2]`, from their second moments (1/12: a point is a unit square)."""
    short, long = np.linalg.eigvalsh(np.cov(points.T) + np.eye(2) / 12)
    return float(np.sqrt(long / short))
