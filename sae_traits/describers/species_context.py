"""The species table: what is written about the form of a species, which settles the terms of captions.

Two organisms of different kingdoms may share a name. A row says its kingdom where that is known, and a species whose
kingdom is known never gets the text of another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path

from sae_traits.errors import ConfigError
from sae_traits.images.columns import SPECIES_NAMES
from sae_traits.images.names import binomial, rank_name
from sae_traits.images.table_files import read_columns
from sae_traits.io import write_csv
from sae_traits.schema import Taxon

_TEXT_NAMES = ("text", "description", "morphology", "reference")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeciesContext:
    """What is written about a species; one row of the table."""

    species: str
    kingdom: str = ""
    """Empty where nothing says it; so are the other texts."""
    page: str = ""
    """Where it was found."""
    section: str = ""
    """Its heading; `lead` for the beginning of the page."""
    text: str = ""
    note: str = ""
    """How it was found, or why it was not."""


@dataclass(frozen=True)
class SpeciesContexts:
    """Rows with text, by species."""

    rows: Mapping[str, Sequence[SpeciesContext]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> SpeciesContexts:
        """Read a table with the columns species and text, and perhaps kingdom and page.

        Raises:
            ConfigError: it cannot be read, lacks a column, or has two texts for a species and kingdom.
        """
        wanted = {"species": SPECIES_NAMES, "text": _TEXT_NAMES, "kingdom": ("kingdom",), "page": ("page", "title")}
        found: dict[str, dict[str, SpeciesContext]] = {}
        for row in read_columns(path, wanted, ("species", "text"), what="the species table"):
            if not row["species"] or not row["text"]:
                continue
            name, kingdom = binomial(row["species"]), rank_name(row.get("kingdom") or "")
            context = SpeciesContext(
                species=name, kingdom=kingdom, page=row.get("page") or "", text=" ".join(row["text"].split())
            )
            former = found.setdefault(name, {}).setdefault(kingdom, context)
            if former.text != context.text:
                of_kingdom = f" of the kingdom {kingdom}" if kingdom else " without a kingdom"
                raise ConfigError(f"{path} has two texts for {name}{of_kingdom}; keep one, or say their kingdoms")
        return cls({name: tuple(of_kingdoms.values()) for name, of_kingdoms in found.items()})

    def of(self, taxon: Taxon) -> SpeciesContext | None:
        """The text on a taxon; None where there is none, or it could be one of two kingdoms."""
        rows = self.rows.get(binomial(taxon.species), ()) if taxon.species else ()
        kingdom = rank_name(taxon.kingdom or "")
        fitting = [row for row in rows if not (kingdom and row.kingdom) or row.kingdom == kingdom]
        exact = [row for row in fitting if row.kingdom == kingdom]
        fitting = exact or fitting
        return fitting[0] if len(fitting) == 1 else None


def write_contexts(path: Path, rows: Iterable[SpeciesContext]) -> None:
    """Write the species table as CSV."""
    write_csv(path, [field.name for field in fields(SpeciesContext)], (astuple(row) for row in rows))


def contexts_of_table(path: Path, wanted: Sequence[Taxon]) -> list[SpeciesContext]:
    """A row for each wanted species, with what a table has on it; errors as of `SpeciesContexts.read`."""
    contexts = SpeciesContexts.read(path)
    rows = []
    for taxon in wanted:
        assert taxon.species is not None
        kingdom = rank_name(taxon.kingdom or "")
        if (found := contexts.of(taxon)) is not None:
            row = SpeciesContext(
                species=taxon.species, kingdom=kingdom or found.kingdom, page=found.page, text=found.text
            )
        else:
            others = [row.kingdom for row in contexts.rows.get(binomial(taxon.species), ())]
            note = f"only of other kingdoms: {', '.join(others)}" if others else "not in the table"
            if others and not kingdom:
                note = f"of several kingdoms ({', '.join(others)}), and that of the species is not known"
            row = SpeciesContext(species=taxon.species, kingdom=kingdom, note=note)
        rows.append(row)
    return rows


def wanted_species(taxa: Iterable[Taxon]) -> list[Taxon]:
    """The different species among taxa, with their kingdoms, in order; those without a name are left out."""
    pairs = {(taxon.species, taxon.kingdom or "") for taxon in taxa if taxon.species}
    return [Taxon(kingdom=kingdom or None, species=species) for species, kingdom in sorted(pairs)]


def read_wanted(path: Path) -> list[Taxon]:
    """The species of a table with the column species, and perhaps kingdom.

    Raises:
        ConfigError: it cannot be read, or has no species.
    """
    wanted = {"species": SPECIES_NAMES, "kingdom": ("kingdom",)}
    taxa = [
        Taxon(kingdom=rank_name(row.get("kingdom") or "") or None, species=binomial(row["species"]))
        for row in read_columns(path, wanted, ("species",), what="which species are wanted")
        if row["species"]
    ]
    if not taxa:
        raise ConfigError(f"{path} names no species")
    return wanted_species(taxa)
