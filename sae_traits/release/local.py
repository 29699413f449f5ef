"""Released datasets that lie on this machine, by the name that a user gives."""

from __future__ import annotations

from pathlib import Path

from sae_traits.errors import ReleaseError


def local_dataset(name: str, revision: str | None) -> Path | None:
    """The folder of a dataset, or that of the run which made it; None where the name is no folder, but one on the Hub.

    Raises:
        ReleaseError: there is a folder, and a revision of it is asked for.
    """
    folder = Path(name)
    if not folder.is_dir():
        return None
    if revision is not None:
        raise ReleaseError(f"{folder} is a folder and has no revision {revision}; leave out --revision")
    is_run = (folder / "config.yaml").is_file() and (folder / "dataset").is_dir()
    return folder / "dataset" if is_run else folder
