"""Whether the files of a run are as they were written: by size and time, and where only the time differs, by hash."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sae_traits.errors import StoreError
from sae_traits.features.index_file import checksums_of
from sae_traits.io import hash_of_file
from sae_traits.logging import track

BYTES_IN_SILENCE = 256 * 2**20
"""More than that is compared with a line of progress."""


def state_of_file(path: Path, *, with_hash: bool = True) -> list[Any]:
    """Size, time and sha256 of a file, by which `compare_files` knows it again."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, hash_of_file(path) if with_hash else None]


def compare_files(
    folder: Path, files: Mapping[str, list[Any]], *, thorough: bool = False, seen: Mapping[str, int] | None = None
) -> tuple[list[Path], dict[str, int]]:
    """Files that are missing or not as `state_of_file` found them, and the new times of those that are, by name.

    A file whose time is another, as in a copy of a run, is read and compared by its hash, or by the one that an index
    beside it has; one without either counts as changed.

    Args:
        files: names in the folder, with what `state_of_file` said.
        thorough: read also files whose time is the same, where their hash is known.
        seen: later times at which a file was found as it was written.
    """
    changed: set[str] = set()
    doubtful: dict[str, os.stat_result] = {}
    for name, (size, time_ns, sha256) in files.items():
        try:
            status = (folder / name).stat()
        except OSError:
            changed.add(name)
            continue
        is_of_known_time = status.st_mtime_ns in (time_ns, (seen or {}).get(name))
        if status.st_size != size:
            changed.add(name)
        elif not is_of_known_time or (thorough and sha256):
            doubtful[name] = status
    of_indices: dict[Path, dict[str, str]] = {}
    reading: Iterable[str] = doubtful
    if sum(status.st_size for status in doubtful.values()) >= BYTES_IN_SILENCE:
        reading = track(doubtful, f"comparing files of {folder}", len(doubtful), unit="file")
    for name in reading:
        path, sha256 = folder / name, files[name][2]
        if sha256 is None:
            if path.parent not in of_indices:
                of_indices[path.parent] = checksums_of(path.parent)
            sha256 = of_indices[path.parent].get(path.name)
        try:
            if sha256 is None or hash_of_file(path) != sha256:
                changed.add(name)
        except StoreError:
            changed.add(name)
    times = {name: status.st_mtime_ns for name, status in doubtful.items() if name not in changed}
    return [folder / name for name in files if name in changed], times
