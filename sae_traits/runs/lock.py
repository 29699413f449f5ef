"""One writer per run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sae_traits.errors import StoreError

LOCK = ".lock"


def is_read_only(folder: Path) -> bool:
    """Whether what is finished in a folder can only be looked at."""
    return not os.access(folder, os.W_OK)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Keep other commands from writing to a run for as long as the block lasts; a kill frees it, readers go on.

    A folder that is read-only has no writer, hence no lock: what is finished in it can be looked at.

    Raises:
        StoreError: another command writes to it, or the lock is another person's.
    """
    if is_read_only(folder):
        yield
        return
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout as error:
        raise StoreError(
            f"another command writes to {folder}; wait until it is done, or choose another --out"
        ) from error
    except PermissionError as error:
        raise StoreError(f"cannot write to {folder}: {error.strerror}; choose another --out") from error
