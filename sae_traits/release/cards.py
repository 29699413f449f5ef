"""What both cards have in common: front matter, a template, and the one section that a person may write."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import CardData
from markupsafe import Markup

from sae_traits.errors import ReleaseError
from sae_traits.logging import warn
from sae_traits.rendering import render, templates, with_front_matter

CARD = "README.md"
BEGINS = "<!-- sae-traits: your section begins -->"
ENDS = "<!-- sae-traits: your section ends -->"
"""What stands between these two lines of a card is a person's; everything else is written anew with every release."""
_FRONT = re.compile(r"\A---[ \t]*\n.*?^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)


def render_card(template: str, front: CardData, existing: str | None, /, **values: Any) -> str:
    """A card with front matter and with the section that a person wrote into the existing one."""
    section = Markup(marked_section(existing))  # noqa: S704  # a person's own Markdown
    return with_front_matter(front, render(templates(), template, your_section=section, **values))


def read_card(folder: Path) -> str | None:
    """The text of a folder's card; None where it has none."""
    file = folder / CARD
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None


def marked_section(card: str | None) -> str:
    """The section that a person wrote into a card, between its two marks; empty where there is none.

    Raises:
        ReleaseError: one of the marks is missing.
    """
    text = _your_section(card or "")
    return "\n".join([BEGINS, *([text] if text else []), ENDS])


def keep_section(card: str, existing: str, where: str) -> str:
    """A new card with the section that a person wrote into the existing one.

    Args:
        card: with marks; a card without them comes back as it is.
        existing: the card that it replaces. One that has no marks was written by hand: all its text is the section.
        where: the repository of the existing one, for warnings and errors.

    Raises:
        ReleaseError: one of the marks of the existing card is missing.
    """
    theirs = section_of(existing, where)
    if not theirs or BEGINS not in card:
        return card
    if (ours := _your_section(card)) and ours != theirs:
        warn(f"your section of the card differs from that of {where}, which is kept; edit it there")
    before, _, rest = card.partition(BEGINS)
    return before + marked_section(existing) + rest.partition(ENDS)[2]


def section_of(card: str, where: str) -> str:
    """The section that a person wrote into a card that lies somewhere.

    Raises:
        ReleaseError: one of the marks is missing.
    """
    try:
        return _your_section(card)
    except ReleaseError as error:
        raise ReleaseError(f"{where}: {error}") from error


def _your_section(card: str) -> str:
    card = card.replace("\r\n", "\n").removeprefix("\ufeff")
    if BEGINS not in card and ENDS not in card:
        return _FRONT.sub("", card).strip("\n")
    before, _, rest = card.partition(BEGINS)
    section, end, after = rest.partition(ENDS)
    if not end or ENDS in before or BEGINS in section + after or ENDS in after:
        raise ReleaseError(
            f"the card does not have each of the comments {BEGINS} and {ENDS} once and in this order; put them around "
            "your section, and run again"
        )
    return section.strip("\n")


def seconds_per_step(seconds: Mapping[str, float]) -> list[tuple[str, str]]:
    """How long the steps took that are over when a card is written."""
    return [(step, f"{n:,.0f}") for step, n in seconds.items()]
