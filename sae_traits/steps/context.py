"""What is written about the form of species: the species table, from a dump of a MediaWiki or from a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sae_traits.describers.species_context import (
    SpeciesContext,
    contexts_of_table,
    read_wanted,
    wanted_species,
    write_contexts,
)
from sae_traits.describers.wiki_dump import contexts_of_dump
from sae_traits.errors import ConfigError
from sae_traits.images.table_files import TABLE_SUFFIXES
from sae_traits.io import check_writable
from sae_traits.runs.folder import RunFolder
from sae_traits.schema import Collection


@dataclass(frozen=True)
class SpeciesTable:
    """A species table that was written."""

    file: Path
    rows: tuple[SpeciesContext, ...]

    @property
    def lacking(self) -> list[SpeciesContext]:
        """Rows without a text."""
        return [row for row in self.rows if not row.text]

    def lines(self) -> list[str]:
        found = len(self.rows) - len(self.lacking)
        names = (f"{row.species} ({row.kingdom})" if row.kingdom else row.species for row in self.lacking[:10])
        shown = [f"  {name}: {row.note}" for name, row in zip(names, self.lacking, strict=False)]
        more = [f"  {len(self.lacking) - 10} more have none, see the file"] if len(self.lacking) > 10 else []
        return [f"{self.file}: text on {found} of {len(self.rows)} species", *shown, *more]


def write_species_table(source: Path, *, species: Path, out: Path) -> SpeciesTable:
    """Write what a dump or a table says about species, those of a run or of a table, a row each.

    Raises:
        ConfigError: no species are named, or a table cannot be used.
        CollectionError: the dump cannot be read.
        StoreError: `out` cannot be written, which is said before the dump is read: a large one takes hours.
    """
    check_writable(out)
    if species.is_dir():
        folder = RunFolder(species)
        folder.check_is_run()
        wanted = wanted_species(record.taxon for record in Collection.load(folder.images).images)
        if not wanted:
            raise ConfigError(f"the images of {species} have no labels; name a table with a column species")
    else:
        wanted = read_wanted(species)
    is_table = source.suffix.lower() in TABLE_SUFFIXES
    rows = contexts_of_table(source, wanted) if is_table else contexts_of_dump(source, wanted)
    write_contexts(out, rows)
    return SpeciesTable(out, tuple(rows))
