"""A Hub dataset repository as a folder: README.md and data/{config}/{split}-{segment}-{part}.parquet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from sae_traits.config import ReleaseConfig
from sae_traits.release import tables
from sae_traits.release.facts import DatasetFacts, DatasetSummary
from sae_traits.release.pictures import preview_size, reduced_size
from sae_traits.release.rows import ImageRows, embed_images
from sae_traits.release.shards import Segments, images_per_segment
from sae_traits.release.writing import ReleaseSettings, write_release
from sae_traits.schema import SPLITS, ChosenLatent, Collection, ImageRecord, Trait

MAXIMUM_PREVIEWS = 200


def write_dataset(
    folder: Path,
    collection: Collection,
    traits: Iterable[Trait],
    latents: Sequence[ChosenLatent],
    *,
    sae: str | None,
    config: ReleaseConfig,
    facts: DatasetFacts,
    workers: int,
) -> DatasetSummary:
    """Write the dataset of a collection next to `folder`, and move it into place only when it is complete.

    The same input gives the same bytes, with any number of workers. Memory is bounded by some images and by a group
    of rows for each config and split.

    Args:
        folder: a new folder, or an earlier dataset to replace.
        collection: every image becomes a row of `images`, with or without traits.
        traits: in the order of the collection's images; read once.
        latents: rows of the config `latents`.
        sae: the SAE, as repository@revision, or the baseline in its place; None where regions have no latents.
        config: title, images, and sizes of images and shards.
        facts: what the card says beside what the rows show.
        workers: threads that read, resize and encode images.

    Raises:
        ReleaseError: there is no trait, an image is missing or has changed, the folder holds other files, or the disk
            is full; what stood in `folder` is then still there.
    """
    settings = ReleaseSettings(
        images=config.images, longest_side=config.longest_side, title=config.title, sae=sae, facts=facts
    )
    rows = _rows(collection, traits, sae, config)
    if config.images == "embed":
        paths = (collection.path(record) for record in collection.images)
        rows = embed_images(zip(rows, paths, strict=True), config.longest_side, workers)
    latent_rows = (tables.latent_row(latent, sae) for latent in latents)
    return write_release(folder, rows, latent_rows, settings, n_images=len(collection.images))


def _rows(
    collection: Collection, traits: Iterable[Trait], sae: str | None, config: ReleaseConfig
) -> Iterator[ImageRows]:
    """The rows of every image, with sizes in the place of images."""
    n = images_per_segment([(s.width, s.height) for s in collection.images], config.shard_megabytes)
    segments = {split: Segments(n) for split in SPLITS}
    for record, mine, previewed in _plan(collection, traits):
        size = record.width, record.height
        reduced = reduced_size(size, config.longest_side)
        yield ImageRows(
            split=record.split,
            segment=segments[record.split].of(record.image_id),
            record=tables.image_row(record, mine, sae),
            default=tuple(tables.default_row(record, trait, reduced, sae) for trait in mine),
            preview=tables.preview_row(record, previewed, preview_size(size)) if previewed else None,
        )


def _plan(
    collection: Collection, traits: Iterable[Trait]
) -> Iterator[tuple[ImageRecord, tuple[Trait, ...], Trait | None]]:
    """Every image with its traits, and for some the trait to preview."""
    species = sorted({_preview_group(s) for s in collection.images})
    previewed = species[:: -(-len(species) // MAXIMUM_PREVIEWS)] if species else []
    open_previews = dict.fromkeys(previewed, MAXIMUM_PREVIEWS // max(1, len(previewed)))
    groups = groupby(traits, key=lambda trait: trait.candidate.image)
    row, group = next(groups, (None, ()))
    for index, record in enumerate(collection.images):
        mine: tuple[Trait, ...] = ()
        if row == index:
            mine = tuple(group)
            row, group = next(groups, (None, ()))
        preview = None
        if mine and (left := open_previews.get(_preview_group(record), 0)):
            open_previews[_preview_group(record)] = left - 1
            preview = mine[left % len(mine)]  # not always an image's first, strongest trait
        yield record, mine, preview
    if row is not None:
        raise ValueError(f"the traits are not in the order of the images: image {row} comes too late")


def _preview_group(record: ImageRecord) -> str:
    """Previews are spread evenly over species; photographs without a label are one group."""
    return record.taxon.species or ""
