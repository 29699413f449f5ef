"""Pictures of a released dataset where they lie, in its Parquet files on the Hub or on this machine.

What is read at once is a group of rows: some dozens of megabytes, by range requests. The other columns of a dataset are
read without its pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow.parquet as pq
from datasets import load_dataset_builder
from fsspec.core import url_to_fs

from sae_traits.errors import ReleaseError
from sae_traits.release.loading import data_files, local_dataset, reader_errors_in_one_line
from sae_traits.release.tables import ConfigName, Row

_FILES_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class PictureGroup:
    """Rows of a file whose pictures are read at once."""

    file: str
    """Path, or the address of a file of a commit on the Hub."""
    number: int
    n_rows: int
    n_bytes: int
    """Of the encoded pictures."""

    def read(self) -> list[bytes | None]:
        """The encoded picture of each row; None where the dataset names it instead of holding it.

        Raises:
            ReleaseError: the file cannot be read, or reached.
        """
        with reader_errors_in_one_line(self.file), _opened(self.file) as file:
            pictures = file.read_row_group(self.number, columns=["image.bytes"])["image"].combine_chunks()
            return pictures.field("bytes").to_pylist()


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """Where the picture of a row is."""

    group: PictureGroup
    row: int
    """In the group."""


def rows_with_places(
    source: str, revision: str | None, config: ConfigName, split: str
) -> Iterator[tuple[Row, StoredPicture]]:
    """Yield the rows of a split without their pictures, and where each of these is.

    The address of a picture on the Hub names the commit that the revision is now, so it stays the same picture.

    Raises:
        ReleaseError: there is no such dataset or config, or it cannot be reached.
    """
    with reader_errors_in_one_line(source), ThreadPoolExecutor(_FILES_AT_ONCE) as readers:
        for of_file in readers.map(_read_file, _files(source, revision, config).get(split, [])):
            yield from of_file


def _files(source: str, revision: str | None, config: ConfigName) -> dict[str, list[str]]:
    """Split -> its files, in order."""
    if (folder := local_dataset(source, revision)) is not None:
        builder = load_dataset_builder("parquet", data_files=data_files(folder, config))
    else:
        builder = load_dataset_builder(source, config, revision=revision)
    return {str(split): [str(file) for file in files] for split, files in (builder.config.data_files or {}).items()}


def _read_file(path: str) -> list[tuple[Row, StoredPicture]]:
    with _opened(path) as file:
        names = file.schema_arrow.names
        if "image" not in names:
            raise ReleaseError(f"{path} has no column `image`")
        rows = file.read(columns=[name for name in names if name != "image"]).to_pylist()
        groups = [_group(path, number, file.metadata.row_group(number)) for number in range(file.num_row_groups)]
    places = [StoredPicture(group, row) for group in groups for row in range(group.n_rows)]
    return list(zip(rows, places, strict=True))


def _group(path: str, number: int, group: pq.RowGroupMetaData) -> PictureGroup:
    columns = [group.column(index) for index in range(group.num_columns)]
    n_bytes = sum(column.total_uncompressed_size for column in columns if column.path_in_schema == "image.bytes")
    return PictureGroup(path, number, group.num_rows, n_bytes)


@contextmanager
def _opened(path: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file, of which only the wanted ranges are read."""
    files, name = url_to_fs(path)
    with files.open(name, cache_type="none") as stream, pq.ParquetFile(stream, pre_buffer=True) as file:
        yield file
