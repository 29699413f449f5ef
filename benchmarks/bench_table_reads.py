"""What a reader of one column of 80,000 traits asks for, and what one more row or image makes new.

Made-up rows without images, written by the writer of releases with groups of 100 and of 2,000 rows, and with groups
that are cut where the hash of an image's id says so, as the config `traits` is. Then 1,000 images of 20 KB with four
rows each, and one more, stored as releases store them and compressed: the bytes of pieces of some 64 KB, cut by content
as the storage of the Hub cuts them, that are not in the file before. A minute:

    python benchmarks/bench_table_reads.py
"""

from __future__ import annotations

import hashlib
import io
import random
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tables import describe_machine, markdown_table

from sae_traits.release import shards

N_IMAGES, N_SPECIES = 19_000, 736
WORDS = ("dark", "pale", "brown", "wing", "margin", "spot", "long", "round", "broad", "narrow", "band", "near", "small")
SCHEMA = pa.schema(
    [("trait_id", pa.string()), ("text", pa.string()), ("species", pa.string()), ("box", pa.list_(pa.float32(), 4))]
)

WITH_IMAGES = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("text", pa.string())])


class CountedFile:
    """A file that counts how often it is read, and how much."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.n_reads, self.n_bytes = 0, 0
        self.closed = False

    def read(self, n: int = -1) -> bytes:
        data = self._file.read(n)
        self.n_reads, self.n_bytes = self.n_reads + 1, self.n_bytes + len(data)
        return data

    def seek(self, *place: int) -> int:
        return self._file.seek(*place)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        self.closed = True


def rows(*, one_more: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield rows with the id of their image; one more image has a trait more, a quarter of the way."""
    numbers = random.Random(0)
    for image in range(N_IMAGES):
        name = f"image-{image}"
        for trait in range(numbers.choice([3, 4, 5])):
            yield (
                name,
                {
                    "trait_id": hashlib.sha256(f"{name}-{trait}".encode()).hexdigest()[:32],
                    "text": " ".join(numbers.choices(WORDS, k=20)),
                    "species": f"Aus bus{image % N_SPECIES}",
                    "box": [500 * numbers.random() for _ in range(4)],
                },
            )
        if one_more and image == N_IMAGES // 4:
            yield name, {"trait_id": "new", "text": "a dark spot", "species": "Aus novus", "box": [1.0] * 4}


def written(folder: Path, rows_per_group: int, *, cut: bool, one_more: bool) -> Path:
    """The file of all rows."""
    shards.ROWS_PER_GROUP = rows_per_group
    groups = shards.Segments(shards.IMAGES_PER_GROUP)
    with shards.ShardWriter(folder, "train", SCHEMA) as writer:
        for name, row in rows(one_more=one_more):
            writer.add(row, shards.FIRST_SEGMENT, group=groups.of(name) if cut else "")
    (path,) = folder.iterdir()
    return path


def columns_of_groups(path: Path) -> list[bytes]:
    """The bytes of every column of every group."""
    content, metadata = path.read_bytes(), pq.read_metadata(path)
    chunks = [
        metadata.row_group(group).column(column)
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    ]
    starts = [chunk.dictionary_page_offset or chunk.data_page_offset for chunk in chunks]
    return [content[s : s + chunk.total_compressed_size] for s, chunk in zip(starts, chunks, strict=True)]


def with_images(n_images: int, *, one_more: bool, **options: Any) -> bytes:
    """A file with one group of four rows per image, stored as releases are but for some options."""
    numbers = [*range(n_images // 4), *([-1] if one_more else []), *range(n_images // 4, n_images)]
    images = [{"bytes": random.Random(number).randbytes(20_000), "path": None} for number in numbers]
    texts = [f"Trait {trait} of image {number}." for number in numbers for trait in range(4)]
    table = pa.table([[image for image in images for _ in range(4)], texts], schema=WITH_IMAGES)
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=len(table), **shards.storage(WITH_IMAGES) | options)
    return sink.getvalue()


def new_bytes(before: bytes, after: bytes) -> int:
    """How much of a file is in pieces of some 64 KB that are not in the one before."""
    old = set(pieces(before))
    return sum(len(piece) for piece in pieces(after) if piece not in old)


def pieces(content: bytes) -> list[bytes]:
    """The content, cut where the 32 bytes before say so (a gear hash)."""
    values = np.random.default_rng(0).integers(0, 2**63, 256, dtype=np.uint64)[np.frombuffer(content, np.uint8)]
    rolled = np.zeros_like(values)
    for place in range(32):
        rolled[place:] += values[: len(values) - place] << np.uint64(place)
    cuts = np.flatnonzero(rolled >> np.uint64(48) == 0).tolist()
    return [content[start:stop] for start, stop in pairwise([0, *cuts, len(content)])]


def main() -> None:
    lines = []
    for name, size, cut in (
        ("100 rows", 100, False),
        ("2,000 rows", 2000, False),
        ("2,000 rows, cut by content", 2000, True),
    ):
        with tempfile.TemporaryDirectory() as folder:
            before = written(Path(folder, "before"), size, cut=cut, one_more=False)
            after = written(Path(folder, "after"), size, cut=cut, one_more=True)
            file = CountedFile(before)
            n_rows = pq.ParquetFile(file, pre_buffer=False).read(columns=["text"]).num_rows
            old = set(columns_of_groups(before))
            n_new = sum(len(chunk) for chunk in columns_of_groups(after) if chunk not in old)
            megabytes = [f"{n / 1e6:.2f}" for n in (before.stat().st_size, file.n_bytes, n_new)]
            n_groups = pq.read_metadata(before).num_row_groups
            lines.append([name, f"{n_rows:,}", str(n_groups), str(file.n_reads), *megabytes])
            file.close()
    print(describe_machine())
    header = ["groups of at most", "rows", "groups", "reads of the column text", "MB in all", "MB read", "MB new"]
    print(markdown_table(header, lines))
    lines = []
    for name, options in (("as they are", {}), ("compressed (snappy, the default)", {"compression": "snappy"})):
        before, after = (with_images(1000, one_more=more, **options) for more in (False, True))
        lines.append([name, f"{len(after) / 1e6:.1f}", f"{new_bytes(before, after) / 1e6:.1f}"])
    print()
    print(markdown_table(["images", "MB in all", "MB new with one image more"], lines))


if __name__ == "__main__":
    main()
