"""Put the images into a dataset that was released by reference: fetched from their sources, or found in a folder.

Only an image with the sha256 that the dataset names goes in. What cannot be had is left out with all of its rows, and
reported. The rows are those that were published, and embedding is that of `write_dataset`: the result is the dataset
that a release with its images would have been.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sae_traits.errors import CollectionError, ConfigError, ReleaseError
from sae_traits.images.fetching import fetch_images
from sae_traits.images.listing import inside_check
from sae_traits.io import hash_of_file, write_csv
from sae_traits.logging import track
from sae_traits.release.dataset import write_rows
from sae_traits.release.dataset_card import write_dataset_card
from sae_traits.release.facts import RELEASE_FILE, DatasetFacts, DatasetSummary
from sae_traits.release.rows import ImageRows, embed_images
from sae_traits.release.shards import ROWS_PER_GROUP, SHARD_NAME
from sae_traits.release.tables import ConfigName, Row, features
from sae_traits.schema import SPLITS, Split

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
            shown.append(f"  all {len(self.missing)} that are left out are in {missing_file(self.folder)}")
        return [written if self.summary else f"{written}, so nothing was written", *shown]

    def save_missing(self) -> None:
        """Write what is missing beside the folder; where nothing is, an earlier report goes."""
        path = missing_file(self.folder)
        if self.missing:
            write_csv(path, [field.name for field in fields(Missing)], (asdict(m).values() for m in self.missing))
        else:
            path.unlink(missing_ok=True)


def photographs_folder(folder: Path) -> Path:
    """Where fetched photographs are kept, for a command that is given again."""
    return folder.with_name(f"{folder.name}.photographs")


def missing_file(folder: Path) -> Path:
    """The report of what could not be had."""
    return folder.with_name(f"{folder.name}.missing.csv")


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
    if not 1 <= connections <= 64:
        raise ConfigError(f"connections must lie between 1 and 64, not {connections}")
    if folder.resolve() == dataset.resolve():
        raise ReleaseError(f"{folder} is the dataset itself; name another folder for the one with images")
    facts = _facts(dataset)
    sources = list(_rows_of(dataset, "images", columns=_SOURCE))
    try:
        if photographs:
            found = _found_in(photographs, sources)
        else:
            found = _fetched(sources, folder, connections, allow_private_addresses)
    except OSError as error:
        place = error.filename or photographs_folder(folder)
        raise ReleaseError(f"cannot use {place}: {error.strerror or error}; mend that, and run again") from error
    images = {name: path for name, path in found.items() if isinstance(path, Path)}
    missing = tuple(
        Missing(row["image_id"], row["source_id"], row["source_url"], reason)
        for row in sources
        if isinstance(reason := found[row["image_id"]], str)
    )
    summary = None
    if images:
        found_rows = ((rows, images[name]) for rows in _images(dataset) if (name := rows.record["image_id"]) in images)
        embedded = embed_images(found_rows, facts.longest_side, workers)
        summary = write_rows(folder, embedded, _rows_of(dataset, "latents"), "embed", n_images=len(images))
        write_dataset_card(folder, summary, replace(facts, repo_id=None))  # it is no longer what lies there
    result = Rehydrated(folder, summary, missing, len(sources))
    result.save_missing()
    return result


def _facts(dataset: Path) -> DatasetFacts:
    if not (dataset / RELEASE_FILE).is_file():
        raise ReleaseError(
            f"{dataset} has no {RELEASE_FILE}, so it was not released with --images reference: either its rows hold "
            "the images already, or it is no dataset of sae-traits"
        )
    return DatasetFacts.load(dataset / RELEASE_FILE)


def _shards(dataset: Path, config: ConfigName) -> Iterator[tuple[Split, str, pq.ParquetFile]]:
    """The shards of a config with their split and segment, in the order in which they are read."""
    expected = features(config, "reference").arrow_schema
    for split in SPLITS:
        for path in sorted((dataset / "data" / config).glob(f"{split}-*.parquet")):
            named = SHARD_NAME.fullmatch(path.name)
            try:
                file = pq.ParquetFile(path)
            except (OSError, ValueError) as error:
                raise ReleaseError(f"cannot read {path} ({error}); fetch the dataset again") from error
            if named is None or not file.schema_arrow.equals(expected):
                raise ReleaseError(
                    f"{path} is not a table of a release by reference of this version of sae-traits; rehydrate it with "
                    "the version that its card names"
                )
            yield split, named["segment"], file


def _rows_of(dataset: Path, config: ConfigName, columns: tuple[str, ...] | None = None) -> Iterator[Row]:
    """All rows of a config, some hundred in memory."""
    for _, _, file in _shards(dataset, config):
        for batch in file.iter_batches(ROWS_PER_GROUP, columns=columns):
            yield from batch.to_pylist()


def _images(dataset: Path) -> Iterator[ImageRows]:
    """The rows of every image, as `write_dataset` made them; the tables have their images in one order."""
    traits = groupby(_rows_of(dataset, "default"), key=lambda row: row["image_id"])
    previews = _rows_of(dataset, "preview")
    described, group = next(traits, (None, iter(())))
    preview = next(previews, None)
    for split, segment, file in _shards(dataset, "images"):
        for batch in file.iter_batches(ROWS_PER_GROUP):
            for record in batch.to_pylist():
                name = record["image_id"]
                default, shown = (), None
                if described == name:
                    default = tuple(group)
                    described, group = next(traits, (None, iter(())))
                if preview is not None and preview["image_id"] == name:
                    shown, preview = preview, next(previews, None)
                yield ImageRows(split, segment, record, default, shown)
    if described is not None or preview is not None:
        raise ReleaseError(f"{dataset} has traits of images that it does not have; fetch the dataset again")


def _found_in(photographs: Path, sources: list[Row]) -> dict[str, Path | str]:
    """The photograph of each image by its sha256, whatever it is called, or why there is none."""
    if not photographs.is_dir():
        raise ReleaseError(f"{photographs} is not a folder; name the one with the original photographs")
    paths = [Path(parent, name) for parent, _, names in os.walk(photographs) for name in names]
    wanted = {row["source_sha256"] for row in sources}
    by_hash: dict[str, Path] = {}
    for path in track(sorted(paths), "photographs", len(paths), unit="file"):
        if path.is_file() and (sha256 := hash_of_file(path)) in wanted:
            by_hash[sha256] = path
    check = inside_check(photographs)
    found: dict[str, Path | str] = {}
    for row in sources:
        changed = _is_inside(row["source_id"], check)
        reason = "it is another file than it was (sha256)" if changed else f"no file of {photographs} has its sha256"
        found[row["image_id"]] = by_hash.get(row["source_sha256"], reason)
    return found


def _is_inside(file: str, check: Callable[[str], None]) -> bool:
    """Whether a path of the dataset, which may be anything, is a file of the folder that `check` is for."""
    try:
        check(file)
    except (CollectionError, ValueError):  # ValueError: a path with a null character
        return False
    return True


def _fetched(
    sources: list[Row], folder: Path, connections: int, allow_private_addresses: bool
) -> dict[str, Path | str]:
    """The photograph of each image, fetched unless it is there, or why there is none."""
    kept = photographs_folder(folder)
    files = {row["source_url"]: _file_of(row["source_url"]) for row in sources if row["source_url"]}
    answers = fetch_images(
        {file: url for url, file in files.items()},
        kept,
        connections=connections,
        allow_private_addresses=allow_private_addresses,
    )
    found: dict[str, Path | str] = {}
    for row in sources:
        name, url = row["image_id"], row["source_url"]
        if not url:
            found[name] = "it has no address; give the folder that it lies in (--photographs)"
            continue
        answer = answers[files[url]]
        if answer.sha256 is None:
            found[name] = answer.reason or "it could not be fetched"
        elif hash_of_file(kept / answer.file) != row["source_sha256"]:
            found[name] = "there is another image at its address than there was (sha256)"
        else:
            found[name] = kept / answer.file
    return found


def _file_of(url: str) -> str:
    """Where the image of an address is kept: a name that no address can lead astray."""
    digest = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{digest[:2]}/{digest}"
