"""Rows into Parquet shards of bounded size, in bounded memory, with the same bytes for the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

ROWS_A_GROUP = 100
"""A reader that wants one row reads its group."""
BYTES_A_GROUP = 64 * 2**20
BYTES_A_SHARD = 400 * 2**20


class ShardWriter:
    """Writes one split of one config as `{split}-00000-of-0000N.parquet`; the names are right after `close`."""

    def __init__(self, folder: Path, split: str, schema: pa.Schema, *, max_bytes: int = BYTES_A_SHARD) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.n_rows = 0
        self._folder, self._split, self._schema, self._max_bytes = folder, split, schema, max_bytes
        self._rows: list[dict[str, Any]] = []
        self._row_bytes = 0
        self._parts: list[Path] = []
        self._sink: IO[bytes] | None = None
        self._writer: pq.ParquetWriter | None = None

    def add(self, row: dict[str, Any], n_bytes: int = 0) -> None:
        """Append a row that holds an image of `n_bytes`."""
        self._rows.append(row)
        self._row_bytes += n_bytes
        self.n_rows += 1
        if len(self._rows) == ROWS_A_GROUP or self._row_bytes >= BYTES_A_GROUP:
            self._flush()

    def close(self) -> list[Path]:
        """Finish the last shard and give all of them their names."""
        self._flush()
        self._finish_shard()
        paths = []
        for i, part in enumerate(self._parts):
            paths.append(part.rename(part.with_name(f"{self._split}-{i:05d}-of-{len(self._parts):05d}.parquet")))
        return paths

    def abandon(self) -> None:
        """Let go of the files without finishing them."""
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
            self._parts.append(self._folder / f"{self._split}-{len(self._parts):05d}.unfinished")
            self._sink = self._parts[-1].open("wb")
            # Rows of one specimen repeat its image. A dictionary that holds a whole row group stores each image once.
            self._writer = pq.ParquetWriter(
                self._sink,
                self._schema,
                dictionary_pagesize_limit=2 * BYTES_A_GROUP,
                write_page_index=True,
            )
        self._writer.write_table(table, row_group_size=len(table))
        self._rows, self._row_bytes = [], 0

    def _finish_shard(self) -> None:
        if self._writer is not None and self._sink is not None:
            self._writer.close()
            self._sink.close()
        self._writer = self._sink = None
