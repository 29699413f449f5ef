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
from sae_traits.vocabulary import RANKS

_CONFIGS = ("images", "default")
"""Folders below `data` of a dataset that has several tables: the first that is there is read."""
_ROWS_AT_A_TIME = 64


def has_images(folder: Path) -> bool:
    """Whether a folder is a dataset with images in its Parquet files."""
    files = _parquet_files(folder)
    return bool(files) and _image_column(files[0]) is not None


def extract_images(
    folder: Path, to: Path, *, label_names: Sequence[str], label_column: str | None = None
) -> list[dict[str, Any]]:
    """Write the images of a dataset folder into `to`, those that are there already stay.

    Returns:
        Of every image the fields of a `LabelledRow`; an image that several rows have comes once. Without a column of
        labels, the label is empty.

    Raises:
        CollectionError: a file cannot be read.
    """
    files = _parquet_files(folder)
    splits = {file: file.name.split("-")[0] for file in files}
    several = len(set(splits.values())) > 1  # the Hub calls an only split `train`
    found: dict[str, dict[str, Any]] = {}
    for file in track(files, f"reading images of {folder.name}", len(files), "file"):
        split = parse_split(splits[file]) if several and is_split_label(splits[file]) else None
        for number, (image, cells) in enumerate(_rows(file, label_names, label_column)):
            data = (image or {}).get("bytes")
            if data is None:
                continue
            name = f"images/{hashlib.sha256(data).hexdigest()}"
            path = to / name
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, data)
            label = " ".join((cells.pop("label", None) or "").split())
            individual, source = cells.pop("individual", None), cells.pop("source_sha256", None)
            found.setdefault(
                name,
                {
                    "file": name,
                    "label": label,
                    "where": f"row {number} of {file.name}",
                    "individual": individual,
                    "source_sha256": source,
                    "split": split,
                    "taxon": {rank: value for rank, value in cells.items() if value},
                },
            )
    return list(found.values())


def _parquet_files(folder: Path) -> list[Path]:
    for config in _CONFIGS:
        if files := sorted((folder / "data" / config).glob("*.parquet")):
            return files
    return sorted({*folder.glob("*.parquet"), *folder.glob("data/*.parquet")})


def _image_column(file: Path) -> str | None:
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
    return "image" if "image" in pictures else next(iter(pictures), None)


def _rows(
    file: Path, label_names: Sequence[str], label_column: str | None
) -> Iterator[tuple[dict[str, Any] | None, dict[str, str | None]]]:
    """Yield image and cells of every row: `label`, `individual`, `source_sha256` and ranks."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    image = _image_column(file)
    if image is None:
        raise CollectionError(f"{file} has no column with images, as the other files of its dataset have")
    parquet = pq.ParquetFile(file)
    names = parquet.schema_arrow.names
    others = {"individual": COLUMN_NAMES["individual"], "source_sha256": ("source_sha256",)}
    wanted = find_columns(names, {rank: (rank,) for rank in RANKS} | others)
    label = label_column or find_column(names, label_names)
    if label_column is not None and label_column not in names:
        raise CollectionError(f"{file} has no column {label_column!r}; its columns are {', '.join(names)}")
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
