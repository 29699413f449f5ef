"""Rows into Parquet shards, in bounded memory: the same bytes for the same rows, and the same shards for most of them.

Shards are cut where the hash of an image's id says so, and are named after it. When an image changes, is added or
taken away, the others stay in the shards that they were in, so that a new release uploads only what has changed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from sae_traits.io import hash_of_file

ROWS_PER_GROUP = 2000
"""At most; a reader that wants one column makes one request for each group."""
IMAGES_PER_GROUP = 256
"""On average, of rows without images. Groups are cut like shards, so that a row more leaves the others as they were."""
BYTES_PER_GROUP = 64 * 2**20
BYTES_PER_SHARD = 400 * 2**20
"""A segment of more bytes becomes several shards."""
BYTES_PER_PIXEL = 0.3
"""Of photographs as JPEG, for the expected size of a segment."""
IMAGE = "image.bytes"
"""The column whose values are compressed already."""
SHARD_NAME = re.compile(r"(?P<split>\w+)-(?P<segment>[0-9a-f]{12})-\d{3}\.parquet")
FIRST_SEGMENT = "0" * 12
"""The rows before the first cut."""


def images_per_segment(sizes: Iterable[tuple[int, int]], megabytes: float) -> int:
    """How many images make about so many megabytes, as a power of two, so that it changes with large changes only."""
    pixels = [width * height for width, height in sizes]
    wanted = megabytes * 2**20 / (BYTES_PER_PIXEL * sum(pixels) / len(pixels))
    return 2 ** max(0, int(wanted).bit_length() - 1)


class Segments:
    """Runs of images between cuts, for the images of one split in their order."""

    def __init__(self, n_images: int) -> None:
        """Cut before one image in `n_images`, on average."""
        self._n_images = n_images
        self._name = FIRST_SEGMENT

    def of(self, image_id: str) -> str:
        """The segment of the next image."""
        digest = hashlib.sha256(image_id.encode()).hexdigest()
        if int(digest, 16) % self._n_images == 0:
            self._name = digest[: len(FIRST_SEGMENT)]
        return self._name


def storage(schema: pa.Schema) -> dict[str, Any]:
    """How Parquet stores the columns of a schema, as arguments of its writer.

    Images as they are: compressed once more they are no smaller, and all bytes behind a new one would be others, so
    that the Hub would not find them among those that it has. Rows of one image repeat it, and a dictionary that holds
    a whole group of rows stores it once. Of measured numbers few are equal: a dictionary would only add to them.
    """
    written = pa.BufferOutputStream()
    pq.write_metadata(schema, written)
    columns = pq.ParquetFile(written.getvalue()).schema
    types = {column.path: column.physical_type for column in map(columns.column, range(len(columns)))}
    return {
        "compression": {path: "NONE" if path == IMAGE else "SNAPPY" for path in types},
        "use_dictionary": [path for path, kind in types.items() if kind != "FLOAT"],
        "dictionary_pagesize_limit": 2 * BYTES_PER_GROUP,
        "write_page_index": True,
        "use_content_defined_chunking": True,  # a row more leaves most pages of a long column as they were
    }


class ShardWriter:
    """Writes one split of one config as `{split}-{segment}-{part}.parquet`."""

    def __init__(self, folder: Path, split: str, schema: pa.Schema, *, max_bytes: int = BYTES_PER_SHARD) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.n_rows, self.n_bytes = 0, 0
        """Written so far; bytes as Arrow has them in memory."""
        self.hashes: dict[str, str] = {}
        """Name of each finished shard -> sha256 of the file."""
        self._folder, self._split, self._schema, self._max_bytes = folder, split, schema, max_bytes
        self._rows: list[dict[str, Any]] = []
        self._row_bytes = 0
        self._segment, self._part, self._group = "", 0, ""
        self._path = folder
        self._sink: IO[bytes] | None = None
        self._writer: pq.ParquetWriter | None = None

    def add(self, row: dict[str, Any], segment: str, n_bytes: int = 0, *, group: str = "") -> None:
        """Append a row that holds an image of `n_bytes`; the rows of a segment, and of a group, come together."""
        if segment != self._segment:
            self.close()
            self._segment, self._part = segment, 0
        if group != self._group:
            self._flush()
            self._group = group
        self._rows.append(row)
        self._row_bytes += n_bytes
        self.n_rows += 1
        if len(self._rows) == ROWS_PER_GROUP or self._row_bytes >= BYTES_PER_GROUP:
            self._flush()

    def close(self) -> None:
        """Finish the shard that is open."""
        self._flush()
        self._finish_shard()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        """Finish; after a failure let go of the files, which are going to be removed, whatever could be written."""
        if failure is None:
            self.close()
            return
        with suppress(OSError):
            if self._writer is not None:
                self._writer.close()  # left open, it would write to the closed file when it is dropped
        with suppress(OSError):
            if self._sink is not None:
                self._sink.close()

    def _flush(self) -> None:
        """Write the waiting rows as one row group, in a new shard where they would not fit."""
        if not self._rows:
            return
        table = pa.Table.from_pylist(self._rows, schema=self._schema)
        if self._sink is not None and self._sink.tell() + self._row_bytes > self._max_bytes:
            self._finish_shard()
        if self._writer is None:
            self._path = self._folder / f"{self._split}-{self._segment}-{self._part:03d}.parquet"
            self._part += 1
            self._sink = self._path.open("xb")  # a segment that came before would be overwritten
            self._writer = pq.ParquetWriter(self._sink, self._schema, **storage(self._schema))
        self._writer.write_table(table, row_group_size=len(table))
        self.n_bytes += table.nbytes
        self._rows, self._row_bytes = [], 0

    def _finish_shard(self) -> None:
        if self._writer is not None and self._sink is not None:
            self._writer.close()
            self._sink.close()
            self.hashes[self._path.name] = hash_of_file(self._path)
        self._writer = self._sink = None
