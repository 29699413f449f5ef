"""One writer per run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sae_traits.errors import StoreError
from sae_traits.io import clear_unfinished

LOCK = ".lock"
SHARDS = "shards"
"""A folder per step that is done in shards, with a lock per shard."""
SECONDS_FOR_A_LOCK = 1
"""Commands that look whether a lock is held, or note something small, have it for a moment."""


def is_read_only(folder: Path) -> bool:
    """Whether what is finished in a folder can only be looked at."""
    return not os.access(folder, os.W_OK)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Keep other commands from writing to a run for as long as the block lasts; a kill frees it, readers go on.

    What a killed command left half-written goes first. A folder that is read-only has no writer, hence no lock: what is
    finished in it can be looked at.

    Raises:
        StoreError: another command writes to it, or makes a shard of it, or the lock is another person's.
    """
    if is_read_only(folder):
        yield
        return
    from filelock import FileLock, Timeout

    try:  # of the lock alone: what the block fails to read is another matter
        lock = FileLock(folder / LOCK).acquire(timeout=SECONDS_FOR_A_LOCK)
    except Timeout as error:
        raise StoreError(
            f"another command writes to {folder}; wait until it is done, or choose another --out"
        ) from error
    except PermissionError as error:
        raise StoreError(f"cannot write to {folder}: {error.strerror}; choose another --out") from error
    with lock:
        _refuse_beside_shards(folder)
        clear_unfinished(folder)
        yield


@contextmanager
def noting(folder: Path) -> Iterator[bool]:
    """Whether nobody else writes to a run for as long as the block lasts, which is a moment."""
    from filelock import FileLock, Timeout

    try:
        held = FileLock(folder / LOCK).acquire(timeout=0)
    except (Timeout, OSError):
        yield False
        return
    with held:
        yield True


def is_held(path: Path) -> bool:
    """Whether a process has the lock of a shard; a kill frees it."""
    from filelock import FileLock, Timeout

    try:
        FileLock(path).acquire(timeout=0).lock.release()
    except Timeout:
        return True
    return False


def _refuse_beside_shards(folder: Path) -> None:
    """Raise a StoreError while a process makes a shard of a step, which it does beside others."""
    for path in sorted(folder.glob(f"{SHARDS}/*/*.lock")):
        if is_held(path):
            what = f"{path.parent.name} {path.stem}"
            raise StoreError(f"another process makes {what} of {folder}; wait until it is done")
