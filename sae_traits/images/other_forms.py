"""Forms of images that are no sources here, told from each other: what was found, and the way on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError
from sae_traits.images.listing import Format, Listing

_SHARD = ".tar"


def _recognise(config: CollectionConfig) -> Callable[[], Listing] | None:
    found = _made_here(config.path) or (shards_or_parquet(config.path) if config.path.suffix == _SHARD else None)
    if found is None:
        return None

    def refuse() -> NoReturn:
        raise CollectionError(f"{config.path} {found}")

    return refuse


FORMAT = Format(name="what sae-traits made of images, or a shard", recognise=_recognise)
"""Tried before tables and folders, because a run has tables and pictures, which are not its photographs."""


def shards_or_parquet(path: Path) -> str | None:
    """What a file or folder of shards, or a folder of Parquet files, is and the way on; None where it is neither."""
    if (shard := _first(path, f"*{_SHARD}")) is not None:
        return (
            f"holds WebDataset shards ({shard.name}), which `finetune` alone reads; unpack them with tar, name the "
            "images and their species in a metadata.csv beside them, and give that folder"
        )
    if path.is_dir() and (table := _first(path, "*.parquet")) is not None:
        return (
            f"holds Parquet files ({table.name}); where these have the images in them, put them on the Hub and give "
            "hf://datasets/ORG/NAME, or write the images out as files beside a metadata.csv"
        )
    return None


def _made_here(path: Path) -> str | None:
    """What of the outputs of a run a folder is, and the way on; None where it is none."""
    if (path / "config.yaml").is_file() and (path / "images.parquet").is_file():
        return (
            f"is the folder of a run, not its photographs{_whose_lie_in(path)}; `sae-traits annotate {path}` describes "
            "these anew, and `finetune` and `benchmark` take the run"
        )
    if any((path / "data" / "default").glob("*.parquet")) and (path / "README.md").is_file():
        return (
            f"is a dataset that sae-traits wrote, not photographs{_whose_lie_in(path.parent)}; `finetune` and "
            "`benchmark` take it"
        )
    return None


def _whose_lie_in(run: Path) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(run / "images.parquet").metadata or {}
    except (OSError, pa.ArrowException):
        return ""
    return f", which lie in {metadata[b'root'].decode()}: give these" if b"root" in metadata else ""


def _first(path: Path, pattern: str) -> Path | None:
    """The first file of a pattern: the path itself, or one below it."""
    if path.is_file():
        return path if path.match(pattern) else None
    files: Iterator[Path] = (file for file in path.rglob(pattern) if file.is_file())
    return min(files, default=None)
