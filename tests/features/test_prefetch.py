"""Working ahead: the same items, boundedly many, errors in their turn, and no thread left behind."""

from __future__ import annotations

import gc
import threading
import time
from threading import Event

import pytest

from sae_traits.features.prefetch import prefetch


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def wait_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("ahead", [1, 3, 50])
def test_the_items_come_in_their_order_and_the_thread_ends(ahead):
    assert list(prefetch((i for i in range(20)), ahead, Event())) == list(range(20))
    assert threads() == []


@pytest.mark.parametrize("ahead", [1, 4])
def test_no_more_items_are_made_than_stated(ahead):
    made = []

    def items():
        for i in range(100):
            made.append(i)
            yield i

    ahead_of_us = prefetch(items(), ahead, Event())
    for i in range(3):
        assert next(ahead_of_us) == i
        wait_until(lambda i=i: len(made) == i + 1 + ahead)
        time.sleep(0.02)
        assert len(made) == i + 1 + ahead


def test_an_error_comes_in_its_turn():
    def items():
        yield 1
        yield 2
        raise OSError("the disk is gone")

    ahead_of_us = prefetch(items(), 5, Event())
    assert [next(ahead_of_us), next(ahead_of_us)] == [1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(ahead_of_us)
    assert threads() == []


@pytest.mark.parametrize("how", ["close", "drop"])
def test_the_thread_ends_when_no_one_wants_the_items(how):
    abandoned, closed = Event(), Event()

    def items():
        try:
            yield 1
            assert abandoned.wait(10)  # an item that takes long, and is given up
            yield 2
        finally:
            closed.set()

    ahead_of_us = prefetch(items(), 2, abandoned)
    assert next(ahead_of_us) == 1
    assert len(threads()) == 1
    if how == "close":
        ahead_of_us.close()
    else:
        del ahead_of_us
        gc.collect()
    assert closed.is_set()
    assert threads() == []
