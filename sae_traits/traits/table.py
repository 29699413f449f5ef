"""RUN/traits/traits.parquet, latents.parquet and captions.parquet: what is said of images, as standard files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from sae_traits.arrow import arrow_schema, readable_or_store_error
from sae_traits.errors import StoreError
from sae_traits.io import whole_file
from sae_traits.schema import Caption, ChosenLatent, Trait

_ROWS_PER_GROUP = 2000


def write_traits(path: Path, traits: Iterable[Trait]) -> int:
    """Write traits in the order given, in bounded memory and atomically; how many there were."""
    return _write(path, traits, arrow_schema(Trait))


def write_latents(path: Path, latents: Iterable[ChosenLatent]) -> int:
    """Write chosen latents in the order given; how many there were."""
    return _write(path, latents, arrow_schema(ChosenLatent))


def read_traits(path: Path) -> Iterator[Trait]:
    """Yield the traits that `write_traits` wrote, in the same order.

    Raises:
        StoreError: the file is missing.
    """
    adapter = TypeAdapter(Trait)
    for row in read_rows(path):
        yield adapter.validate_python(row)


def read_latents(path: Path) -> list[ChosenLatent]:
    """The latents that `write_latents` wrote.

    Raises:
        StoreError: the file is missing.
    """
    return TypeAdapter(list[ChosenLatent]).validate_python(list(read_rows(path)))


def write_captions(path: Path, captions: Iterable[Caption]) -> int:
    """Write captions in the order given; how many there were."""
    return _write(path, captions, arrow_schema(Caption))


def read_captions(path: Path) -> Iterator[Caption]:
    """Yield the captions that `write_captions` wrote, in the same order; a StoreError where the file is missing."""
    return (Caption(**row) for row in read_rows(path))


def _write(path: Path, rows: Iterable[Trait | ChosenLatent | Caption], schema: pa.Schema) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    n_rows = 0
    with whole_file(path) as stream, pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        remaining = iter(rows)
        while group := list(islice(remaining, _ROWS_PER_GROUP)):
            writer.write_table(pa.Table.from_pylist([asdict(row) for row in group], schema=schema))
            n_rows += len(group)
    return n_rows


def read_rows(path: Path, command: str = "annotate") -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file; a StoreError where it cannot be read, or is missing."""
    if not path.is_file():
        raise StoreError(f"{path} does not exist; run `sae-traits {command}` first")
    with readable_or_store_error(path), pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_ROWS_PER_GROUP):
            yield from batch.to_pylist()
