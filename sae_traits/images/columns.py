"""Which column of a table, or of a dataset of the Hub, says what of an image."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from unicodedata import category

from sae_traits.errors import one_line
from sae_traits.logging import warn
from sae_traits.vocabulary import RANKS

FILE_NAMES = ("file", "file_name", "file_path", "image_file", "image_path", "image", "path")
"""Names of a column with the image file."""
SPECIES_NAMES = (
    *("species", "scientific_name", "binomial", "binomial_name", "canonical_name", "species_name", "taxon_name"),
    *("taxon", "specific_epithet", "epithet"),
)
"""Names of a column with the species, the surest first; an epithet stands beside a genus. Capital letters, blanks,
hyphens and `dwc:` do not matter."""
COLUMN_NAMES: Mapping[str, tuple[str, ...]] = {
    **{rank: (rank,) for rank in RANKS[:-1]},
    "individual": ("individual_id", "individual", "organism_id", "catalog_number", "sampleid", "processid"),
    "license": ("license", "licence", "license_code"),
    "rights_holder": (
        *("rights_holder", "copyright_holder", "creator", "author"),
        *("photographer", "attribution", "copyright", "credit"),
    ),
    "source_url": ("source_url", "image_url", "url", "references"),
}
"""What else a row has -> names of a column that says it."""
_NEAR, _SURELY_NEAR = 0.75, 0.9
"""Likeness from which a name is asked about: of a column that is told of anyway, and of one that else is not."""
_SHOWN = 12
_LONGEST = 60
"""Letters of a name that are shown."""


def find_column(columns: Iterable[str], names: Iterable[str]) -> str | None:
    """Find the column that is called by the first of some names that any is called by."""
    by_name = {plain(column): column for column in columns}
    return next((by_name[plain(name)] for name in names if plain(name) in by_name), None)


def find_columns(columns: Iterable[str], wanted: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Find the column for each thing that is wanted, where there is one."""
    columns = list(columns)
    places = {what: find_column(columns, names) for what, names in wanted.items()}
    return {what: column for what, column in places.items() if column is not None}


def warn_of_unread(
    table: str,
    columns: Iterable[str],
    found: Mapping[str, str],
    wanted: Mapping[str, Iterable[str]],
    *,
    near_only: bool = False,
) -> None:
    """Tell of the columns of a table that are not read, and which names of lacking ones they may have been meant for.

    Args:
        table: what it is called.
        columns: all that it has.
        found: the columns that are read, as `find_columns` finds them.
        wanted: what a row may say -> names of a column that says it.
        near_only: whether only columns are told of whose names are nearly those of lacking ones; for tables that have
            many others as a rule.
    """
    lacking = {plain(name): name for what, names in wanted.items() if what not in found for name in names}
    unread: list[tuple[str, str]] = []
    for column in columns:
        if column in found.values() or not plain(column):
            continue
        near = get_close_matches(plain(column), lacking, n=1, cutoff=_SURELY_NEAR if near_only else _NEAR)
        hint = f"did you mean {lacking[near[0]]}?" if near and near[0] != plain(column) else "it holds no text"
        if near or not near_only:
            unread.append((one_line(column, max_length=_LONGEST), f" ({hint})" if near else ""))
    if len(unread) > _SHOWN:  # those that may be meant for others are shown
        unread.sort(key=lambda told: not told[1])
    if unread:
        shown = ", ".join(name + hint for name, hint in unread[:_SHOWN])
        more = f" and {len(unread) - _SHOWN} more" if len(unread) > _SHOWN else ""
        warn(f"columns of {table} that are not read: {shown}{more}")


def plain(column: str) -> str:
    """Reduce a column's name to its letters: ` dwc:Catalog Number*` -> `catalognumber`."""
    visible = "".join(c for c in column.lower() if not (c.isspace() or c in "-_*#" or category(c) == "Cf"))
    return re.sub(r"^(dwc|dcterms)[:.]", "", visible)
