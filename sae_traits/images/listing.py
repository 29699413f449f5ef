"""What a source says of its images before any of them is opened, and what every format of sources provides."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError
from sae_traits.images.names import species_of
from sae_traits.schema import Problem, Taxon
from sae_traits.vocabulary import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One image as its source lists it: everything is checked but the label and the image itself."""

    file: str
    """Relative to the root, with forward slashes; a regular file inside the root."""
    label: str | None
    """The species label as written."""
    ranks: Taxon = field(default_factory=Taxon)
    """The ranks as given; those below the family are taken from the label instead."""
    individual: str | None = None
    """The organism, where the source names it."""
    split: Split | None = None
    license: str | None = None
    rights_holder: str | None = None
    source_url: str | None = None
    source_revision: str | None = None
    mm_per_pixel: float | None = None
    mask_file: str | None = None
    """As `file`."""
    animal_box: tuple[float, float, float, float] | None = None
    """x, y, width, height in pixels; its size is positive, but it may reach out of the image."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Row:
        """Put together the row that `dataclasses.asdict` took apart."""
        return cls(**{**values, "ranks": Taxon(**values["ranks"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The images of a source, and the inputs that could not be listed."""

    root: Path
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]
    named: tuple[tuple[str | None, str | None], ...] = ()
    """Label and genus of all inputs, once each, also of those that could not be listed."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of sources, registered in `sources.FORMATS`."""

    name: str
    """In words, for messages."""
    options: tuple[str, ...] = ()
    """Fields of CollectionConfig that say which images of this format are read, and mean nothing for others."""
    recognise: Callable[[CollectionConfig], Callable[[], Listing] | None]
    """If the source is of this format, what lists its wanted images, or says in a CollectionError why it cannot."""


def inside_check(root: Path) -> Callable[[str], None]:
    """Make a check that files are regular files and lie inside a folder, wherever symbolic links lead.

    The check takes a path relative to `root` and raises a CollectionError whose message is the reason, and of a missing
    file the one that differs in capital letters, in its ending or by %20 for a blank. It remembers the folders that
    it has followed and looked into, so that a table of many files is checked quickly.
    """
    real_root = os.path.realpath(root)
    real_folder = cache(os.path.realpath)
    likeness_to_name = cache(lambda folder: {_likeness(name): name for name in os.listdir(folder)})

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
            inside = os.path.isdir(real_folder(folder))
            near = likeness_to_name(real_folder(folder)).get(_likeness(name)) if inside else None
            hint = f"; there is {os.path.join(os.path.dirname(file), near)}" if near else ""
            raise CollectionError(f"it cannot be found: {error.strerror}{hint}") from error
        if not stat.S_ISREG(mode):
            raise CollectionError("it is not a regular file")

    return check


def _likeness(name: str) -> str:
    return os.path.splitext(unquote(name))[0].lower()


def one_row_per_file(rows: Iterable[Row], problems: list[Problem], *, codes: bool) -> list[Row]:
    """Keep the first row of each file, unless its rows name different species; report the others in `problems`.

    Args:
        codes: whether labels that are codes name species, as for `parse_name`.
    """
    rows_of_file: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        rows_of_file[row.file].append(row)
    kept: list[Row] = []
    for file, repeated in rows_of_file.items():
        species = {species_of(row.label, codes=codes, genus=row.ranks.genus) or row.label for row in repeated}
        if len(species) > 1:
            several = ", ".join(sorted({str(row.label) for row in repeated}))
            problems.append(Problem(file, f"it is listed as several species, none of which is taken: {several}"))
            continue
        kept.append(repeated[0])
        if len(repeated) > 1:
            problems.append(Problem(file, f"it is listed {len(repeated)} times; its first row is taken"))
    return kept
