"""RUN/traits/traits.parquet and latents.parquet: the traits of a run as standard files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from sae_traits.errors import StoreError
from sae_traits.schema import ChosenLatent, Trait

_CONTRAST = pa.struct(
    [
        ("f_species", pa.float64()),
        ("f_reference", pa.float64()),
        ("effect", pa.float64()),
        ("q_value", pa.float64()),
        ("significant", pa.bool_()),
        ("reference_rank", pa.string()),
    ]
)
_CANDIDATE = pa.struct(
    [
        ("image", pa.int32()),
        ("region_source", pa.string()),
        ("latent", pa.int32()),
        ("patches", pa.list_(pa.int32())),
        ("peak", pa.float64()),
        ("contrast", _CONTRAST),
    ]
)
_REGION = pa.struct(
    [
        ("box", pa.list_(pa.float64(), 4)),
        ("polygons", pa.list_(pa.list_(pa.float64()))),
        ("patches", pa.list_(pa.int32())),
        ("area_fraction", pa.float64()),
    ]
)
_DESCRIPTION = pa.struct(
    [
        ("text", pa.string()),
        ("part", pa.string()),
        ("attributes", pa.list_(pa.struct([("name", pa.string()), ("value", pa.string())]))),
        ("is_background", pa.bool_()),
    ]
)
_MEASUREMENT = pa.struct(
    [
        ("length_px", pa.float64()),
        ("width_px", pa.float64()),
        ("elongation", pa.float64()),
        ("texture_contrast", pa.float64()),
        ("color_lab", pa.list_(pa.float64(), 3)),
        ("color_name", pa.string()),
        ("length_mm", pa.float64()),
        ("width_mm", pa.float64()),
        ("on_animal", pa.float64()),
        ("share_of_animal", pa.float64()),
        ("position_along_axis", pa.float64()),
    ]
)
TRAIT_SCHEMA = pa.schema(
    [
        ("trait_id", pa.string()),
        ("candidate", _CANDIDATE),
        ("region", _REGION),
        ("description", _DESCRIPTION),
        ("measurement", _MEASUREMENT),
        ("n_images", pa.int32()),
        ("describer", pa.string()),
        ("describer_model", pa.string()),
        ("prompt", pa.string()),
    ]
)
LATENT_SCHEMA = pa.schema(
    [
        ("species", pa.string()),
        ("latent", pa.int32()),
        ("threshold", pa.float64()),
        ("contrast", _CONTRAST),
        ("n_fired", pa.int32()),
        ("n_images", pa.int32()),
    ]
)
_ROWS_A_GROUP = 2000


def write_traits(path: Path, traits: Iterable[Trait]) -> int:
    """Write traits in the order given, in bounded memory and atomically; how many there were."""
    return _write(path, (asdict(trait) for trait in traits), TRAIT_SCHEMA)


def write_latents(path: Path, latents: Iterable[ChosenLatent]) -> int:
    """Write chosen latents in the order given; how many there were."""
    return _write(path, (asdict(latent) for latent in latents), LATENT_SCHEMA)


def read_traits(path: Path) -> Iterator[Trait]:
    """The traits that `write_traits` wrote, in the same order.

    Raises:
        StoreError: the file is missing.
    """
    adapter = TypeAdapter(Trait)
    for row in _rows(path):
        yield adapter.validate_python(row)


def read_latents(path: Path) -> list[ChosenLatent]:
    """The latents that `write_latents` wrote.

    Raises:
        StoreError: the file is missing.
    """
    return TypeAdapter(list[ChosenLatent]).validate_python(list(_rows(path)))


def _write(path: Path, rows: Iterable[dict[str, Any]], schema: pa.Schema) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    n_rows = 0
    group: list[dict[str, Any]] = []
    with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
        for row in rows:
            group.append(row)
            n_rows += 1
            if len(group) == _ROWS_A_GROUP:
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
                group = []
        if group:
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
    os.replace(partial, path)
    return n_rows


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise StoreError(f"{path} does not exist; run `sae-traits annotate` first")
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_ROWS_A_GROUP):
            yield from batch.to_pylist()
