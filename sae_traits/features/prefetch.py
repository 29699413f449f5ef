"""Work ahead of its consumer, in a background thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Event
from typing import TypeVar

Item = TypeVar("Item")


def prefetch(items: Generator[Item], ahead: int, abandoned: Event) -> Generator[Item]:
    """The items of a generator, made by a thread that is at most `ahead` items further than the consumer.

    What goes wrong in the thread is raised here, when its turn has come. The thread starts with the first item and ends
    with the last one, or when this generator is closed or dropped; `items` is closed with it.

    Args:
        items: made in the thread; None is not among them.
        ahead: how many items, at least 1.
        abandoned: is set when this generator ends, so that an item which takes long can be given up half made.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    with closing(items):
        try:
            upcoming = deque(thread.submit(next, items, None) for _ in range(ahead))
            while (item := upcoming.popleft().result()) is not None:
                upcoming.append(thread.submit(next, items, None))
                yield item
        finally:
            abandoned.set()
            thread.shutdown(cancel_futures=True)
