"""Files and folders that are written whole or not at all, whenever the process is killed."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from sae_traits.errors import StoreError


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    with _replacing_file(path) as file:
        file.write(text)


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a table whole or not at all, its text such that no spreadsheet takes a cell for a formula.

    Raises:
        StoreError: it cannot be written.
    """
    with _replacing_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([_cell(name) for name in header])
        writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


@contextmanager
def _replacing_file(path: Path) -> Iterator[TextIO]:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # several processes may write the same
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            yield file
        partial.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder to write into, which takes the place of `folder` at the end, unless the block raises.

    A kill leaves what stood there before, under its own name or, between two renames, as FOLDER.old: the next attempt
    puts that back first, so that the block can read what it is going to replace.

    Raises:
        OSError: it cannot be written.
    """
    partial, old = (folder.with_name(f"{folder.name}.{ending}") for ending in ("partial", "old"))
    _put_back(old, folder)
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of an attempt that was killed
        partial.mkdir(parents=True)
        yield partial
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    finally:
        _put_back(old, folder)
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _put_back(old: Path, folder: Path) -> None:
    if old.exists() and not folder.exists():
        old.rename(folder)
