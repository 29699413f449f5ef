"""Which of a source's rows are wanted: those of a family, of some splits, of some individuals per species."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError
from sae_traits.images.listing import Row
from sae_traits.images.names import parse_name, species_of
from sae_traits.images.splits import parse_split

_NAMES_SHOWN = 5


def is_wanted_family(family: str | None, config: CollectionConfig) -> bool:
    """Whether a family is the wanted one, or none is asked for; capital letters do not matter."""
    return config.family is None or (family is not None and family.casefold() == config.family.casefold())


def select(rows: Sequence[Row], config: CollectionConfig) -> list[Row]:
    """Select the wanted rows of a source whose splits are train, validation and test, in their order.

    Raises:
        CollectionError: a split is unknown; or rows have none, and one is asked for; or no row is wanted.
    """
    if config.split:
        asked = {parse_split(split) for split in config.split}
        wanted = [row for row in rows if row.split in asked]
        if rows and not wanted:
            there = f"its splits are {_names(row.split for row in rows)}"
            raise CollectionError(f"{config.source} has no row of --split {','.join(config.split)}; {there}")
        rows = wanted
    if config.family is not None:
        wanted = [row for row in rows if is_wanted_family(row.ranks.family, config)]
        if rows and not wanted:
            there = f"its families are {_names(row.ranks.family for row in rows)}"
            raise CollectionError(f"{config.source} has no row of --family {config.family}; {there}")
        rows = wanted
    return draw_per_species(rows, config)


def draw_per_species(rows: Sequence[Row], config: CollectionConfig) -> list[Row]:
    """Draw at most `per_species` individuals of each species and take all their rows, in their order.

    Rows without a species stay, to be reported. Which individuals are drawn depends on their names (those of their
    files, where they have none) and the seed alone: more rows in the source replace some, and move none.
    """
    if config.per_species is None:
        return list(rows)
    places: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    kept: set[int] = set()
    for place, row in enumerate(rows):
        species = species_of(row.label, codes=config.species_codes, genus=row.ranks.genus)
        if species is None:
            kept.add(place)
        else:
            places[species][row.individual or row.file].append(place)
    for individuals in places.values():
        drawn = sorted(individuals, key=lambda name: _draw(config.split_seed, name))[: config.per_species]
        kept.update(place for name in drawn for place in individuals[name])
    return [row for place, row in enumerate(rows) if place in kept]


def reasons_without_species(rows: Iterable[Row], config: CollectionConfig) -> dict[str, str]:
    """Why rows are at no species, by their files, which need not be fetched; nothing where no labels are wanted."""
    reasons = {}
    for row in rows if config.labels else ():
        try:
            parse_name(row.label, codes=config.species_codes, genus=row.ranks.genus)
        except CollectionError as error:
            reasons[row.file] = str(error)
    return reasons


def _draw(seed: int, name: str) -> bytes:
    """Draw a pseudo-random number, the same on every machine."""
    return blake2b(f"{seed}\0{name}".encode(), digest_size=16).digest()


def _names(values: Iterable[str | None]) -> str:
    """List some of the names among values, for a message."""
    names = sorted({name for name in values if name is not None})
    shown = ", ".join(names[:_NAMES_SHOWN])
    return f"{shown} and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else shown or "not given"
