"""Versions of a release, as the tags vX.Y.Z of its repository."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sae_traits.errors import ConfigError

FIRST_VERSION = "v0.1.0"
_NUMBER = r"(0|[1-9]\d*)"
_VERSION = re.compile(rf"v{_NUMBER}\.{_NUMBER}\.{_NUMBER}")


def check_version(tag: str) -> None:
    """Raise for a tag that is not a version.

    Raises:
        ConfigError: it is not of the form vX.Y.Z.
    """
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
