"""From a Jinja template to Markdown: filled strictly, escaped by default.

What comes from data (names of species, licences, rights holders) is untrusted: it is laid into the text as HTML
entities, which neither Markdown nor HTML takes for markup, and into the front matter as YAML made by a YAML library.
"""

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

if TYPE_CHECKING:
    from huggingface_hub import CardData

MISSING = "–"
"""Stands for a number that was not measured."""
MAX_LENGTH = 300
"""Letters of a value."""
MAX_LISTED = 12
"""Names that a sentence lists."""
HUB_LICENSES = frozenset(
    {"apache-2.0", "mit", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"}
    | {"cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"}
    | {"cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "odbl", "odc-by", "pddl"}
    | {"bsd-2-clause", "bsd-3-clause", "gpl-3.0", "lgpl-3.0", "openrail"}
)
"""The licences of images, data and weights that the Hub has identifiers for."""
_SPECIAL = re.compile(r"(?<![^\W_])_|_(?![^\W_])|:(?! )|[^\w\s.,;:/()+%§·–—-]")
"""What may be markup: not letters and digits, an underscore within a word, or a colon before a space."""


def render(folder: Path, template: str, **values: Any) -> str:
    """Fill a template of a folder with all of its variables; what is neither a number nor markup is escaped.

    A jinja2.UndefinedError where one has no value.
    """
    return _environment(folder).get_template(template).render(**values)


@cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup | int) else escape(value),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["whole"] = lambda value: escape(value, max_length=None)  # text of our own, however long
    environment.filters["format"] = lambda form, value: MISSING if _is_missing(value) else form % value
    return environment


def with_front_matter(front: "CardData", body: str) -> str:
    """A card of front matter and text."""
    return f"---\n{front.to_yaml()}\n---\n\n{body}"


def hub_license(text: str | None, page: str) -> dict[str, str]:
    """A licence as the front matter of a card has it: by the Hub's identifier, or with a name and a link.

    `page` is what says more of a licence that has no address of its own; None is unknown.
    """
    if text is None:
        return {"license": "unknown"}
    if (identifier := license_identifier(text)) in HUB_LICENSES:
        return {"license": identifier}
    link = text.strip() if re.fullmatch(r"https?://\S+", text.strip()) else page
    name = re.sub(r"[^a-z0-9.]+", "-", identifier.partition("://")[2] or identifier).strip("-.")
    return {"license": "other", "license_name": name[:60] or "other", "license_link": link}


def license_identifier(text: str) -> str:
    """`CC BY-NC 4.0` and `https://creativecommons.org/licenses/by-nc/4.0/` as `cc-by-nc-4.0`."""
    text = text.strip().lower()
    deed = re.fullmatch(r"https?://creativecommons\.org/(?:licenses|publicdomain)/([a-z-]+)/(\d\.\d)(?:/.*)?", text)
    if deed:
        return "cc0-1.0" if deed[1] == "zero" else f"cc-{deed[1]}-{deed[2]}"
    text = re.sub(r"[\s_-]+", "-", text)
    return "cc0-1.0" if text == "cc0" else text


def templates() -> Path:
    """The folder `hub_cards` of the installed package, or of the repository in an editable install."""
    package = Path(__file__).parent
    folder = package / "hub_cards"
    return folder if folder.is_dir() else package.parent / "hub_cards"


def escape(value: object, max_length: int | None = MAX_LENGTH) -> Markup:
    """Escape a value: one line of text that Markdown and HTML show and do not interpret."""
    text = MISSING if _is_missing(value) else one_line(str(value), max_length)
    return Markup(_SPECIAL.sub(lambda match: f"&#{ord(match[0])};", text))  # noqa: S704


def _is_missing(value: object) -> bool:
    """Whether a value is a number that was not measured: NaN, or null where it came from JSON."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def one_line(text: str, max_length: int | None = MAX_LENGTH) -> str:
    """Take line breaks and control characters out of a text, and bound its length, if there is a bound."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if max_length is None or len(line) <= max_length else line[: max_length - 1] + "…"


def listed(names: Sequence[str]) -> str:
    """The first of some names, as part of a sentence, and how many more there are."""
    shown = ", ".join(names[:MAX_LISTED])
    return shown if len(names) <= MAX_LISTED else f"{shown} and {len(names) - MAX_LISTED:,} more"


def lines(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Flatten nested settings into names and values, for a table."""
    flat: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat += lines(value, f"{prefix}{name}.")
        elif isinstance(value, float):
            flat.append((f"{prefix}{name}", MISSING if _is_missing(value) else f"{value:.4g}"))
        elif isinstance(value, list | tuple):
            flat.append((f"{prefix}{name}", ", ".join(str(v) for v in value)))
        elif value is not None:
            flat.append((f"{prefix}{name}", str(value)))
    return flat
