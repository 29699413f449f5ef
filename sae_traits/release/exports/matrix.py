"""A species x trait matrix: one row per species, as CSV and as Parquet.

An attribute such as `wing: colour = orange` becomes a column with the share of the species' images of which it was
said; a measure becomes its mean and standard deviation over the species' regions.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sae_traits.errors import ReleaseError
from sae_traits.io import write_csv
from sae_traits.release.loading import Released
from sae_traits.release.tables import MEASURES, Row
from sae_traits.vocabulary import RANKS

MEASURED = tuple(
    measure.name
    for measure in MEASURES
    if pa.types.is_floating(measure.type) and measure.name not in ("length_px", "width_px", "on_animal")
)
"""Not the lengths in pixels, which depend on the photograph, nor how well a region was placed."""
_MOMENTS = [f"{name} ({moment})" for name in MEASURED for moment in ("mean", "standard deviation")]
MIN_IMAGES = 2
"""An attribute said of one image only says nothing about a species."""
MAX_ATTRIBUTES = 2000
"""The most frequent ones, so that free text does not make a table that no program opens."""


def write(released: Released, folder: Path) -> dict[str, int]:
    """Write matrix.csv and matrix.parquet."""
    taxa: dict[str, dict[str, Any]] = {}
    n_images, n_traits, said, n_unlabelled = Counter[str](), Counter[str](), Counter[tuple[str, str]](), 0
    measured = {name: array("d") for name in MEASURED}
    species_of: list[str] = []
    for row in released.all_rows("images"):
        species = row["species"]
        if species is None:
            n_unlabelled += 1
            continue
        taxa.setdefault(species, {rank: row[rank] for rank in RANKS})
        n_images[species] += 1
        n_traits[species] += len(row["traits"])
        said.update({(species, attribute) for trait in row["traits"] for attribute in _attributes(trait)})
        for trait in row["traits"]:
            species_of.append(species)
            for name, values in measured.items():
                values.append(math.nan if trait[name] is None else trait[name])
    if not taxa:
        raise ReleaseError(
            f"no image of {released.source} has a species, so there is no row of a matrix; `--to darwin-core` takes "
            "images without one"
        )
    overall = Counter(attribute for _, attribute in said.elements())
    by_frequency = sorted(overall, key=lambda name: (-overall[name], name))
    frequent = [name for name in by_frequency if overall[name] >= MIN_IMAGES]
    attributes = sorted(frequent[:MAX_ATTRIBUTES])
    moments = _moments(measured, species_of)
    rows = [
        taxa[species]
        | {"n_images": n_images[species], "n_traits": n_traits[species]}
        | moments.get(species, dict.fromkeys(_MOMENTS))
        | {name: said[species, name] / n_images[species] for name in attributes}
        for species in sorted(taxa)
    ]
    _write(folder, rows)
    return {
        "species": len(rows),
        "attributes": len(attributes),
        "rarer attributes left out": len(overall) - len(attributes),
        "images without a species left out": n_unlabelled,
    }


def _attributes(trait: Row) -> Iterator[str]:
    part = f"{trait['part']}: " if trait["part"] else ""
    return (f"{part}{item['name']} = {item['value']}" for item in trait["attributes"])


def _moments(measured: Mapping[str, array[float]], species_of: list[str]) -> dict[str, dict[str, float | None]]:
    """Species -> mean and standard deviation of every measure; None where there is none."""
    table = pd.DataFrame(measured).groupby(np.array(species_of, dtype=object)).agg(["mean", "std"])
    table.columns = _MOMENTS
    values = table.astype(object).where(table.notna(), None)
    return cast("dict[str, dict[str, float | None]]", values.to_dict("index"))


def _write(folder: Path, rows: list[dict[str, Any]]) -> None:
    names = list(rows[0])
    counts = "n_images", "n_traits"
    types = [pa.string() if n in RANKS else pa.int64() if n in counts else pa.float64() for n in names]
    schema = pa.schema(list(zip(names, types, strict=True)))
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "matrix.parquet")
    write_csv(folder / "matrix.csv", names, ([_shown(row[name]) for name in names] for row in rows))


def _shown(value: Any) -> Any:
    """A number short enough to read; all else as it is."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
