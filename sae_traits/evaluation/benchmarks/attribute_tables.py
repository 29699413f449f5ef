"""Binary attributes of images, or of the classes that images are of, from a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sae_traits.errors import CollectionError, ConfigError
from sae_traits.evaluation.benchmarks.class_taxa import label_key
from sae_traits.evaluation.benchmarks.labels import LABEL_NAMES, LabelledRow
from sae_traits.evaluation.benchmarks.matching import one_each, places_of
from sae_traits.evaluation.text import some
from sae_traits.images.columns import FILE_NAMES, find_column
from sae_traits.images.table_files import open_table
from sae_traits.logging import warn

_BINARY = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
_KEY = "key"


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """What images have, and what not."""

    names: tuple[str, ...]
    present: NDArray[np.int8]
    """0 or 1 `[n_images, n_attributes]`"""


def read_attributes(path: Path, rows: Sequence[LabelledRow]) -> Attributes:
    """Read the attributes of images from a table with the column `file`, or `label`: every column of 0 and 1 is one.

    Raises:
        ConfigError: it cannot be read, has no such column, contradicts itself, or says nothing of an image
            at hand; the row or the image is named.
    """
    try:
        names, rows_of = open_table(path, header_has=(*FILE_NAMES, *LABEL_NAMES))
        by_file, by_label = find_column(names, (*FILE_NAMES, "filename", "id")), find_column(names, LABEL_NAMES)
        key = by_file or by_label
        if key is None:
            raise ConfigError(f"{path} has neither a column `file` nor `label`; its columns are {', '.join(names)}")
        cells = list(rows_of({name: name for name in names if name != key} | {_KEY: key}))
    except CollectionError as error:
        raise ConfigError(f"cannot read attributes: {error}") from error
    binary = [name for name in names if name != key and cells and all(row[name] in _BINARY for row in cells)]
    if not binary:
        raise ConfigError(f"{path} has no column of 0 and 1 in every row; its columns are {', '.join(names)}")
    if others := [name for name in names if name not in (key, *binary)]:
        warn(f"columns of {path.name} that do not have 0 or 1 in every row are no attributes: {some(others)}")
    written = [cell[_KEY] or "" for cell in cells]
    said = [tuple(_BINARY[str(cell[name])] for name in binary) for cell in cells]
    about: list[str | None] = [label_key(text) for text in written]
    asked = [label_key(row.label) for row in rows]
    if by_file is not None:
        asked = [row.file for row in rows]
        about = [None if place is None else asked[place] for place in places_of(written, asked)]
    numbered = zip(range(1, len(cells) + 1), about, written, said, strict=True)
    known = one_each(path, ((n, name, text, values) for n, name, text, values in numbered if name is not None))
    for name, row in zip(asked, rows, strict=True):
        if name not in known:
            raise ConfigError(
                f"{path} has no row of {name!r} ({row.where}), and every image needs its attributes"
                + (", under its path where several files have its name" if by_file else "")
            )
    return Attributes(names=tuple(binary), present=np.array([known[name] for name in asked], dtype=np.int8))
