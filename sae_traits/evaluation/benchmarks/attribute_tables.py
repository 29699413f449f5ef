"""Binary attributes of images, or of the classes that images are of, from a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from sae_traits.errors import CollectionError, ConfigError
from sae_traits.evaluation.benchmarks.class_taxa import label_key
from sae_traits.evaluation.benchmarks.inputs import some
from sae_traits.evaluation.benchmarks.labels import LABEL_NAMES, LabelledRow
from sae_traits.images.columns import FILE_NAMES, find_column
from sae_traits.images.table_files import Cells, open_table
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
        ConfigError: it cannot be read, has no such column, or says nothing of an image at hand, which is named.
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
    known = {}
    for row in cells:
        known[_key(row[_KEY] or "", is_file=by_file is not None)] = row
    found = [_row_of(path, row, known, is_file=by_file is not None) for row in rows]
    present = np.array([[_BINARY[str(row[name])] for name in binary] for row in found], dtype=np.int8)
    return Attributes(names=tuple(binary), present=present)


def _row_of(path: Path, row: LabelledRow, known: dict[str, Cells], *, is_file: bool) -> Cells:
    key = _key(row.file if is_file else row.label, is_file=is_file)
    if key not in known:
        raise ConfigError(f"{path} has no row of {key!r} ({row.where}), and every image needs its attributes")
    return known[key]


def _key(text: str, *, is_file: bool) -> str:
    return PurePosixPath(text.replace("\\", "/")).name if is_file else label_key(text)
