"""Order of pictures that are read in groups while training, and the pictures of each step, read ahead.

Groups of an epoch are in random order; as many as fit into a window are read, and their rows leave it in random order
while the next window is read. All of it is a function of the seed, so a training can go on at any step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from sae_traits.contrastive.batches import check_batch_size, rows_by_group
from sae_traits.release.pictures import StoredPicture

WINDOW_BYTES = 512 * 2**20
"""Encoded pictures that are shuffled together, and one group at most besides; two windows are held at once."""
_GROUPS_AT_ONCE = 4


@dataclass(frozen=True, eq=False)
class WindowedOrder:
    """Rows of every step; a process takes groups of its own, so an epoch reads hardly any of them twice."""

    pictures: Sequence[StoredPicture]
    """Of every row; rows of a group follow each other."""
    batch_size: int
    seed: int
    n_processes: int = 1
    window_bytes: int = WINDOW_BYTES

    def __post_init__(self) -> None:
        check_batch_size(self.batch_size, len(self.pictures))

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of all rows; what is left over comes in other epochs."""
        return len(self.pictures) // self.batch_size

    @property
    def n_own(self) -> int:
        """Rows of a step that one process takes."""
        return self.batch_size // self.n_processes

    def rows(self, step: int) -> NDArray[np.int64]:
        """Rows of a step `[batch_size]`, those of each process together."""
        epoch, place = divmod(step, self.steps_per_epoch)
        of_processes = [np.concatenate(windows) for windows in _epoch(self, epoch)]
        return np.concatenate([rows[place * self.n_own :][: self.n_own] for rows in of_processes])

    def windows(self, process: int, first_step: int, n_steps: int) -> Iterator[NDArray[np.int64]]:
        """Yield the windows that a process needs for the steps from the first to the last, each without other rows."""
        epoch, place = divmod(first_step, self.steps_per_epoch)
        n_passed, n_wanted = place * self.n_own, (n_steps - first_step) * self.n_own
        while n_wanted > 0:
            for window in _epoch(self, epoch)[process]:
                rows = window[n_passed:][:n_wanted]
                n_passed, n_wanted = max(0, n_passed - len(window)), n_wanted - len(rows)
                if len(rows):
                    yield rows
            epoch += 1

    def read(self, process: int, first_step: int, n_steps: int) -> Iterator[list[bytes | None]]:
        """Yield the encoded pictures of a process's rows of every step, in their order.

        Raises:
            ReleaseError: a file cannot be read, or reached.
        """
        held: dict[int, bytes | None] = {}
        windows = self._read_ahead(process, first_step, n_steps)
        for step in range(first_step, n_steps):
            rows = self.rows(step)[process * self.n_own :][: self.n_own].tolist()
            while not held.keys() >= {*rows}:
                held |= next(windows)
            yield [held.pop(row) for row in rows]

    def _read_ahead(self, process: int, first_step: int, n_steps: int) -> Iterator[dict[int, bytes | None]]:
        """Yield windows, each as row -> picture, while the next one is read."""
        with ThreadPoolExecutor(1) as reader:
            coming = None
            for rows in self.windows(process, first_step, n_steps):
                following = reader.submit(self._read_window, rows)
                if coming is not None:
                    yield coming.result()
                coming = following
            if coming is not None:
                yield coming.result()

    def _read_window(self, rows: NDArray[np.int64]) -> dict[int, bytes | None]:
        by_group = [list(some) for _, some in groupby(np.sort(rows).tolist(), lambda row: self.pictures[row].group)]
        with ThreadPoolExecutor(_GROUPS_AT_ONCE) as readers:
            groups = readers.map(lambda some: self.pictures[some[0]].group.read(), by_group)
            pairs = zip(by_group, groups, strict=True)
            return {row: read[self.pictures[row].row] for some, read in pairs for row in some}


@lru_cache(maxsize=2)
def _epoch(order: WindowedOrder, epoch: int) -> list[list[NDArray[np.int64]]]:
    """Rows of the windows of every process, in their order."""
    rng = np.random.default_rng([order.seed, 3, epoch])
    groups = list(dict.fromkeys(picture.group for picture in order.pictures))
    number = {group: index for index, group in enumerate(groups)}
    group_of = np.array([number[picture.group] for picture in order.pictures])
    n_bytes = np.array([group.n_bytes for group in groups])
    of_group = rows_by_group(group_of)
    in_order = np.concatenate([of_group[group] for group in rng.permutation(len(groups))])
    shares = in_order[: order.steps_per_epoch * order.batch_size].reshape(order.n_processes, -1)

    def windows(share: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        of_rows = group_of[share]
        begins = np.diff(of_rows, prepend=-1) != 0
        bytes_before = np.cumsum(np.where(begins, n_bytes[of_rows], 0)) - n_bytes[of_rows]
        cuts = np.flatnonzero(np.diff(bytes_before // order.window_bytes)) + 1
        return [rng.permutation(rows) for rows in np.split(share, cuts)]

    return [windows(share) for share in shares]
