"""Images that show the same photograph: copies, re-encoded, resized or a little retouched ones.

They are found by a perceptual hash: the signs of the 256 lowest frequencies of the grey image (a discrete cosine
transform), each above or below their median (pHash, Zauner 2010, with 256 bits instead of 64). With 64 bits, different
images on the same white ground differ in as few bits as copies of one photograph do; with 256 they do not:
docs/benchmarks.md has the figures behind MAX_DISTANCE. Mirrored, turned and strongly cropped copies are not found.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_DISTANCE = 24
"""Images whose hashes differ in at most so many of their 256 bits are near-identical."""
HASH_BYTES = 32
_SIDE, _FREQUENCIES = 64, 16
_MIN_CONTRAST = 1.0
"""Standard deviation of grey levels below which an image shows nothing that could be recognised."""
_BANDS = MAX_DISTANCE // 2 + 1
"""Hashes that differ in fewer than twice as many bits as there are bands differ in at most one bit of some band."""


def perceptual_hash(image: Image.Image) -> bytes | None:
    """Hash an RGB image to 256 bits that change little when it is re-encoded, resized or brightened; None if even."""
    from scipy.fft import dctn

    small = image.resize((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=2.0).convert("L")
    grey = np.asarray(small, dtype=np.float64)
    if grey.std() < _MIN_CONTRAST:
        return None
    lowest = np.asarray(dctn(grey, norm="ortho"))[:_FREQUENCIES, :_FREQUENCIES]
    return np.packbits(lowest > np.median(lowest)).tobytes()


def near_identical_groups(hashes: Sequence[bytes]) -> NDArray[np.intp]:
    """Group near-identical images, also by way of others, of their hashes; a group is named by its first image `[n]`.

    Only hashes that differ in at most one bit of one of 13 bands are compared: all that differ in at most 24 bits do.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    words = np.frombuffer(b"".join(hashes), dtype=np.uint64).reshape(-1, HASH_BYTES // 8)
    different, which = np.unique(words, axis=0, return_inverse=True)  # a thousand copies are compared once
    pairs = _close_pairs(different)
    links = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(different), len(different)))
    _, component = connected_components(links, directed=False)
    of_image = component[which.ravel()]
    _, first, group = np.unique(of_image, return_index=True, return_inverse=True)
    return first[group]


def leaks(train: Sequence[bytes], test: Sequence[bytes]) -> NDArray[np.intp]:
    """Find test images that are near-identical to training images, by their hashes.

    Returns:
        Every such pair: row of `train`, row of `test` `[n_pairs, 2]`, by row of `test`.
    """
    from scipy.sparse import csr_array, eye_array

    words = np.frombuffer(b"".join([*train, *test]), dtype=np.uint64).reshape(-1, HASH_BYTES // 8)
    different, which = np.unique(words, axis=0, return_inverse=True)
    which, n = which.ravel(), len(different)
    pairs = _close_pairs(different)
    one_way = csr_array((np.ones(len(pairs)), pairs.T), shape=(n, n))
    close = one_way + one_way.T + eye_array(n, format="csr")
    test_rows, train_rows = close[which[len(train) :]][:, which[: len(train)]].nonzero()
    order = np.lexsort((train_rows, test_rows))
    return np.stack([train_rows[order], test_rows[order]], axis=1).astype(np.intp)


def _close_pairs(words: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Find pairs of hashes `[n, 4]` that differ in at most MAX_DISTANCE bits, some of them repeated `[n_pairs, 2]`."""
    bits = np.unpackbits(words.view(np.uint8), axis=1)
    pairs = [np.empty((0, 2), dtype=np.intp)]
    for band in range(_BANDS):
        in_band = bits[:, band::_BANDS]  # low and high frequencies in each
        key = np.zeros(len(words), dtype=np.intp)
        for column in in_band.T:
            key = 2 * key + column
        order = np.argsort(key, kind="stable")
        key = key[order]
        place = np.arange(len(key))
        pairs += _close_to(words, order, place, place + 1, np.searchsorted(key, key, side="right"))
        for bit in 1 << np.arange(in_band.shape[1]):
            without = place[key & bit == 0]
            other = key[without] | bit
            first, end = (np.searchsorted(key, other, side=side) for side in ("left", "right"))
            pairs += _close_to(words, order, without, first, end)
    return np.concatenate(pairs)


def _close_to(
    words: NDArray[np.uint64], order: NDArray[np.intp], left: NDArray[Any], first: NDArray[Any], end: NDArray[Any]
) -> Iterator[NDArray[np.intp]]:
    """Yield the close pairs of each place `left` with those from `first` to before `end`, one after another `[n]`."""
    while len(left):
        has_more = first < end
        left, first, end = left[has_more], first[has_more], end[has_more]
        yield _close(words, order[left], order[first])
        first = first + 1


def _close(words: NDArray[np.uint64], left: NDArray[np.intp], right: NDArray[np.intp]) -> NDArray[np.intp]:
    """Keep the pairs that are close; the first word tells most of them apart."""
    for n_words in (1, words.shape[1]):
        distance = np.bitwise_count(words[left, :n_words] ^ words[right, :n_words]).sum(axis=1)
        close = distance <= MAX_DISTANCE
        left, right = left[close], right[close]
    return np.stack([left, right], axis=1)
