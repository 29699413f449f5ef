"""Put the images into a dataset that was released by reference: fetched from their sources, or found in a folder.

Only an image with the sha256 that the dataset names goes in. What cannot be had is left out with all of its rows, and
reported. The rows are those that were published, and embedding is that of `write_dataset`: the result is the dataset
that a release with its images would have been. Columns that came with a later version are null: nothing is known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sae_traits.config.options import check_connections
from sae_traits.errors import CollectionError, ReleaseError
from sae_traits.images.fetching import fetch_images
from sae_traits.images.listing import inside_check
from sae_traits.io import hash_of_file, write_csv
from sae_traits.logging import track
from sae_traits.release.dataset import write_rows
from sae_traits.release.dataset_card import write_dataset_card
from sae_traits.release.facts import RELEASE_FILE, DatasetFacts, DatasetSummary
from sae_traits.release.rows import ImageRows, embed_images
from sae_traits.release.shards import ROWS_PER_GROUP, SHARD_NAME
from sae_traits.release.tables import ConfigName, Row, features, is_of_this_or_an_earlier_version
from sae_traits.vocabulary import SPLITS, Split

PHOTOGRAPHS, MISSING_FILE = "photographs", "missing.csv"
"""Beside the dataset: fetched photographs, kept for a command that is given again, and what could not be had."""
_SOURCE = ("image_id", "source_id", "source_url", "source_sha256")


@dataclass(frozen=True, slots=True)
class Missing:
    """An image whose photograph could not be had."""

    image_id: str
    source_id: str
    source_url: str | None
    reason: str


@dataclass(frozen=True)
class Rehydrated:
    """What `rehydrate` came to."""

    folder: Path
    summary: DatasetSummary | None
    """Of what was written; None where there was no image at all."""
    missing: tuple[Missing, ...]
    n_images: int
    """In the dataset by reference."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--format json`."""
        return {
            "folder": str(self.folder),
            "n_images": self.n_images,
            "n_rehydrated": self.n_images - len(self.missing),
            "rows": self.summary.rows if self.summary else {},
            "missing": [asdict(missing) for missing in self.missing],
        }

    def lines(self) -> list[str]:
        """A few lines for the terminal."""
        n = self.n_images - len(self.missing)
        written = f"{self.folder}: {n} of {self.n_images} images have their image"
        shown = [f"  {missing.source_url or missing.source_id}: {missing.reason}" for missing in self.missing[:5]]
        if self.missing:
            shown.append(f"  all {len(self.missing)} that are left out are in {_beside(self.folder, MISSING_FILE)}")
        return [written if self.summary else f"{written}, so nothing was written", *shown]


def _beside(folder: Path, ending: str) -> Path:
    """A file or folder that belongs to a dataset without being part of it."""
    return folder.with_name(f"{folder.name}.{ending}")


def rehydrate(
    dataset: Path,
    folder: Path,
    *,
    photographs: Path | None,
    connections: int,
    workers: int,
    allow_private_addresses: bool = False,
) -> Rehydrated:
    """Write a dataset with its images.

    Args:
        dataset: folder of a release by reference.
        folder: a new folder, or an earlier dataset to replace; fetched photographs are kept beside it.
        photographs: folder with the original files, in any order and under any name; None fetches them.
        connections: photographs that are fetched at the same time.
        workers: threads that read, resize and encode images.
        allow_private_addresses: whether servers of this machine and of private networks may be asked.

    Raises:
        ConfigError: there must be 1 to 64 connections.
        ReleaseError: the dataset is not one by reference, or is damaged; the folder cannot be written.
    """
    check_connections(connections)
    if folder.resolve() == dataset.resolve():
        raise ReleaseError(f"{folder} is the dataset itself; name another folder for the one with images")
    facts = _facts_of(dataset)
    shards = Shards(dataset, facts.segments)
    sources = list(shards.rows("images", columns=_SOURCE))
    kept = _beside(folder, PHOTOGRAPHS)
    photograph_of = (
        _found_in(photographs, sources)
        if photographs
        else _fetched(sources, kept, connections, allow_private_addresses)
    )
    try:
        found = list(photograph_of)
    except OSError as error:
        raise ReleaseError(
            f"cannot use {error.filename or kept}: {error.strerror or error}; mend that, and run again"
        ) from error
    images: dict[str, Path] = {}
    missing: list[Missing] = []
    for row, answer in zip(sources, found, strict=True):
        if isinstance(answer, Path):
            images[row["image_id"]] = answer
        else:
            missing.append(Missing(row["image_id"], row["source_id"], row["source_url"], answer))
    summary = None
    if images:
        found_rows = ((rows, images[name]) for rows in _images(shards) if (name := rows.record["image_id"]) in images)
        embedded = embed_images(found_rows, facts.longest_side, workers)
        summary = write_rows(folder, embedded, shards.rows("latents"), "embed", n_images=len(images))
        write_dataset_card(folder, summary, replace(facts, repo_id=None))  # it is no longer what lies there
    report = _beside(folder, MISSING_FILE)
    if missing:
        write_csv(report, [field.name for field in fields(Missing)], (asdict(m).values() for m in missing))
    else:
        report.unlink(missing_ok=True)
    return Rehydrated(folder, summary, tuple(missing), len(sources))


def _facts_of(dataset: Path) -> DatasetFacts:
    if not (dataset / RELEASE_FILE).is_file():
        raise ReleaseError(
            f"{dataset} has no {RELEASE_FILE}, so it was not released with --images reference: either its rows hold "
            "the images already, or it is no dataset of sae-traits"
        )
    return DatasetFacts.load(dataset / RELEASE_FILE)


@dataclass(frozen=True)
class Shards:
    """The tables of a release by reference, read in the order in which they were written."""

    dataset: Path
    segments: Mapping[str, tuple[str, ...]]
    """Split -> segments in their order."""

    def of(self, config: ConfigName) -> Iterator[tuple[Split, str, pq.ParquetFile]]:
        """The shards of a config with their split and segment."""
        for split in SPLITS:
            for path in sorted((self.dataset / "data" / config).glob(f"{split}-*.parquet"), key=self._place):
                named = SHARD_NAME.fullmatch(path.name)
                try:
                    file = pq.ParquetFile(path)
                except (OSError, ValueError) as error:
                    raise ReleaseError(f"cannot read {path} ({error}); fetch the dataset again") from error
                if named is None or not is_of_this_or_an_earlier_version(config, "reference", file.schema_arrow):
                    raise ReleaseError(
                        f"{path} is not a table of a release by reference of this version of sae-traits or an earlier "
                        "one; rehydrate it with the version that its card names"
                    )
                yield split, named["segment"], file

    def rows(self, config: ConfigName, columns: tuple[str, ...] | None = None) -> Iterator[Row]:
        """All rows of a config, some hundred in memory; what a release of an earlier version lacks is null."""
        nothing = dict.fromkeys(columns or features(config, "reference"))
        for _, _, file in self.of(config):
            for batch in file.iter_batches(ROWS_PER_GROUP, columns=columns):
                yield from (nothing | row for row in batch.to_pylist())

    def _place(self, path: Path) -> tuple[int, str]:
        """By which shards are sorted; a config with one shard per split has no segments."""
        split, _, rest = path.name.partition("-")
        segment, order = rest.partition("-")[0], self.segments.get(split, ())
        return order.index(segment) if segment in order else 0, path.name


def _images(shards: Shards) -> Iterator[ImageRows]:
    """The rows of every image, as `write_dataset` made them; the tables have their images in one order."""
    traits = groupby(shards.rows("default"), key=lambda row: row["image_id"])
    previews = shards.rows("preview")
    described, group = next(traits, (None, iter(())))
    preview = next(previews, None)
    captions = shards.rows("captions")
    caption = next(captions, None)
    nothing = dict.fromkeys(features("images", "reference"))
    for split, segment, file in shards.of("images"):
        for batch in file.iter_batches(ROWS_PER_GROUP):
            for record in (nothing | row for row in batch.to_pylist()):
                name = record["image_id"]
                default, shown, said = (), None, None
                if described == name:
                    default = tuple(group)
                    described, group = next(traits, (None, iter(())))
                if preview is not None and preview["image_id"] == name:
                    shown, preview = preview, next(previews, None)
                if caption is not None and caption["image_id"] == name:
                    said, caption = caption, next(captions, None)
                yield ImageRows(split, segment, record, default, shown, said)
    if described is not None or preview is not None or caption is not None:
        raise ReleaseError(f"{shards.dataset} has rows about images that it does not have; fetch the dataset again")


def _found_in(photographs: Path, sources: list[Row]) -> Iterator[Path | str]:
    """Yield the photograph of each image, found by its sha256 whatever it is called, or why there is none."""
    if not photographs.is_dir():
        raise ReleaseError(f"{photographs} is not a folder; name the one with the original photographs")
    paths = sorted(path for path in photographs.rglob("*") if path.is_file())
    by_hash = {hash_of_file(path): path for path in track(paths, "photographs", len(paths), unit="file")}
    check = inside_check(photographs)
    for row in sources:
        if (path := by_hash.get(row["source_sha256"])) is not None:
            yield path
            continue
        try:
            check(row["source_id"])
            yield "it is another file than it was (sha256)"
        except (CollectionError, ValueError):  # ValueError: a path with a null character
            yield f"no file of {photographs} has its sha256"


def _fetched(sources: list[Row], folder: Path, connections: int, allow_private_addresses: bool) -> Iterator[Path | str]:
    """Yield the photograph of each image, fetched into a folder unless it is there, or why there is none.

    What is not the photograph, as a server's picture for the moment, is not kept: the next command asks again.
    """
    wanted = {(row["source_url"], row["source_sha256"]) for row in sources}
    files = {row["source_url"]: _file_of(row["source_url"]) for row in sources if row["source_url"]}
    answers = fetch_images(
        {file: url for url, file in files.items()},
        folder,
        connections=connections,
        allow_private_addresses=allow_private_addresses,
    )
    for row in sources:
        if not row["source_url"]:
            yield "it has no address; give the folder that it lies in (--photographs)"
            continue
        answer = answers[files[row["source_url"]]]
        path = folder / answer.file
        found = None if answer.sha256 is None or not path.is_file() else hash_of_file(path)
        if answer.sha256 is None:
            yield answer.reason or "it could not be fetched"
        elif found == row["source_sha256"]:
            yield path
        else:
            if (row["source_url"], found) not in wanted:
                path.unlink(missing_ok=True)
            yield "there is another image at its address than there was (sha256)"


def _file_of(url: str) -> str:
    """Where the image of an address is kept: a name that no address can lead astray."""
    digest = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{digest[:2]}/{digest}"
