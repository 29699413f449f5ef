"""What a source says of its images before any of them is opened; the folder and the table both make one."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from sae_traits.errors import CollectionError
from sae_traits.schema import Problem, Split, Taxon


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One image as its source lists it: everything is checked but the label and the image itself."""

    file: str
    """Relative to the root, with forward slashes; a regular file inside the root."""
    label: str | None
    """The species label as written."""
    ranks: Taxon = field(default_factory=Taxon)
    """The ranks as given; those below the family are taken from the label instead."""
    split: Split | None = None
    license: str | None = None
    rights_holder: str | None = None
    source_url: str | None = None
    mm_per_pixel: float | None = None
    mask_file: str | None = None
    """As `file`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The images of a source, and the inputs that could not be listed."""

    root: Path
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]


def inside_check(root: Path) -> Callable[[str], None]:
    """A check that files are regular files and lie inside a folder, wherever symbolic links lead.

    The check takes a path relative to `root` and raises a CollectionError whose message is the reason. It remembers the
    folders that it has followed, so that a table of many files is checked quickly.
    """
    real_root = os.path.realpath(root)
    real_folder = cache(os.path.realpath)

    def check(file: str) -> None:
        folder, name = os.path.split(os.path.join(real_root, file))
        real = os.path.join(real_folder(folder), name)
        if os.path.islink(real):
            real = os.path.realpath(real)
        if not real.startswith(os.path.join(real_root, "")):
            raise CollectionError("a symbolic link leads out of the collection's folder")
        try:
            mode = os.stat(real).st_mode
        except OSError as error:
            raise CollectionError(f"it cannot be found: {error.strerror}") from error
        if not stat.S_ISREG(mode):
            raise CollectionError("it is not a regular file")

    return check
