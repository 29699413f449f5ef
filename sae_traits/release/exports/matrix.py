"""A species x trait matrix: one row per species, as CSV and as Parquet.

An attribute such as `wing: colour = orange` becomes a column with the share of the species' images of which it was
said; a measure becomes its mean and standard deviation over the species' regions.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sae_traits.errors import ReleaseError
from sae_traits.io import write_csv
from sae_traits.release.loading import Released
from sae_traits.release.tables import MEASURES, Row
from sae_traits.schema import RANKS

MEASURED = tuple(
    measure.name
    for measure in MEASURES
    if pa.types.is_floating(measure.type) and measure.name not in ("length_px", "width_px", "on_animal")
)
"""Not the lengths in pixels, which depend on the photograph, nor how well a region was placed."""
MIN_IMAGES = 2
"""An attribute said of one image only says nothing about a species."""
MAX_ATTRIBUTES = 2000
"""The most frequent ones, so that free text does not make a table that no program opens."""


@dataclass
class _Species:
    """What was said and measured of a species so far."""

    taxon: dict[str, str | None]
    n_images: int = 0
    n_traits: int = 0
    said: Counter[str] = field(default_factory=Counter)
    """Attribute -> images."""
    measured: defaultdict[str, array[float]] = field(default_factory=lambda: defaultdict(lambda: array("d")))


def write(released: Released, folder: Path) -> dict[str, int]:
    """Write matrix.csv and matrix.parquet.

    Raises:
        ReleaseError: no image has a species.
    """
    species: dict[str, _Species] = {}
    n_unlabelled = 0
    for split in released.splits("images"):
        for row in released.rows("images", split, images=False):
            name = row["species"]
            if name is None:
                n_unlabelled += 1
            else:
                _add(species.setdefault(name, _Species({rank: row[rank] for rank in RANKS})), row)
    if not species:
        raise ReleaseError(
            f"no image of {released.source} has a species, so there is no row of a matrix; `--to darwin-core` takes "
            "images without one"
        )
    said: Counter[str] = Counter()
    for one in species.values():
        said.update(one.said)
    frequent = [name for name, number in said.most_common() if number >= MIN_IMAGES]
    kept = sorted(frequent[:MAX_ATTRIBUTES])
    rows = [_row(species[name], kept) for name in sorted(species)]
    _write(folder, rows)
    return {
        "species": len(rows),
        "attributes": len(kept),
        "rarer attributes left out": len(said) - len(kept),
        "images without a species left out": n_unlabelled,
    }


def _add(species: _Species, row: Row) -> None:
    species.n_images += 1
    species.n_traits += len(row["traits"])
    said: set[str] = set()
    for trait in row["traits"]:
        part = f"{trait['part']}: " if trait["part"] else ""
        said.update(f"{part}{item['name']} = {item['value']}" for item in trait["attributes"])
        for name in MEASURED:
            if trait[name] is not None:
                species.measured[name].append(trait[name])
    species.said.update(said)


def _row(species: _Species, attributes: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = species.taxon | {"n_images": species.n_images, "n_traits": species.n_traits}
    for name in MEASURED:
        values = np.array(species.measured[name])
        row[f"{name} (mean)"] = float(values.mean()) if len(values) else None
        row[f"{name} (standard deviation)"] = float(values.std(ddof=1)) if len(values) > 1 else None
    return row | {name: species.said[name] / species.n_images for name in attributes}


def _write(folder: Path, rows: list[dict[str, Any]]) -> None:
    names = list(rows[0])
    counts = "n_images", "n_traits"
    types = [pa.string() if n in RANKS else pa.int64() if n in counts else pa.float64() for n in names]
    pq.write_table(
        pa.Table.from_pylist(rows, pa.schema(list(zip(names, types, strict=True)))), folder / "matrix.parquet"
    )
    write_csv(folder / "matrix.csv", names, ([_shown(row[name]) for name in names] for row in rows))


def _shown(value: Any) -> Any:
    """A number short enough to read; all else as it is."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
