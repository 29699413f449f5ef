"""Embeddings of a benchmark's images in one file, to take elsewhere, or brought from elsewhere.

`embeddings` are float32 `[n, embed_dim]`; `ids` are the files of the images, as their source lists them: in a
.safetensors file a JSON list in its metadata, in an .npz file an array of text.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sae_traits.errors import ConfigError, one_line
from sae_traits.evaluation.benchmarks.labels import IMAGES_FOLDER
from sae_traits.io import write_whole

FloatArray = NDArray[np.float32]


def write_embeddings(path: Path, embeddings: FloatArray, ids: Sequence[str], about: dict[str, str]) -> None:
    """Write a .safetensors file; `about` says in its metadata what the embeddings depend on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = about | {"ids": json.dumps(list(ids), ensure_ascii=False)}
    write_whole(path, save({"embeddings": np.ascontiguousarray(embeddings, dtype=np.float32)}, metadata))


def read_embeddings(path: Path, files: Sequence[str]) -> tuple[FloatArray, dict[str, str]]:
    """Read the embeddings of some images, in their order `[n_files, embed_dim]`, and what the file says of them.

    Raises:
        ConfigError: the file cannot be read, has no ids, lacks an image or has two embeddings of one, or holds what is
            no embedding.
    """
    embeddings, ids, about = _read(path)
    if embeddings.ndim != 2 or len(embeddings) != len(ids):
        raise ConfigError(f"{path} has embeddings {list(embeddings.shape)} and {len(ids)} ids; it needs one row per id")
    place: dict[str, int] = {}
    for row, name in enumerate(ids):
        if not np.array_equal(embeddings[place.setdefault(name, row)], embeddings[row], equal_nan=True):
            raise ConfigError(f"{path} has two different embeddings of {name!r}; keep one")
    rows = [_row_of(file, place) for file in files]
    if lacking := [file for file, row in zip(files, rows, strict=True) if row is None]:
        raise ConfigError(
            f"{path} has no embedding of {len(lacking):,} images, such as {lacking[0]!r}; its ids are such as "
            f"{ids[0]!r}"
            if ids
            else f"{path} has no embeddings"
        )
    found = embeddings[np.array(rows, dtype=np.int64)].astype(np.float32)
    if bad := int((~np.isfinite(found).all(axis=1) | ~found.any(axis=1)).sum()):
        raise ConfigError(f"{bad} of the {len(found)} embeddings of {path} are zero or not finite")
    return found, about


def _row_of(file: str, place: Mapping[str, int]) -> int | None:
    """The row of an image: its files may lie beside their table, or in the folder `images` there, or nowhere."""
    names = (file, f"{IMAGES_FOLDER}/{file}", file.removeprefix(f"{IMAGES_FOLDER}/"))
    return next((place[name] for name in names if name in place), None)


def _read(path: Path) -> tuple[NDArray[np.floating], list[str], dict[str, str]]:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return arrays["embeddings"], [str(name) for name in arrays["ids"]], {}
        with safe_open(path, framework="np") as file:
            about = dict(file.metadata() or {})
            ids = json.loads(about.pop("ids"))
            return file.get_tensor("embeddings"), [str(name) for name in ids], about
    except KeyError as error:
        raise ConfigError(
            f"{path} lacks {error}; it needs `embeddings`, and `ids` with the files of the images"
        ) from error
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, SafetensorError) as error:
        hint = "; save them as float32" if isinstance(error, TypeError) else ""  # numpy has no bfloat16
        raise ConfigError(f"cannot read the embeddings of {path}: {one_line(error)}{hint}") from error
