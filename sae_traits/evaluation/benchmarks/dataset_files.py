"""Images that lie in the Parquet files of a dataset folder, written out as files, each named by its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sae_traits.errors import CollectionError, one_line
from sae_traits.images.columns import COLUMN_NAMES, find_column, find_columns
from sae_traits.images.splits import is_split_label, parse_split
from sae_traits.io import write_whole
from sae_traits.logging import track
from sae_traits.schema import Problem
from sae_traits.vocabulary import RANKS

_CONFIGS = ("images", "default")
"""Folders below `data` of a dataset that has several tables: the first that is there is read."""
_ROWS_AT_A_TIME = 64


def has_images(folder: Path) -> bool:
    """Whether a folder is a dataset with images in its Parquet files."""
    files = _parquet_files(folder)
    return bool(files) and _image_column(files[0]) is not None


def extract_images(
    folder: Path,
    to: Path,
    *,
    label_names: Sequence[str],
    label_column: str | None = None,
    image_column: str | None = None,
) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Write the images of a dataset folder into `to`, those that are there already stay.

    Args:
        folder: with Parquet files.
        to: where images are written.
        label_names: names of a column of labels, the surest first; none where labels are not wanted.
        label_column: the column of labels, where its name does not say so.
        image_column: the column of images, where there are several.

    Returns:
        Of every image the fields of a `LabelledRow`; an image that several rows have comes once, with the label of the
        first; where labels are not wanted they are empty. And the rows that cannot be used.

    Raises:
        CollectionError: a file cannot be read, or lacks a column that is named.
    """
    files = _parquet_files(folder)
    splits = {file: file.name.split("-")[0] for file in files}
    several = len(set(splits.values())) > 1  # the Hub calls an only split `train`
    found: dict[str, dict[str, Any]] = {}
    problems: list[Problem] = []
    for file in track(files, f"reading images of {folder.name}", len(files), "file"):
        split = parse_split(splits[file]) if several and is_split_label(splits[file]) else None
        for number, (image, cells) in enumerate(_rows(file, label_names, label_column, image_column)):
            where = f"row {number} of {file.name}"
            data = (image or {}).get("bytes")
            label = " ".join((cells.pop("label", "") or "").split())
            if data is None:
                problems.append(Problem(where, "it holds no image"))
                continue
            if label_names and not label:
                problems.append(Problem(where, "it has no label"))
                continue
            name = f"images/{hashlib.sha256(data).hexdigest()}"
            path = to / name
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, data)
            individual, source = cells.pop("individual", None), cells.pop("source_sha256", None)
            row = {
                "file": name,
                "label": label,
                "where": where,
                "individual": individual,
                "source_sha256": source,
                "split": split,
                "taxon": {rank: value for rank, value in cells.items() if value},
            }
            if (first := found.setdefault(name, row))["label"] != label:
                problems.append(
                    Problem(where, f"it has the image of {first['where']}, here as {label!r}; the first is taken")
                )
    return list(found.values()), problems


def _parquet_files(folder: Path) -> list[Path]:
    for config in _CONFIGS:
        if files := sorted((folder / "data" / config).glob("*.parquet")):
            return files
    return sorted({*folder.glob("*.parquet"), *folder.glob("data/*.parquet")})


def _image_column(file: Path, wanted: str | None = None) -> str | None:
    """The column that is wanted, or called `image`, or the first with images; None where there is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(file)
    except (OSError, pa.ArrowException) as error:
        raise CollectionError(f"{file} is not a Parquet file that can be read: {one_line(error)}") from error
    pictures = [
        field.name
        for field in schema
        if pa.types.is_struct(field.type)
        and "bytes" in [field.type.field(i).name for i in range(field.type.num_fields)]
    ]
    if wanted is not None and wanted not in pictures:
        raise CollectionError(f"{file} has no column {wanted!r} with images; such are {', '.join(pictures) or 'none'}")
    return wanted or ("image" if "image" in pictures else next(iter(pictures), None))


def _rows(
    file: Path, label_names: Sequence[str], label_column: str | None, image_column: str | None
) -> Iterator[tuple[dict[str, Any] | None, dict[str, str | None]]]:
    """Yield image and cells of every row: `label`, `individual`, `source_sha256` and ranks."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    image = _image_column(file, image_column)
    if image is None:
        raise CollectionError(f"{file} has no column with images, as the other files of its dataset have")
    parquet = pq.ParquetFile(file)
    names = parquet.schema_arrow.names
    others = {"individual": COLUMN_NAMES["individual"], "source_sha256": ("source_sha256",)}
    wanted = find_columns(names, {rank: (rank,) for rank in RANKS} | others)
    label = label_column or find_column(names, label_names)
    if label_column is not None and label_column not in names:
        raise CollectionError(f"{file} has no column {label_column!r}; its columns are {', '.join(names)}")
    if label_names and label is None:
        raise CollectionError(
            f"{file} has no column `label`; name it with --label-column. Its columns are {', '.join(names)}"
        )
    wanted |= {"label": label} if label else {}
    classes = _class_names(parquet.schema_arrow.metadata or {}, label)
    try:
        for batch in parquet.iter_batches(batch_size=_ROWS_AT_A_TIME, columns=[image, *set(wanted.values())]):
            for row in batch.to_pylist():
                cells = {what: _text(row[column]) for what, column in wanted.items()}
                if classes and label:
                    place = row[label]
                    cells["label"] = None if place is None or place < 0 else classes[place]
                yield row[image], cells
    except (OSError, pa.ArrowException) as error:
        raise CollectionError(f"{file} cannot be read to its end: {one_line(error)}") from error


def _class_names(metadata: dict[bytes, bytes], label: str | None) -> list[str] | None:
    """The names of a column of classes, which the datasets library writes into the schema."""
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return (features.get(label) or {}).get("names") if label else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value).strip() or None
