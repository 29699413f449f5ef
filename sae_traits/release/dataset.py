"""The tables of a Hub dataset repository in a folder: data/{config}/{split}-{segment}-{part}.parquet.

The card is written afterwards (`dataset_card`), when all that it says is known; until then README.md says how the
tables are loaded, and keeps what a person wrote into the card that was there.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from typing import Any

from sae_traits.config.release import ReleaseConfig
from sae_traits.errors import ReleaseError
from sae_traits.images.pictures import PictureCache, fitted_size, reduced_size
from sae_traits.io import is_unfinished, replacing, write_text
from sae_traits.logging import track
from sae_traits.release import tables
from sae_traits.release.card_picture import CARD_PICTURE
from sae_traits.release.cards import CARD, read_card
from sae_traits.release.dataset_card import index_card
from sae_traits.release.facts import RELEASE_FILE, DatasetSummary, Rights
from sae_traits.release.rows import PREVIEW_SIDE, ImageRows, embed_images
from sae_traits.release.shards import (
    FIRST_SEGMENT,
    IMAGES_PER_GROUP,
    Segments,
    ShardWriter,
    images_per_segment,
)
from sae_traits.release.tables import CONFIG_NAMES, ConfigName, Images, Row, features
from sae_traits.schema import Caption, ChosenLatent, Collection, ImageRecord, Trait
from sae_traits.vocabulary import SPLITS

MAX_PREVIEWS = 200
_NUMBERS = ("n_traits", "n_images", "n_described", "n_significant", "n_without_url")
BYTES_PER_TRAIT = 600
"""Of a trait in all configs without images, compressed: 375 by reference (docs/benchmarks.md), `traits` besides."""


def write_dataset(
    folder: Path,
    collection: Collection,
    traits: Iterable[Trait],
    latents: Sequence[ChosenLatent],
    captions: Iterable[Caption] = (),
    *,
    sae: str | None,
    config: ReleaseConfig,
    workers: int,
    cache: PictureCache | None = None,
) -> DatasetSummary:
    """Write the tables of a collection's dataset next to `folder`, and move them into place when all are complete.

    The same input gives the same bytes, with any number of workers (threads). Memory is bounded by some images and by
    a group of rows for each config and split.

    Args:
        folder: a new folder, or an earlier dataset to replace.
        collection: every image becomes a row of `images`, with or without traits.
        traits: in the order of the collection's images; read once. So are the captions.
        sae: the SAE, as repository@revision, or the baseline in its place; None where regions have no latents.
        cache: pictures of the photographs that have been made already; new ones are added.

    Raises:
        ReleaseError: there is no trait, an image is missing or has changed, the folder holds other files, or the disk
            is full; what stood in `folder` is then still there.
    """
    rows = _rows(collection, traits, captions, sae, config)
    if config.images == "embed":
        paths = (collection.path(record) for record in collection.images)
        rows = embed_images(zip(rows, paths, strict=True), config.longest_side, workers, cache)
    latent_rows = (tables.latent_row(latent, sae) for latent in latents)
    return write_rows(folder, rows, latent_rows, config.images, n_images=len(collection.images))


def write_rows(
    folder: Path, rows: Iterable[ImageRows], latents: Iterable[Row], images: Images, *, n_images: int
) -> DatasetSummary:
    """Write rows as `write_dataset` does, with its errors."""
    _refuse_other_files(folder)
    try:
        with replacing(folder) as partial:
            summary = _write_tables(partial / "data", rows, latents, images, n_images)
            if not summary.n_traits:
                raise ReleaseError(
                    "no image has a trait, so there is no dataset to write; add individuals per species, keep what "
                    "passed no test (--no-significant-only), or change --firing-quantile (with --contrast paper "
                    "--firing-threshold): lower where latents seldom fire, higher where they fire nearly everywhere"
                )
            write_text(partial / CARD, index_card(summary, read_card(folder)))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ReleaseError(
            f"cannot write {folder}: {reason}; make room or choose another folder, and run again"
        ) from error
    return summary


def estimate_dataset(collection: Collection, config: ReleaseConfig, *, traits_per_image: int) -> int:
    """About how many bytes the Parquet files take in which every image has so many traits.

    An image is stored twice, at its source size and reduced, however many rows show it. Assumed is that all files stay
    as they are, as JPEG and PNG mostly do, and shrink with their area where they are reduced.

    Raises:
        ReleaseError: an image is gone.
    """
    n_bytes = len(collection.images) * traits_per_image * BYTES_PER_TRAIT
    for record in collection.images if config.images == "embed" else ():
        width, height = reduced_size((record.width, record.height), config.longest_side)
        path = collection.path(record)
        try:
            n_bytes += round(path.stat().st_size * (1 + width * height / (record.width * record.height)))
        except OSError as error:
            raise ReleaseError(f"cannot read {path}: {error.strerror}; the dataset needs every source image") from error
    return n_bytes


def _rows(
    collection: Collection,
    traits: Iterable[Trait],
    captions: Iterable[Caption],
    sae: str | None,
    config: ReleaseConfig,
) -> Iterator[ImageRows]:
    """The rows of every image, with sizes in the place of images."""
    n = images_per_segment([(s.width, s.height) for s in collection.images], config.shard_megabytes)
    segments = {split: Segments(n) for split in SPLITS}
    remaining = iter(captions)
    caption = next(remaining, None)
    for row, (record, described, previewed) in enumerate(_plan(collection, traits)):
        captioned = None
        if caption is not None and caption.image == row:
            captioned, caption = tables.caption_row(record, caption), next(remaining, None)
        size = record.width, record.height
        reduced = reduced_size(size, config.longest_side)
        yield ImageRows(
            split=record.split,
            segment=segments[record.split].of(record.image_id),
            record=tables.image_row(record, described, sae),
            default=tuple(tables.default_row(record, trait, reduced, sae) for trait in described),
            preview=tables.preview_row(record, previewed, fitted_size(size, PREVIEW_SIDE)) if previewed else None,
            caption=captioned,
        )
    if caption is not None:
        raise ValueError(f"the captions are not in the order of the images: image {caption.image} comes too late")


def _plan(
    collection: Collection, traits: Iterable[Trait]
) -> Iterator[tuple[ImageRecord, tuple[Trait, ...], Trait | None]]:
    """Every image with its traits, and for some the trait to preview."""
    species = sorted({_preview_group(s) for s in collection.images})
    previewed = species[:: -(-len(species) // MAX_PREVIEWS)] if species else []
    open_previews = dict.fromkeys(previewed, MAX_PREVIEWS // max(1, len(previewed)))
    groups = groupby(traits, key=lambda trait: trait.candidate.image)
    row, group = next(groups, (None, ()))
    for index, record in enumerate(collection.images):
        described: tuple[Trait, ...] = ()
        if row == index:
            described = tuple(group)
            row, group = next(groups, (None, ()))
        preview = None
        if described and (left := open_previews.get(_preview_group(record), 0)):
            open_previews[_preview_group(record)] = left - 1
            preview = described[left % len(described)]  # not always an image's first, strongest trait
        yield record, described, preview
    if row is not None:
        raise ValueError(f"the traits are not in the order of the images: image {row} comes too late")


def _preview_group(record: ImageRecord) -> str:
    """Previews are spread evenly over species; photographs without a label are one group."""
    return record.taxon.species or ""


def _refuse_other_files(folder: Path) -> None:
    """Raise where replacing the folder would delete what this module did not write."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ReleaseError(
            f"{folder} is a file; the dataset needs a folder: move the file away, or name another folder"
        )
    data = folder / "data"
    ours = (CARD, CARD_PICTURE, RELEASE_FILE)
    names = {p.name for p in folder.iterdir()} - {*ours, "data"}
    others = {name for name in names if not is_unfinished(name, *ours)}
    others |= {p.name for p in data.iterdir()} - set(CONFIG_NAMES) if data.is_dir() else set()
    if others:
        raise ReleaseError(
            f"{folder} holds files that are not part of a dataset ({', '.join(sorted(others)[:3])}); "
            "move them away, or name another folder"
        )


def _count(counts: Mapping[str, Counter[Any]], record: Row) -> None:
    """Count what the summary says of an image and its traits, where they have it."""
    traits = record["traits"]
    counts["numbers"].update(
        n_images=1,
        n_traits=len(traits),
        n_described=bool(traits),
        n_without_url=record["source_url"] is None,
        n_significant=sum(bool(trait["significant"]) for trait in traits),
    )
    counts["rights"][record["license"], record["rights_holder"]] += 1
    counts["species"].update({record["species"]} - {None})
    for name in ("latent", "reference_rank"):
        counts[name].update(trait[name] for trait in traits if trait[name] is not None)


def _write_tables(
    folder: Path, rows: Iterable[ImageRows], latents: Iterable[Row], images: Images, n_images: int
) -> DatasetSummary:
    """Write the rows of all configs, each split by a writer that is opened when its first row comes."""
    counts: dict[str, Counter[Any]] = defaultdict(Counter)
    writers: dict[tuple[ConfigName, str], ShardWriter] = {}
    groups = {split: Segments(IMAGES_PER_GROUP) for split in SPLITS}
    segments: dict[str, dict[str, None]] = defaultdict(dict)
    with ExitStack() as opened:

        def add(config: ConfigName, split: str, row: Row, segment: str = FIRST_SEGMENT, group: str = "") -> None:
            if (writer := writers.get((config, split))) is None:
                writer = ShardWriter(folder / config, split, features(config, images).arrow_schema)
                writers[config, split] = opened.enter_context(writer)
            writer.add(row, segment, len(row["image"]["bytes"]) if row.get("image") else 0, group=group)

        for latent in latents:
            add("latents", "train", latent)  # chosen on the train split alone
        for image in track(rows, "dataset", n_images):
            _count(counts, image.record)
            segments[image.split][image.segment] = None
            add("images", image.split, image.record, image.segment)
            group = groups[image.split].of(image.record["image_id"])
            for row in image.default:
                add("default", image.split, row, image.segment)
                if images == "embed":  # one shard: rows without images are small
                    add("traits", image.split, {name: row[name] for name in row if name != "image"}, group=group)
            if image.caption is not None:
                add("captions", image.split, image.caption, group=group)
            if image.preview is not None:
                add("preview", image.split, image.preview, image.segment)
    written = {
        config: {split: writers[config, split] for split in SPLITS if (config, split) in writers}
        for config in CONFIG_NAMES
    }
    if images == "reference":
        written["traits"] = written["default"]  # the same files, which hold no images
    return DatasetSummary(
        images=images,
        rows={config: {split: writer.n_rows for split, writer in splits.items()} for config, splits in written.items()},
        n_bytes={config: {s: writer.n_bytes for s, writer in splits.items()} for config, splits in written.items()},
        sha256={config: _hash(splits) for config, splits in written.items()},
        n_species=len(counts["species"]),
        n_latents=len(counts["latent"]),
        reference_ranks=dict(counts["reference_rank"].most_common()),
        rights=tuple(Rights(terms, holder, n) for (terms, holder), n in counts["rights"].most_common()),
        segments={split: tuple(names) for split, names in segments.items()},
        **{name: counts["numbers"][name] for name in _NUMBERS},
    )


def _hash(splits: dict[str, ShardWriter]) -> str:
    """Hash of the names and contents of all shards of a config."""
    named = sorted(entry for writer in splits.values() for entry in writer.hashes.items())
    return hashlib.sha256("".join(f"{name}\0{sha256}\0" for name, sha256 in named).encode()).hexdigest()
