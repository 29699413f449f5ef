"""Which of a source's rows are wanted: a family, some splits, so many images a species."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b

from sae_traits.errors import CollectionError
from sae_traits.images.listing import Row
from sae_traits.images.names import parse_name
from sae_traits.images.splits import parse_split

_NAMES_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is asked of a source."""

    family: str | None = None
    """Only images of this family; capital letters do not matter."""
    splits: tuple[str, ...] = ()
    """Only these splits, by the names that the source has for them; all when empty."""
    per_species: int | None = None
    """At most so many images a species."""
    seed: int = 0
    """Seed of the draw within a species."""

    def is_family(self, name: str | None) -> bool:
        """Whether a family is the wanted one, or none is asked for."""
        return self.family is None or (name is not None and name.casefold() == self.family.casefold())


def select(rows: Sequence[Row], selection: Selection, source: object) -> list[Row]:
    """The rows that are wanted, in their order.

    Args:
        rows: of a source whose splits are train, validation and test.
        selection: what is asked.
        source: named in errors.

    Raises:
        CollectionError: a split is unknown; or rows have none, and one is asked for; or no row is wanted.
    """
    if selection.splits:
        wanted = {parse_split(split) for split in selection.splits}
        rows = _some(
            rows,
            lambda row: row.split in wanted,
            f"{source} has no row of --split {','.join(selection.splits)}; "
            f"its splits are {_names(row.split for row in rows)}",
        )
    if selection.family is not None:
        rows = _some(
            rows,
            lambda row: selection.is_family(row.ranks.family),
            f"{source} has no row of --family {selection.family}; "
            f"its families are {_names(row.ranks.family for row in rows)}",
        )
    return draw_per_species(rows, selection)


def draw_per_species(rows: Sequence[Row], selection: Selection) -> list[Row]:
    """At most `per_species` rows of each species, in their order; rows without a species stay, to be reported.

    Which ones depends on their files and the seed alone: more rows in the source replace some, and move none.
    """
    if selection.per_species is None:
        return list(rows)
    places: dict[str, list[int]] = defaultdict(list)
    kept: set[int] = set()
    for place, row in enumerate(rows):
        species = _species(row.label)
        if species is None:
            kept.add(place)
        else:
            places[species].append(place)
    for found in places.values():
        found.sort(key=lambda place: _draw(selection.seed, rows[place].file))
        kept.update(found[: selection.per_species])
    return [row for place, row in enumerate(rows) if place in kept]


@cache
def _species(label: str | None) -> str | None:
    try:
        return parse_name(label).species
    except CollectionError:
        return None


def _draw(seed: int, file: str) -> bytes:
    """A pseudo-random number, the same on every machine."""
    return blake2b(f"{seed}\0{file}".encode(), digest_size=16).digest()


def _some(rows: Sequence[Row], is_wanted: Callable[[Row], bool], message: str) -> list[Row]:
    found = [row for row in rows if is_wanted(row)]
    if not found and rows:
        raise CollectionError(message)
    return found


def _names(found: Iterable[str | None]) -> str:
    """Some of the names among values, for a message."""
    names = sorted({name for name in found if name is not None})
    shown = ", ".join(names[:_NAMES_SHOWN])
    return f"{shown} and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else shown or "not given"
