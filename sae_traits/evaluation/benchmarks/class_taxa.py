"""What the labels of a benchmark stand for: ranks and common names, from a table of labels or from the images' own."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sae_traits.errors import CollectionError, ConfigError
from sae_traits.evaluation.benchmarks.inputs import count
from sae_traits.evaluation.benchmarks.labels import COMMON_NAMES, LABEL_NAMES, LabelledRow
from sae_traits.evaluation.benchmarks.matching import one_each
from sae_traits.evaluation.measures.class_names import ClassName
from sae_traits.images.columns import SPECIES_NAMES, find_column, find_columns
from sae_traits.images.names import parse_name
from sae_traits.images.table_files import open_table
from sae_traits.logging import say, warn
from sae_traits.vocabulary import RANKS

LINEAGE = ("species", "genus", "family", "order", "class", "phylum")
"""Ranks in which a classification is scored, the finest first."""


def name_classes(rows: Sequence[LabelledRow], taxa: Path | None) -> tuple[ClassName, ...]:
    """Say what every label stands for, in the order in which labels appear.

    With a table it says so; otherwise the ranks in which the rows of the images' own source agree, or the binomial that
    a label is.

    Raises:
        ConfigError: the table cannot be read, lacks a column or a label, or contradicts itself; the row is named.
    """
    first = {row.label: row for row in reversed(rows)}
    first = {row.label: first[row.label] for row in rows}
    if taxa is None:
        return tuple(_class_name(label, taxon) for label, taxon in _agreed(rows).items())
    known = read_taxa(taxa)
    if lacking := [label for label in first if label_key(label) not in known]:
        others = f", nor are {len(lacking) - 1:,} others" if len(lacking) > 1 else ""
        raise ConfigError(
            f"{lacking[0]!r} ({first[lacking[0]].where}) is not among the labels of {taxa}{others}; add a row for "
            "each, with empty ranks if it stands for no taxon"
        )
    names = [_class_name(label, known[label_key(label)]) for label in first]
    if unused := known.keys() - {label_key(label) for label in first}:
        say(f"{len(unused)} labels of {taxa.name} have no image here, such as {min(unused)!r}")
    return tuple(names)


def _agreed(rows: Sequence[LabelledRow]) -> dict[str, dict[str, str]]:
    """Label -> the ranks and common name in which all of its rows agree, as far as they say them."""
    said: dict[str, dict[str, dict[str, LabelledRow]]] = {row.label: {} for row in rows}
    for row in rows:
        for what, value in row.taxon.items():
            said[row.label].setdefault(what, {}).setdefault(value, row)
    several = {label: list(of["species"].values()) for label, of in said.items() if len(of.get("species", ())) > 1}
    if several:
        label, (one, other, *_) = next(iter(several.items()))
        stand = count(len(several), "label stands", "labels stand")
        warn(
            f"{stand} for several species, of which only the ranks that they share are used, such as {label!r}: "
            f"{one.taxon['species']} ({one.where}), {other.taxon['species']} ({other.where})"
        )
    return {
        label: {what: next(iter(found)) for what, found in values.items() if len(found) == 1}
        for label, values in said.items()
    }


def read_taxa(path: Path) -> dict[str, dict[str, str]]:
    """Read what labels stand for: key of a label -> ranks and `common_name`, as far as the table says them.

    Raises:
        ConfigError: the table cannot be read, lacks a column, or has two rows of one label that differ.
    """
    try:
        names, rows_of = open_table(path, header_has=LABEL_NAMES)
        label = find_column(names, LABEL_NAMES)
        columns = find_columns(names, {**{rank: (rank,) for rank in RANKS}, "common_name": COMMON_NAMES})
        columns.setdefault("species", find_column([name for name in names if name != label], SPECIES_NAMES) or "")
        columns = {what: column for what, column in columns.items() if column}
        if label is None or not columns:
            raise ConfigError(
                f"{path} needs the column `label`, and ranks such as `species` and `family`, or `common_name`; it has "
                f"{', '.join(names)}"
            )
        rows = list(rows_of(columns | {"label": label}))
    except CollectionError as error:
        raise ConfigError(f"cannot read --taxa: {error}") from error
    said = []
    for number, row in enumerate(rows, start=1):
        written = row.pop("label")
        if written is None:
            raise ConfigError(f"row {number} below the header of {path} has no label; give it one, or remove it")
        said.append((number, label_key(written), written, {what: value for what, value in row.items() if value}))
    return one_each(path, said)


def label_key(label: str) -> str:
    """Reduce a label to what has to be the same in two tables: without underscores, blanks and capital letters."""
    return " ".join(unicodedata.normalize("NFC", label).replace("_", " ").split()).casefold()


def species_of(name: ClassName) -> str | None:
    """The binomial of a class, None where it is not one species."""
    return f"{name.genus} {name.epithet}" if name.genus and name.epithet else None


def lineages(names: Iterable[ClassName]) -> list[list[str | None]]:
    """The taxa of every class, in the order of LINEAGE."""
    return [[species_of(name), name.genus, name.family, name.order, name.class_, name.phylum] for name in names]


def _class_name(label: str, taxon: Mapping[str, str]) -> ClassName:
    genus, epithet = _binomial(label, taxon)
    return ClassName(
        label=label,
        kingdom=taxon.get("kingdom"),
        phylum=taxon.get("phylum"),
        class_=taxon.get("class"),
        order=taxon.get("order"),
        family=taxon.get("family"),
        genus=genus,
        epithet=epithet,
        common_name=taxon.get("common_name"),
    )


def _binomial(label: str, taxon: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Genus and epithet: of the column species, beside that of the genus; without any rank, those of the label."""
    genus, species = taxon.get("genus"), taxon.get("species")
    written = species or (None if any(rank in taxon for rank in RANKS) else label)
    try:
        parsed = parse_name(written, genus=genus)
    except CollectionError:
        return genus, None
    return parsed.genus or genus, parsed.species.split(" ", 1)[1] if " " in parsed.species else None
