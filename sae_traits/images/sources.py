"""Which kind of source a name stands for, and what it lists."""

from __future__ import annotations

from pathlib import Path

from sae_traits.config import CollectionConfig
from sae_traits.errors import CollectionError, ConfigError
from sae_traits.images.archive import is_archive
from sae_traits.images.bioscan import find_bioscan, list_bioscan
from sae_traits.images.cache import cache_folder
from sae_traits.images.cells import TABLE_SUFFIXES
from sae_traits.images.darwin_core import list_darwin_core
from sae_traits.images.folder import list_folder
from sae_traits.images.hub import is_hub_source, list_hub
from sae_traits.images.listing import Listing
from sae_traits.images.selection import Selection, select
from sae_traits.images.table import is_table_of_images, list_table

_OWN_OPTIONS = {
    "a dataset of the Hub": ("source_config", "species_column", "image_column"),
    "BIOSCAN-5M": ("image_package",),
    "a Darwin Core archive": (),
    "images on this machine": (),
}
"""Kind of source -> options that say which of its images, and are not read for other kinds."""


def list_source(config: CollectionConfig) -> Listing:
    """What the source lists of what is wanted; images of the Hub and of Darwin Core archives are fetched first.

    Raises:
        CollectionError: the source is missing, cannot be listed, or has nothing of what is wanted.
        ConfigError: there is an option that is for sources of another kind.
    """
    if config.source is None:
        raise CollectionError("no images were given; name a folder Genus_species/… or a table as the source")
    selection = Selection(
        family=config.family, splits=config.split, per_species=config.per_species, seed=config.split_seed
    )
    if is_hub_source(config.source):
        _refuse_options_of_others(config, "a dataset of the Hub")
        return list_hub(
            config.source,
            selection,
            image_cache=config.image_cache,
            config=config.source_config,
            species_column=config.species_column,
            image_column=config.image_column,
            labelled=config.labels,
        )
    source = Path(config.source).expanduser().absolute()
    if not source.exists():
        raise CollectionError(f"{source} does not exist; name a folder of images or a table")
    if (bioscan := find_bioscan(source)) is not None:
        _refuse_options_of_others(config, "BIOSCAN-5M")
        return list_bioscan(bioscan, selection, image_package=config.image_package, labelled=config.labels)
    if is_archive(source):
        _refuse_options_of_others(config, "a Darwin Core archive")
        photographs = cache_folder(config.image_cache, "addresses")
        return list_darwin_core(source, selection, folder=photographs, connections=config.connections)
    _refuse_options_of_others(config, "images on this machine")
    listing = _list_images(source, labelled=config.labels)
    return Listing(root=listing.root, rows=tuple(select(listing.rows, selection, source)), problems=listing.problems)


def _refuse_options_of_others(config: CollectionConfig, kind: str) -> None:
    """Raise a ConfigError for an option that is not read for sources of this kind."""
    default = CollectionConfig()
    for owner, names in _OWN_OPTIONS.items():
        for name in names:
            if owner != kind and getattr(config, name) != getattr(default, name):
                raise ConfigError(
                    f"--{name.replace('_', '-')} is for {owner}, and {config.source} is {kind}; leave it out"
                )


def _list_images(source: Path, *, labelled: bool) -> Listing:
    """The images of a folder or of a table."""
    if source.is_dir():
        tables = [source / f"metadata{suffix}" for suffix in TABLE_SUFFIXES]
        usable = (path for path in tables if path.is_file() and is_table_of_images(path, labelled=labelled))
        table = next(usable, None)
        return list_folder(source, labelled=labelled) if table is None else list_table(table, labelled=labelled)
    if source.suffix.lower() not in TABLE_SUFFIXES:
        raise CollectionError(
            f"{source} is neither a folder nor a table ({', '.join(TABLE_SUFFIXES)}) nor a Darwin Core archive"
        )
    return list_table(source, labelled=labelled)
