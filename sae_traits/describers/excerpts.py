"""What a model wrote, shown in a report: short, on one line, and with nothing in it that Markdown or HTML acts on."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LONGEST_EXCERPT = 200
"""Characters."""
EXAMPLES = 5
"""Of each kind of failure that a report shows."""
_ACTIVE = re.compile(r"[&<>\"'\\`*_\[\]|~#!]")


@dataclass(frozen=True, slots=True)
class Example:
    """One case of something that went wrong."""

    trait_ids: tuple[str, ...]
    reason: str
    said: str
    """An excerpt of the answer, as it came."""


def excerpt(text: str) -> str:
    """A text on one line, cut after LONGEST_EXCERPT characters."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_EXCERPT else line[: LONGEST_EXCERPT - 1] + "…"


def literal(text: str) -> str:
    """A text in Markdown that reads as it is, whatever characters it has."""
    return _ACTIVE.sub(lambda match: f"&#{ord(match[0])};", text)


def printable(text: str) -> str:
    """A text for a terminal: without what would move its cursor or turn its letters."""
    return "".join(character if character.isprintable() else " " for character in text)


def example_lines(heading: str, examples: Sequence[Example], shown: Callable[[str], str] = literal) -> list[str]:
    """Examples as a list, with an empty line before; nothing where there are none. Texts are `shown` as Markdown."""
    if not examples:
        return []
    lines = ["", f"{heading}:", ""]
    for example in examples:
        quote = f": “{shown(example.said)}”" if example.said else ""
        lines.append(f"- {shown(', '.join(example.trait_ids))} ({shown(excerpt(example.reason))}){quote}")
    return lines


def percent(share: float | None) -> str:
    """A share for a table; `none` where it is a share of nothing."""
    return "none" if share is None else f"{share:.1%}"
