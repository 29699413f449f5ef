"""Messages and progress, through the logger `sae_traits` of the standard library.

The package itself prints nothing: whoever uses it as a library configures that logger, or reads progress from a
callback (`progress_to`). The command line prints both to stderr (`printing_to_stderr`).
"""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
ProgressCallback = Callable[[str, int, int | None, str], None]
"""Receives the label, how many are done, the total (None where it is unknown) and the unit ("image")."""

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BEFORE_A_RATE = 1.0
"""Before that, a rate says more about the clock than about the work."""

logger = logging.getLogger("sae_traits")
logger.addHandler(logging.NullHandler())  # else Python itself prints warnings where nothing is configured
_callbacks: list[ProgressCallback] = []


def say(message: str) -> None:
    """Log a line of progress or what a user may want to know."""
    logger.info("%s", message)


def warn(message: str) -> None:
    """Log what a user should know: something was left out, is slow or may surprise."""
    logger.warning("%s", message)


@contextmanager
def progress_to(callback: ProgressCallback) -> Iterator[None]:
    """Inside the block, tell a callback of everything that `track` counts: at 0, and after every item."""
    _callbacks.append(callback)
    try:
        yield
    finally:
        _callbacks.remove(callback)


def track(
    items: Iterable[Item], label: str, total: int | None, unit: str = "image", note: Callable[[], str] = str
) -> Iterator[Item]:
    """Pass items through, showing how many of `total` are done, the rate and, with a total, the time left.

    Shown is a bar where messages are printed to a terminal; elsewhere lines are logged, the first at once, the others
    every few seconds. What `note` says at that moment is put behind.
    """
    tell_progress(label, 0, total, unit)
    shown: Iterable[Item]
    if any(isinstance(handler, _PrintToStderr) for handler in logger.handlers) and sys.stderr.isatty():
        from tqdm import tqdm

        shown = bar = tqdm(items, desc=label, total=total, unit=unit, dynamic_ncols=True)
        tell = bar.set_postfix_str
    else:
        shown, tell = _with_lines(items, label, total, unit, note), None
    for done, item in enumerate(shown, start=1):
        yield item
        if tell is not None and (words := note()):
            tell(words, refresh=False)
        tell_progress(label, done, total, unit)


def _with_lines(
    items: Iterable[Item], label: str, total: int | None, unit: str, note: Callable[[], str]
) -> Iterator[Item]:
    rest = "" if total is None else f" of {total}"
    rest += f" {unit}{'es' if unit.endswith('ch') else 's'}"
    started = time.monotonic()
    next_line = started + SECONDS_BETWEEN_LINES
    say(f"{label}: 0{rest}")
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now < next_line or done == total:
            continue
        next_line = now + SECONDS_BETWEEN_LINES
        # The wait for the first item counts too: those that were made ahead meanwhile come in a burst.
        seconds = now - started
        line = f"{label}: {done}{rest}"
        if seconds >= SECONDS_BEFORE_A_RATE:
            line += f", {done / seconds:.1f}/s"
            if total is not None:
                line += f", {duration((total - done) * seconds / done)} left"
        say(f"{line}, {words}" if (words := note()) else line)


def duration(seconds: float) -> str:
    """A time in words: `90 s`, `12 min`, `5.4 h` or `3.1 days`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours = seconds / 3600
    if hours < 2:
        return f"{seconds / 60:.0f} min"
    return f"{hours:.1f} h" if hours < 72 else f"{hours / 24:,.1f} days"


def tell_progress(label: str, done: int, total: int | None, unit: str) -> None:
    """Tell the callbacks of `progress_to` how many are done, where `track` does not count them."""
    for callback in tuple(_callbacks):
        callback(label, done, total, unit)


@contextmanager
def printing_to_stderr() -> Iterator[None]:
    """Inside the block, print messages of every level as plain lines to stderr, as the command line does.

    A block inside another one, of a command that calls commands, prints no line twice.
    """
    if any(isinstance(handler, _PrintToStderr) for handler in logger.handlers):
        yield
        return
    handler, level, propagates = _PrintToStderr(), logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # some libraries configure the root logger, which would print each line once more
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagates


class _PrintToStderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), file=sys.stderr, flush=True)  # noqa: T201
