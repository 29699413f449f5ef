"""How often functions are called, whoever calls them and by whatever name: counted by the interpreter."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def counting_calls(*functions: Callable[..., Any]) -> Iterator[dict[str, int]]:
    """Yield a dictionary that has, after the block, how often each function was called within it, by its name.

    Generator functions count once however often they are resumed. Calls in other processes are not seen.
    """
    code_of: dict[Any, str] = {function.__code__: function.__name__ for function in functions}  # pyright: ignore
    frames: dict[str, set[FrameType]] = {name: set() for name in code_of.values()}

    def see(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code in code_of:
            frames[code_of[frame.f_code]].add(frame)

    counts: dict[str, int] = {}
    former = sys.getprofile(), threading.getprofile()
    threading.setprofile(see)  # for threads that are started from now on
    sys.setprofile(see)
    try:
        yield counts
    finally:
        sys.setprofile(former[0])
        threading.setprofile(former[1])
        counts.update({name: len(of_function) for name, of_function in frames.items()})
