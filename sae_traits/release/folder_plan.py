"""What a release consists of before anyone is asked: which files of a folder become public, and its version."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow.parquet as pq
from huggingface_hub import get_token

from sae_traits.errors import ConfigError, ReleaseError, secrets

HIDDEN_BUT_MEANT = (".gitattributes", ".eval_results")
"""Hidden names that the Hub itself reads."""
FIRST_VERSION = "v0.1.0"
TEMPORARY = ("*.tmp", "*.part", "*.partial", "*.incomplete", "*.lock", "*.swp", "*~", "__pycache__", "Thumbs.db")
_NUMBER = r"(0|[1-9]\d*)"
_VERSION = re.compile(rf"v{_NUMBER}\.{_NUMBER}\.{_NUMBER}")


Sizes = dict[str, int]
"""Path in the repository, with forward slashes -> bytes, of every file that would be there."""


@dataclass(frozen=True)
class Fingerprint:
    """The content of a file, as the Hub names it: large files by sha256, small ones by git's hash."""

    sha256: str
    git: str

    def matches(self, remote: str | None) -> bool:
        """Whether the Hub's hash of a file, None where it has none, is that of this content."""
        return remote in (self.sha256, self.git)


def plan_folder(folder: Path) -> Sizes:
    """What of a folder would be published, sorted by path; reads no content and talks to no one.

    Raises:
        ReleaseError: the folder is missing or empty, or holds something that should not leave this machine: a hidden or
            temporary file, a link to something outside the folder, or what is not a file.
    """
    if not folder.is_dir():
        raise ReleaseError(f"{folder} is not a folder; run `sae-traits run` first, or name the folder it wrote")
    planned: Sizes = {}
    for parent, folders, names in os.walk(folder, onerror=_cannot_read):
        for name in folders + names:
            path = Path(parent, name)
            _refuse(path, folder)
            if name in names:
                planned[path.relative_to(folder).as_posix()] = path.stat().st_size
    if not planned:
        raise ReleaseError(f"{folder} is empty: there is nothing to publish")
    return dict(sorted(planned.items()))


def _cannot_read(error: OSError) -> None:
    raise ReleaseError(f"cannot read {error.filename}: {error.strerror}") from error


def _refuse(path: Path, folder: Path) -> None:
    """Raise for what should not be published."""
    name = PurePosixPath(path.name)
    if path.name.startswith(".") and path.name not in HIDDEN_BUT_MEANT:
        raise ReleaseError(f"{path} is hidden and would become public; remove it, then publish again")
    if any(name.match(pattern) for pattern in TEMPORARY):
        raise ReleaseError(f"{path} is a temporary file; remove it, or finish the step that wrote it")
    if path.is_symlink() and (path.is_dir() or not path.resolve().is_relative_to(folder.resolve())):
        raise ReleaseError(f"{path} is a link to {path.resolve()}; put a copy in its place, then publish again")
    if not path.is_file() and not path.is_dir():
        raise ReleaseError(f"{path} is neither a file nor a folder; remove it, then publish again")


def fingerprints(folder: Path, planned: Sizes) -> dict[str, Fingerprint]:
    """Path in the repository -> content; reads every file once."""
    found = {}
    for path, size in planned.items():
        sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        try:
            with (folder / path).open("rb") as content:
                while block := content.read(1 << 20):
                    sha256.update(block)
                    git.update(block)
        except OSError as error:
            _cannot_read(error)
        found[path] = Fingerprint(sha256.hexdigest(), git.hexdigest())
    return found


def refuse_secrets(folder: Path, planned: Iterable[str]) -> None:
    """Raise a ReleaseError, which names the file alone, where one holds the Hub's token or the key of a server."""
    _refuse_secrets(folder / path for path in planned)


def refuse_secrets_in(dataset: Path) -> None:
    """As `refuse_secrets`, of the tables and the card of a dataset that is not going to be published itself."""
    _refuse_secrets([*sorted(dataset.rglob("*.parquet")), *dataset.glob("*.md")])


def _refuse_secrets(paths: Iterable[Path]) -> None:
    found = secrets(get_token())
    for path in paths if found else ():
        if any(secret in text for text in _texts(path) for secret in found):
            raise ReleaseError(
                f"{path} holds your token or key, which would become public, and was not uploaded. "
                "Take it out of where it came from (a title, an address, a description), and run again"
            )


def _texts(path: Path) -> Iterator[str]:
    """Yield the text of a file, of a table some rows at a time and without images."""
    if path.suffix == ".parquet":
        table = pq.ParquetFile(path)
        names = [name for name in table.schema_arrow.names if name != "image"]
        yield from (str(batch.to_pylist()) for batch in table.iter_batches(1000, columns=names))
    elif path.suffix != ".safetensors":
        yield path.read_text(encoding="utf-8", errors="replace")


def check_version(tag: str) -> None:
    """Raise a ConfigError for a tag that is not a version, vX.Y.Z."""
    if not _VERSION.fullmatch(tag):
        raise ConfigError(f"the tag {tag!r} is not a version; write it as vX.Y.Z, for example {FIRST_VERSION}")


def highest_version(tags: Iterable[str]) -> str | None:
    """The highest version among tags, None where none is one; 0.10.0 is higher than 0.9.0."""
    return max((tag for tag in tags if _VERSION.fullmatch(tag)), key=_numbers, default=None)


def next_version(tags: Iterable[str]) -> str:
    """The patch version after the highest one, or FIRST_VERSION."""
    highest = highest_version(tags)
    if highest is None:
        return FIRST_VERSION
    major, minor, patch = _numbers(highest)
    return f"v{major}.{minor}.{patch + 1}"


def _numbers(version: str) -> tuple[int, int, int]:
    major, minor, patch = map(int, version[1:].split("."))
    return major, minor, patch
