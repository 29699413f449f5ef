"""Image datasets of the Hugging Face Hub: streamed once, their images kept as files, in the order of the dataset.

Images are written as the dataset stores them, into a cache folder of the dataset's commit. A journal beside them says
how far the stream was read, so that a killed command goes on there. File names are made of split and row number: no
name that comes from the Hub is a path here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError, one_line
from sae_traits.images.cache import cache_folder, safe_name
from sae_traits.images.columns import COLUMN_NAMES, SPECIES_NAMES, find_column, find_columns, warn_of_unread
from sae_traits.images.journal import SECONDS_BETWEEN_CHECKPOINTS, Journal
from sae_traits.images.listing import Format, Listing, Row
from sae_traits.images.selection import is_wanted_family, reasons_without_species, select
from sae_traits.images.splits import is_split_label, parse_split
from sae_traits.io import write_whole
from sae_traits.logging import track
from sae_traits.schema import Problem, Taxon
from sae_traits.vocabulary import RANKS, Split

if TYPE_CHECKING:
    from datasets import IterableDataset

SCHEME = "hf://datasets/"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ROWS_PER_FOLDER = 1000
_LAYOUT = 4
"""Of the journal, and what of a row is in it: another one reads a dataset anew."""


@dataclass(frozen=True, kw_only=True)
class _Dataset:
    """A dataset at one commit, and what is wanted of it."""

    config: CollectionConfig
    repo_id: str
    commit: str
    license: str | None
    """That of its card, for rows without one of their own."""
    page: str
    """Address of its files at this commit."""


@dataclass(frozen=True, kw_only=True)
class _Stream:
    """One split of a dataset, from its first row."""

    name: str
    split: Split | None
    """What the split is here."""
    examples: IterableDataset
    features: Mapping[str, Any]


def is_hub_source(source: str) -> bool:
    """Whether a source is an address of the Hub."""
    return source.startswith(SCHEME)


def list_hub(config: CollectionConfig, *, seconds_between_checkpoints: float = SECONDS_BETWEEN_CHECKPOINTS) -> Listing:
    """List the images of a dataset on the Hub that are wanted, as files in the cache.

    The image is the only column of type Image, or that called `image`. The species is a column of text or of classes
    with one of SPECIES_NAMES, or called label, or else the only column of classes.

    Args:
        config: its source is hf://datasets/ORG/NAME, and @REVISION; its `split` are the dataset's own names. The draw
            within a species reads the labels of the whole dataset first, without the images where these are Parquet.
        seconds_between_checkpoints: how much of the stream a kill costs.

    Raises:
        CollectionError: the dataset cannot be reached or read, or has no such columns, or no row is wanted, or an image
            is no longer in the cache.
    """
    source = config.source or ""
    repo_id, revision = _parse(source)
    asked = (
        *(_LAYOUT, config.source_config, config.species_column, config.image_column, config.labels),
        *(config.family, config.split, config.per_species),
        # Where nothing is drawn, another seed asks for the same, and labels are read later.
        config.split_seed if config.per_species else 0,
        *([config.species_codes] if config.per_species and config.species_codes else []),
    )
    name = f"rows-{sha256(json.dumps(asked).encode()).hexdigest()[:16]}"
    is_commit = revision is not None and _COMMIT.fullmatch(revision)  # what is complete there needs no Hub
    dataset = None if is_commit else _look_up(config, repo_id, revision)
    commit = dataset.commit if dataset else str(revision)
    folder = cache_folder(config.image_cache, "hub", repo_id.replace("/", "--"), commit)
    journal = Journal(folder / name, seconds_between_checkpoints=seconds_between_checkpoints)
    if not journal.is_complete:
        dataset = dataset or _look_up(config, repo_id, revision)
        with _errors_in_one_line(source), journal.writing():
            if not journal.is_complete:  # by another command in the meantime
                _read(dataset, folder, journal)
    return _listing(folder, journal, config)


FORMAT = Format(
    name="a dataset of the Hub",
    options=("source_config", "species_column", "image_column"),
    recognise=lambda config: partial(list_hub, config) if is_hub_source(config.source or "") else None,
)


def _listing(folder: Path, journal: Journal, config: CollectionConfig) -> Listing:
    rows, problems = [], []
    for record in journal.records():
        if "reason" in record:
            problems.append(Problem(record["file"], record["reason"]))
        else:
            rows.append(Row.from_dict(record))
    if not rows and not problems:
        raise CollectionError(
            f"{config.source} has no row" + (f" of --family {config.family}" if config.family else "")
        )
    if lost := [row.file for row in rows if not (folder / row.file).is_file()]:
        raise CollectionError(
            f"{len(lost):,} images of {config.source} are no longer in {folder}, such as {lost[0]}; delete "
            f"{journal.state_file}, and run the same command again, which reads the dataset anew"
        )
    return Listing(root=folder, rows=tuple(rows), problems=tuple(problems))


def _parse(source: str) -> tuple[str, str | None]:
    """Split an address into repository and revision."""
    repo_id, _, revision = source.removeprefix(SCHEME).partition("@")
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", repo_id, re.ASCII) or (not revision and "@" in source):
        raise CollectionError(f"{source} is no dataset of the Hub; write {SCHEME}ORG/NAME or {SCHEME}ORG/NAME@REVISION")
    return repo_id, revision or None


def _look_up(config: CollectionConfig, repo_id: str, revision: str | None) -> _Dataset:
    from huggingface_hub import HfApi

    with _errors_in_one_line(config.source or ""):
        api = HfApi()
        info = api.dataset_info(repo_id, revision=revision)
        if info.sha is None:
            raise CollectionError(f"the Hub says no commit of {repo_id}; add @COMMIT to the source")
        stated = info.card_data.to_dict().get("license") if info.card_data else None
        return _Dataset(
            config=config,
            repo_id=repo_id,
            commit=info.sha,
            license=", ".join(stated) if isinstance(stated, list) else stated,
            page=f"{api.endpoint}/datasets/{repo_id}/tree/{info.sha}",
        )


def _read(dataset: _Dataset, folder: Path, journal: Journal) -> None:
    """Stream the wanted rows into the folder and the journal, from where the journal ends."""
    streams = _wanted(_streams(dataset), dataset)
    columns = _columns(streams[0].features, dataset)
    warn_of_unread(dataset.repo_id, streams[0].features, columns, _others(dataset.config), near_only=True)
    drawn, nameless = (None, {}) if dataset.config.per_species is None else _draw(dataset, columns)
    place = journal.resume() or {"stream": 0, "row": 0, "state": None}
    for index, stream in enumerate(streams[place["stream"] :], start=place["stream"]):
        examples, first = stream.examples.select_columns(list(dict.fromkeys(columns.values()))), 0
        if index == place["stream"] and place["state"] is not None:
            examples.load_state_dict(place["state"])
            first = place["row"]
        label = f"Reading {dataset.repo_id} {stream.name}"
        for number, example in enumerate(track(examples, label, total=None, unit="row"), start=first):
            row = _row(dataset, columns, stream, number, example)
            if row.file in nameless:
                journal.write({"file": row.file, "reason": nameless[row.file]})
            elif row.file in drawn if drawn is not None else is_wanted_family(row.ranks.family, dataset.config):
                _keep(dataset, folder, journal, row, example[columns["image"]])
            journal.checkpoint({"stream": index, "row": number + 1, "state": examples.state_dict})
    journal.finish()


def _draw(dataset: _Dataset, columns: Mapping[str, str]) -> tuple[set[str], dict[str, str]]:
    """Name the files of the images drawn within their species, after reading the labels alone, and of those without.

    Returns:
        The files, and of those at no species the reason why.
    """
    from datasets import load_dataset_builder

    labels = list(dict.fromkeys(column for what, column in columns.items() if what != "image"))
    builder = load_dataset_builder(dataset.repo_id, dataset.config.source_config, revision=dataset.commit)
    rows = []
    for stream in _wanted(_streams(dataset, labels if builder.name == "parquet" else None), dataset):
        examples = track(stream.examples.select_columns(labels), f"Reading labels {stream.name}", None, "row")
        rows += [_row(dataset, columns, stream, number, example) for number, example in enumerate(examples)]
    chosen = select(rows, replace(dataset.config, split=()))
    return {row.file for row in chosen}, reasons_without_species(chosen, dataset.config)


def _streams(dataset: _Dataset, columns: list[str] | None = None) -> list[_Stream]:
    """Open all splits, with some columns; an only split says nothing, since the Hub calls any such `train`."""
    import datasets

    options: dict[str, Any] = {} if columns is None else {"columns": columns}
    splits = datasets.load_dataset(
        dataset.repo_id, dataset.config.source_config, revision=dataset.commit, streaming=True, **options
    )
    assert isinstance(splits, dict)
    n_known = sum(is_split_label(str(name)) for name in splits)
    streams = []
    for name, examples in splits.items():
        if examples.features is None:
            raise CollectionError(f"the columns of {dataset.repo_id} are not known before all of it is read")
        split = parse_split(str(name)) if n_known > 1 and is_split_label(str(name)) else None
        undecoded = examples.decode(False)  # images as they are stored; datasets would decode them in many threads
        streams.append(_Stream(name=str(name), split=split, examples=undecoded, features=examples.features))
    return streams


def _wanted(streams: list[_Stream], dataset: _Dataset) -> list[_Stream]:
    """Pick the splits that are asked for, in the dataset's order."""
    names, asked = [stream.name for stream in streams], dataset.config.split
    if unknown := [name for name in asked if name not in names]:
        raise CollectionError(f"{dataset.repo_id} has no split {unknown[0]!r}; its splits are {', '.join(names)}")
    return [stream for stream in streams if not asked or stream.name in asked]


def _columns(features: Mapping[str, Any], dataset: _Dataset) -> dict[str, str]:
    """Find the column for each thing that a row has, by names and types."""
    config, repo_id = dataset.config, dataset.repo_id
    kinds = {name: _kind(feature) for name, feature in features.items()}
    there = f"its columns are {', '.join(f'{name} ({kind})' for name, kind in kinds.items())}"
    species, image = config.species_column, config.image_column
    for option, name in (("--species-column", species), ("--image-column", image)):
        if name is not None and name not in features:
            raise CollectionError(f"{repo_id} has no column {name!r} for {option}; {there}")
    if image is None:
        pictures = [name for name, kind in kinds.items() if kind == "Image"]
        image = next((name for name in pictures if name.lower() == "image" or len(pictures) == 1), None)
    if image is None or kinds[image] != "Image":
        raise CollectionError(f"{repo_id} needs a column of type Image, named by --image-column; {there}")
    texts = [name for name, kind in kinds.items() if kind in ("ClassLabel", "string", "large_string", "string_view")]
    if not config.labels:
        return find_columns(texts, _others(config)) | {"image": image}
    classes = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    species = species or find_column(texts, (*SPECIES_NAMES, "label", "labels"))
    species = species or (classes[0] if len(classes) == 1 else None)
    if species is None or species not in texts:
        raise CollectionError(f"{repo_id} needs a column with the species, named by --species-column; {there}")
    others = find_columns((name for name in texts if name != species), _others(config))
    return others | {"species": species, "image": image}


def _others(config: CollectionConfig) -> dict[str, tuple[str, ...]]:
    """What a row may have besides image and species -> names of a column that says it."""
    needless = set() if config.labels else set(RANKS) - ({"family"} if config.family else set())
    return {what: names for what, names in COLUMN_NAMES.items() if what not in needless}


def _kind(feature: Any) -> str:
    """Name the type of a column: Image, ClassLabel, string, int64 … or the kind of container."""
    return getattr(feature, "dtype", "") if type(feature).__name__ == "Value" else type(feature).__name__


def _text(value: Any, feature: Any) -> str | None:
    """Turn a cell into text; the name of a class, whose number may be -1 for unknown."""
    if value is None:
        return None
    if _kind(feature) == "ClassLabel":
        return feature.int2str(value) if value >= 0 else None
    return str(value).strip() or None


def _row(dataset: _Dataset, columns: Mapping[str, str], stream: _Stream, number: int, example: dict[str, Any]) -> Row:
    """Make the row of an example, by its number in the split."""
    config = dataset.config
    split = f"{safe_name(config.source_config or 'default')}/{safe_name(stream.name)}"
    # Images of several columns would have the same row numbers.
    folder = f"{split}/{safe_name(config.image_column)}" if config.image_column else split
    cells = {what: _text(example[c], stream.features[c]) for what, c in columns.items() if what != "image"}
    return Row(
        file=f"{folder}/{number // _ROWS_PER_FOLDER:06d}/{number:09d}",
        label=cells.get("species"),
        ranks=Taxon.from_dict({rank: cells.get(rank) for rank in RANKS[:-1]}),
        individual=cells.get("individual"),
        split=stream.split,
        license=cells.get("license") or dataset.license,
        rights_holder=cells.get("rights_holder"),
        source_url=cells.get("source_url") or f"{dataset.page}#{split}/{number}",
        source_revision=dataset.commit,
    )


def _keep(dataset: _Dataset, folder: Path, journal: Journal, row: Row, image: Any) -> None:
    """Write an image and its row, or the reason why there is none."""
    try:
        data = _bytes(image, dataset)
    except CollectionError as error:
        journal.write({"file": row.file, "reason": str(error)})
        return
    path = folder / row.file
    if not path.is_file() or path.read_bytes() != data:  # what another selection wrote stays as it is, whole and dated
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    journal.write(asdict(row))


def _bytes(image: Any, dataset: _Dataset) -> bytes:
    """Read the file of an image as the dataset stores it: in the table, or beside it in the same repository."""
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
    except (HTTPError, OSError, ValueError, RuntimeError, ImportError, pa.ArrowException) as error:
        reason = re.sub(r"\bhf_\w+", "hf_…", one_line(error, max_length=300))
        raise CollectionError(
            f"{source} cannot be read: {reason}; check its name and --source-config, set HF_TOKEN if it is "
            "private, and run the same command again, which goes on where it stopped"
        ) from error
