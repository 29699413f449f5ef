"""How often the files of a folder are opened, by any process: counted by the kernel (inotify), Linux only."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

IN_OPEN, IN_CLOSE, IN_Q_OVERFLOW = 0x20, 0x18, 0x4000
_EVENT = struct.Struct("iIII")


@contextmanager
def counting_opens(folder: Path) -> Iterator[Counter[str]]:
    """Yield a counter that has, after the block, how often each file below a folder was opened within it."""
    if not sys.platform.startswith("linux"):
        pytest.skip("opened files are counted with inotify, which Linux has")
    libc = ctypes.CDLL(None, use_errno=True)
    watcher = libc.inotify_init1(os.O_NONBLOCK)
    folders = {}
    for path in [folder, *(path for path in sorted(folder.rglob("*")) if path.is_dir())]:
        # With closing, too: the kernel merges equal events that follow each other.
        folders[libc.inotify_add_watch(watcher, os.fsencode(path), IN_OPEN | IN_CLOSE)] = path
    counts: Counter[str] = Counter()
    try:
        yield counts
        for watch, mask, name in _events(watcher):
            assert not mask & IN_Q_OVERFLOW, "more files were opened than the kernel counts"
            path = folders[watch] / name
            if mask & IN_OPEN and name and path.is_file():
                counts[path.relative_to(folder).as_posix()] += 1
    finally:
        os.close(watcher)


def _events(watcher: int) -> Iterator[tuple[int, int, str]]:
    while True:
        try:
            data = os.read(watcher, 1 << 20)
        except BlockingIOError:
            return
        while data:
            watch, mask, _, length = _EVENT.unpack_from(data)
            name = data[_EVENT.size : _EVENT.size + length].rstrip(b"\0").decode()
            yield watch, mask, name
            data = data[_EVENT.size + length :]
