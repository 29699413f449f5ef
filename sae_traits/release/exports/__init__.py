"""A released dataset in the formats of other communities: biodiversity, statistics, object detection, CLIP training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from sae_traits.errors import ConfigError, ReleaseError
from sae_traits.io import replacing
from sae_traits.release.loading import Released, unreplaced
from sae_traits.vocabulary import EXPORT_FORMATS

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


def export(source: str, to: str, folder: Path, *, revision: str | None = None) -> Export:
    """Write a released dataset in another format into a new or empty folder; all of it, or nothing.

    Args:
        source: dataset folder, folder of a run, or Hub id.
        to: one of EXPORT_FORMATS; what it holds is said in its module.

    Raises:
        ConfigError: there is no such format.
        ReleaseError: the dataset cannot be read, or has not what the format needs; or the folder is in use.
    """
    if to not in EXPORT_FORMATS:
        raise ConfigError(f"there is no format {to!r}; there are {', '.join(EXPORT_FORMATS)}")
    exporter = cast(Exporter, import_module(f"{__name__}.{to.replace('-', '_')}").write)
    released = Released.open(source, revision)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ReleaseError(f"{folder} exists and is not an empty folder; name a new one")
    with replacing(folder) as partial, unreplaced(Path(released.source)):
        counts = exporter(released, partial)
    return Export(tuple(sorted(path for path in folder.rglob("*") if path.is_file())), counts)
