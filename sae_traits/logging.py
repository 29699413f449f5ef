"""Progress on stderr: a bar in a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 5.0


def say(message: str) -> None:
    """One line of progress or a warning, on stderr."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201


def track(items: Iterable[Item], label: str, total: int | None, unit: str = "image") -> Iterator[Item]:
    """Pass items through, showing how many of `total` are done, the rate and, with a total, the time left.

    The rate is counted from the first item on: before it, worker processes start, which says nothing of the rest.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=label, total=total, unit=unit, dynamic_ncols=True)
        return
    first = said = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if done == 1:
            first = now
        elif now - said >= SECONDS_BETWEEN_LINES and done != total:
            said = now
            rate = (done - 1) / (now - first)
            if total is None:
                say(f"{label}: {done} {unit}s, {rate:.1f}/s")
            else:
                say(f"{label}: {done} of {total} {unit}s, {rate:.1f}/s, {(total - done) / rate:.0f} s left")
