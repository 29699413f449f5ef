"""Which column of a table, or of a dataset of the Hub, says what of an image."""

from collections.abc import Iterable, Mapping

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
    "license": ("license", "licence"),
    "rights_holder": ("rights_holder", "copyright_holder", "creator", "author"),
    "source_url": ("source_url", "image_url", "url", "references"),
}
"""What else a row has -> names of a column that says it."""


def find_column(columns: Iterable[str], names: Iterable[str]) -> str | None:
    """Find the column that is called by the first of some names that any is called by."""
    by_name = {plain(column): column for column in columns}
    return next((by_name[plain(name)] for name in names if plain(name) in by_name), None)


def find_columns(columns: Iterable[str], wanted: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Find the column for each thing that is wanted, where there is one."""
    columns = list(columns)
    places = {what: find_column(columns, names) for what, names in wanted.items()}
    return {what: column for what, column in places.items() if column is not None}


def plain(column: str) -> str:
    """Reduce a column's name to its letters: ` dwc:Catalog Number` -> `catalognumber`."""
    name = column.strip().lower().removeprefix("dwc:").removeprefix("dcterms:")
    return name.replace(" ", "").replace("-", "").replace("_", "")
