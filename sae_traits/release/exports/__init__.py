"""A released dataset in the formats of other communities: biodiversity, statistics, object detection, CLIP training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal, cast

from sae_traits.errors import ReleaseError
from sae_traits.io import replacing
from sae_traits.release.loading import Released

ExportFormat = Literal["darwin-core", "matrix", "coco", "webdataset"]
"""Each is a module of this folder, with an underscore for the hyphen."""
Exporter = Callable[[Released, Path], dict[str, int]]


@dataclass(frozen=True)
class Export:
    """What was written."""

    files: tuple[Path, ...]
    """Sorted."""
    counts: dict[str, int]
    """How many of what they hold, and how many were left out."""

    def lines(self) -> list[str]:
        """For people."""
        total = sum(file.stat().st_size for file in self.files)
        shown = [str(file) for file in self.files[:8]]
        more = [f"… and {len(self.files) - len(shown)} more"] if len(self.files) > len(shown) else []
        counts = ", ".join(f"{number:,} {name}" for name, number in self.counts.items())
        files = "1 file" if len(self.files) == 1 else f"{len(self.files):,} files"
        return [*shown, *more, f"{counts}; {files}, {total / 1e6:.2f} MB"]


def export(source: str, to: ExportFormat, folder: Path, *, revision: str | None = None) -> Export:
    """Write a released dataset in another format; all of it, or nothing.

    Args:
        source: dataset folder, folder of a run, or Hub id.
        to: the format; what it holds is said in its module.
        folder: a new or empty folder.
        revision: branch, tag or commit on the Hub.

    Raises:
        ReleaseError: the dataset cannot be read, or has not what the format needs; or the folder is in use.
    """
    exporter = cast(Exporter, import_module(f"{__name__}.{to.replace('-', '_')}").write)
    released = Released.open(source, revision)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ReleaseError(f"{folder} exists and is not an empty folder; name a new one")
    with replacing(folder) as partial:
        counts = exporter(released, partial)
    return Export(tuple(sorted(path for path in folder.rglob("*") if path.is_file())), counts)
