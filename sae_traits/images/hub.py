"""Image datasets of the Hugging Face Hub: streamed once, their images kept as files, in the order of the dataset.

Images are written as the dataset stores them, into a cache folder of the dataset's commit. A journal beside them says
how far the stream was read, so that a killed command goes on there. File names are made of split and row number: no
name that comes from the Hub is a path here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_traits.errors import CollectionError
from sae_traits.images.cache import cache_folder, safe_name
from sae_traits.images.hub_columns import Columns, find_columns
from sae_traits.images.journal import SECONDS_BETWEEN_CHECKPOINTS, Journal
from sae_traits.images.listing import Listing, Row
from sae_traits.images.selection import Selection, select
from sae_traits.images.splits import is_split_label, parse_split
from sae_traits.logging import track
from sae_traits.schema import Problem, Split

if TYPE_CHECKING:
    from datasets import IterableDataset

SCHEME = "hf://datasets/"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ROWS_A_FOLDER = 1000


@dataclass(frozen=True, kw_only=True)
class HubDataset:
    """A dataset at one commit, and how to read it."""

    repo_id: str
    commit: str
    license: str | None
    """That of its card, for rows without one of their own."""
    page: str
    """Address of its files at this commit."""
    config: str | None = None
    species_column: str | None = None
    image_column: str | None = None
    labelled: bool = True


def is_hub_source(source: str) -> bool:
    """Whether a source is an address of the Hub."""
    return source.startswith(SCHEME)


def list_hub(
    source: str,
    selection: Selection,
    *,
    image_cache: str | None,
    config: str | None = None,
    species_column: str | None = None,
    image_column: str | None = None,
    labelled: bool = True,
    seconds_between_checkpoints: float = SECONDS_BETWEEN_CHECKPOINTS,
) -> Listing:
    """The images of a dataset on the Hub that are wanted, as files in the cache.

    Args:
        source: hf://datasets/ORG/NAME, and @REVISION.
        selection: what is wanted; `splits` are the dataset's own names. The draw within a species reads the labels of
            the whole dataset first, without the images where these are Parquet.
        image_cache: see `cache.cache_folder`.
        config: the dataset's configuration, where it has several.
        species_column: see `hub_columns.find_columns`.
        image_column: as well.
        labelled: whether the dataset must have a species.
        seconds_between_checkpoints: how much of the stream a kill costs.

    Raises:
        CollectionError: the dataset cannot be reached or read, or has no such columns, or no row is wanted, or an image
            is no longer in the cache.
    """
    repo_id, revision = _parse(source)
    if selection.per_species is None:
        selection = replace(selection, seed=0)  # nothing is drawn: another seed asks for the same
    asked = (config, species_column, image_column, labelled, *asdict(selection).values())
    key = sha256(json.dumps(asked).encode()).hexdigest()[:16]
    if revision is not None and _COMMIT.fullmatch(revision):  # what is complete at a commit needs no Hub
        folder = cache_folder(image_cache, "hub", repo_id.replace("/", "--"), revision)
        journal = Journal(folder / f"rows-{key}")
        if journal.is_complete:
            return _listing(folder, journal, source, selection)
    commit, card_license, page = _look_up(repo_id, revision)
    folder = cache_folder(image_cache, "hub", repo_id.replace("/", "--"), commit)
    journal = Journal(folder / f"rows-{key}", seconds_between_checkpoints=seconds_between_checkpoints)
    if not journal.is_complete:
        dataset = HubDataset(
            repo_id=repo_id,
            commit=commit,
            license=card_license,
            page=page,
            config=config,
            species_column=species_column,
            image_column=image_column,
            labelled=labelled,
        )
        with _errors_in_one_line(source):
            _read(dataset, selection, folder, journal)
    return _listing(folder, journal, source, selection)


def _listing(folder: Path, journal: Journal, source: str, selection: Selection) -> Listing:
    rows, problems = [], []
    for record in journal.records():
        if "reason" in record:
            problems.append(Problem(record["file"], record["reason"]))
        else:
            rows.append(Row.from_dict(record))
    if not rows and not problems:
        raise CollectionError(f"{source} has no row of --family {selection.family}")
    if lost := [row.file for row in rows if not (folder / row.file).is_file()]:
        raise CollectionError(
            f"{len(lost):,} images of {source} are no longer in {folder}, such as {lost[0]}; delete "
            f"{journal.state_file}, and run the same command again, which reads the dataset anew"
        )
    return Listing(root=folder, rows=tuple(rows), problems=tuple(problems))


def _parse(source: str) -> tuple[str, str | None]:
    """Repository and revision of an address."""
    repo_id, _, revision = source.removeprefix(SCHEME).partition("@")
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", repo_id, re.ASCII) or (not revision and "@" in source):
        raise CollectionError(f"{source} is no dataset of the Hub; write {SCHEME}ORG/NAME or {SCHEME}ORG/NAME@REVISION")
    return repo_id, revision or None


def _look_up(repo_id: str, revision: str | None) -> tuple[str, str | None, str]:
    """Commit, licence and page of a dataset."""
    from huggingface_hub import HfApi

    with _errors_in_one_line(f"{SCHEME}{repo_id}" + (f"@{revision}" if revision else "")):
        api = HfApi()
        info = api.dataset_info(repo_id, revision=revision)
        if info.sha is None:
            raise CollectionError(f"the Hub says no commit of {repo_id}; add @COMMIT to the source")
        found = info.card_data.to_dict().get("license") if info.card_data else None
        license = ", ".join(found) if isinstance(found, list) else found
        return info.sha, license, f"{api.endpoint}/datasets/{repo_id}/tree/{info.sha}"


@dataclass(frozen=True, kw_only=True)
class _Stream:
    """One split of a dataset, from its first row."""

    name: str
    split: Split | None
    """What the split is here."""
    examples: IterableDataset
    features: Mapping[str, Any]


def _read(dataset: HubDataset, selection: Selection, folder: Path, journal: Journal) -> None:
    """Stream the wanted rows into the folder and the journal, from where the journal ends."""
    streams = _wanted(_streams(dataset), selection.splits, dataset.repo_id)
    columns = find_columns(
        streams[0].features,
        dataset.repo_id,
        species=dataset.species_column,
        image=dataset.image_column,
        labelled=dataset.labelled,
    )
    chosen = _draw(dataset, selection, columns) if selection.per_species else None
    place = journal.resume() or {"stream": 0, "row": 0, "state": None}
    for index in range(place["stream"], len(streams)):
        stream = streams[index]
        examples = stream.examples.select_columns(columns.names)
        first, state = (place["row"], place["state"]) if index == place["stream"] else (0, None)
        if state is not None:
            examples.load_state_dict(state)
        label = f"Reading {dataset.repo_id} {stream.name}"
        for number, example in enumerate(track(examples, label, total=None, unit="row"), start=first):
            row = _row(dataset, columns, stream, number, example)
            if row.file in chosen if chosen is not None else selection.is_family(row.ranks.family):
                _keep(dataset, folder, journal, row, example[columns.image])
            journal.checkpoint({"stream": index, "row": number + 1, "state": examples.state_dict})
    journal.finish()


def _draw(dataset: HubDataset, selection: Selection, columns: Columns) -> set[str]:
    """Files of the images drawn within their species, after reading the labels alone."""
    from datasets import load_dataset_builder

    labels = [name for name in columns.names if name != columns.image]
    is_parquet = load_dataset_builder(dataset.repo_id, dataset.config, revision=dataset.commit).name == "parquet"
    rows = []
    for stream in _wanted(_streams(dataset, labels if is_parquet else None), selection.splits, dataset.repo_id):
        examples = track(stream.examples.select_columns(labels), f"Reading labels {stream.name}", None, "row")
        rows += [_row(dataset, columns, stream, number, example) for number, example in enumerate(examples)]
    return {row.file for row in select(rows, replace(selection, splits=()), dataset.repo_id)}


def _streams(dataset: HubDataset, columns: list[str] | None = None) -> list[_Stream]:
    """All splits, with all columns or, of Parquet files, some.

    A dataset's only split says nothing of how it is to be split: the Hub calls it `train`, whatever it is.
    """
    import datasets

    options: dict[str, Any] = {} if columns is None else {"columns": columns}
    found = datasets.load_dataset(dataset.repo_id, dataset.config, revision=dataset.commit, streaming=True, **options)
    assert isinstance(found, dict)
    n_known = sum(is_split_label(str(name)) for name in found)
    streams = []
    for name, examples in found.items():
        if examples.features is None:
            raise CollectionError(f"the columns of {dataset.repo_id} are not known before all of it is read")
        split = parse_split(str(name)) if n_known > 1 and is_split_label(str(name)) else None
        undecoded = examples.decode(False)  # images as they are stored; datasets would decode them in many threads
        streams.append(_Stream(name=str(name), split=split, examples=undecoded, features=examples.features))
    return streams


def _wanted(streams: list[_Stream], asked: tuple[str, ...], repo_id: str) -> list[_Stream]:
    """The splits that are asked for, in the dataset's order."""
    names = [stream.name for stream in streams]
    if unknown := [name for name in asked if name not in names]:
        raise CollectionError(f"{repo_id} has no split {unknown[0]!r}; its splits are {', '.join(names)}")
    return [stream for stream in streams if not asked or stream.name in asked]


def _row(dataset: HubDataset, columns: Columns, stream: _Stream, number: int, example: dict[str, Any]) -> Row:
    """The row of an example, by its number in the split."""
    split = f"{safe_name(dataset.config or 'default')}/{safe_name(stream.name)}"
    # Images of several columns would have the same row numbers.
    folder = f"{split}/{safe_name(dataset.image_column)}" if dataset.image_column else split
    return columns.row(
        example,
        stream.features,
        file=f"{folder}/{number // _ROWS_A_FOLDER:06d}/{number:09d}",
        split=stream.split,
        license=dataset.license,
        source_url=f"{dataset.page}#{split}/{number}",
        source_revision=dataset.commit,
    )


def _keep(dataset: HubDataset, folder: Path, journal: Journal, row: Row, image: Any) -> None:
    """Write an image and its row, or the reason why there is none."""
    try:
        data = _bytes(image, dataset)
    except CollectionError as error:
        journal.write({"file": row.file, "reason": str(error)})
        return
    path = folder / row.file
    if not path.is_file() or path.read_bytes() != data:  # what another selection wrote stays as it is, whole and dated
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        partial.write_bytes(data)
        partial.replace(path)
    journal.write(asdict(row))


def _bytes(image: Any, dataset: HubDataset) -> bytes:
    """The file of an image as the dataset stores it: in the table, or beside it in the same repository."""
    if not image:
        raise CollectionError("it has no image")
    if image.get("bytes") is not None:
        return image["bytes"]
    # A path of a table may name any file, one of this machine too; only those of the dataset itself are opened.
    path = str(image.get("path"))
    within = f"{SCHEME}{dataset.repo_id}@{dataset.commit}/"
    if not path.rsplit("::", 1)[-1].startswith(within) or "/../" in path:
        raise CollectionError(f"its image is given as {path[:80]!r}, which is no file of the dataset")
    from datasets.utils.file_utils import xopen

    with xopen(path, "rb") as file:
        return file.read()


@contextmanager
def _errors_in_one_line(source: str) -> Iterator[None]:
    """Turn what the Hub's clients raise into a CollectionError that says what to do."""
    import pyarrow as pa
    from huggingface_hub.errors import (
        HTTPError,  # pyright: ignore[reportPrivateImportUsage]  # of httpx or httpx2, as huggingface_hub is 1 or 2
    )

    try:
        yield
    except (HTTPError, OSError, ValueError, RuntimeError, pa.ArrowException) as error:
        said = re.sub(r"\bhf_\w+", "hf_…", " ".join(str(error).split()))
        raise CollectionError(
            f"{source} cannot be read: {said[:300]}; check its name and --source-config, set HF_TOKEN if it is "
            "private, and run the same command again, which goes on where it stopped"
        ) from error
