"""From a Jinja template to a card: filled strictly, escaped by default, its sections marked.

What comes from data (names of species, licences, rights holders) is untrusted: it is laid into the text as HTML
entities, which neither Markdown nor HTML takes for markup, and into the front matter as YAML made by a YAML library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sae_traits.release.merging import mark_sections

MAXIMUM_LENGTH = 300
"""Letters of a value on a card."""
_SPECIAL = re.compile(r"[^\w\s.,;/()+%§·–—-]")


def render_card(template: str, front: Mapping[str, Any], **values: Any) -> str:
    """A card, with the comments by which `merge_cards` knows what was generated.

    Args:
        template: its name in hub_cards.
        front: the front matter.
        values: every variable of the template; what is neither a number nor markup is escaped.

    Raises:
        jinja2.UndefinedError: the template has a variable without a value.
    """
    return mark_sections(front, _environment().get_template(template).render(**values))


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(templates()),
        undefined=StrictUndefined,
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup | int) else escape(value),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def templates() -> Path:
    """`hub_cards` of the installed package, or of the repository in an editable install."""
    package = Path(__file__).parents[1]
    folder = package / "hub_cards"
    return folder if folder.is_dir() else package.parent / "hub_cards"


def escape(value: object) -> Markup:
    """A value as one line of text that Markdown and HTML show and do not interpret."""
    text = one_line(str(value))
    return Markup(_SPECIAL.sub(lambda match: f"&#{ord(match[0])};", text).replace("_", "&#95;"))  # noqa: S704


def one_line(text: str) -> str:
    """Without line breaks and control characters, and of bounded length."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= MAXIMUM_LENGTH else line[: MAXIMUM_LENGTH - 1] + "…"


def lines(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Names and values of nested settings, for a table."""
    return list(_flattened(values, prefix))


def _flattened(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}.")
        elif isinstance(value, float):
            yield f"{prefix}{name}", f"{value:.4g}"
        elif isinstance(value, list | tuple):
            yield f"{prefix}{name}", ", ".join(str(v) for v in value)
        elif value is not None:
            yield f"{prefix}{name}", str(value)
