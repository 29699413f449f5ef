"""Rows of a user's tables beside the images and labels of a benchmark: which row is about what, and only one each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

from sae_traits.errors import ConfigError

Value = TypeVar("Value")


def places_of(names: Sequence[str], files: Sequence[str]) -> list[int | None]:
    """Find the image that each name of a table is of: the same path, or the same base name where only one has it.

    The base name does not do where it is that of several images, or of several paths in the table.

    Args:
        names: as the table writes them; several rows may be of one image.
        files: of the images, with forward slashes.

    Returns:
        Per name a place among the files; None where it is of none of them, or not clear of which.
    """
    names = [str(PurePosixPath(name.replace("\\", "/"))) for name in names]
    place = {file: number for number, file in enumerate(files)}
    only_path, only_file = _by_base_name([name for name in names if "/" in name]), _by_base_name(files)
    found: list[int | None] = []
    for name in names:
        base = PurePosixPath(name).name
        is_clear = name == base or base in only_path
        file = name if name in place else only_file.get(base) if is_clear else None
        found.append(None if file is None else place[file])
    return found


def one_each(source: str | Path, rows: Iterable[tuple[int, str, str, Value]]) -> dict[str, Value]:
    """Gather what a table says of each thing: number, key, the thing as it is written, and what is said -> by key.

    Raises:
        ConfigError: two rows say different things of the same.
    """
    found: dict[str, Value] = {}
    for number, key, written, value in rows:
        if found.setdefault(key, value) != value:
            raise ConfigError(
                f"row {number} below the header of {source} says something else of {written!r} than an earlier one; "
                "remove one of them"
            )
    return found


def _by_base_name(paths: Sequence[str]) -> dict[str, str]:
    """Base name -> the one path that ends in it."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        found[PurePosixPath(path).name].add(path)
    return {base: next(iter(of)) for base, of in found.items() if len(of) == 1}
