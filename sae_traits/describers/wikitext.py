"""Wikitext as plain sentences: sections by their headings, without templates, references, tables and files.

Only what a description needs is kept; a page is cleaned, not rendered.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

FORM_HEADINGS = (
    *("description", "morphology", "appearance", "identification", "feature", "characteristic"),
    *("physical", "structure", "explanation of names"),
)
"""Words in headings of sections that describe form, the surest first. Source: BioCAP's order."""
_HEADING = re.compile(r"^(={2,6})[ \t]*(.{1,200}?)[ \t]*\1[ \t]*$", re.MULTILINE)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_REFERENCE = re.compile(r"<ref\b[^<>]*/>|<ref\b[^<>]*>.*?(?:</ref\s*>|\Z)", re.DOTALL | re.IGNORECASE)
_DROPPED_TAG = re.compile(
    r"<(gallery|math|timeline|table|div|score|syntaxhighlight|imagemap)\b[^<>]*>.*?(?:</\1\s*>|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_CONVERTED = re.compile(r"\s*(?:convert|cvt)\s*\|(.*)", re.DOTALL | re.IGNORECASE)
_SHOWN = re.compile(r"\s*(?:nowrap|lang)\s*\|", re.IGNORECASE)
_BETWEEN_NUMBERS = {
    "-": "-", "–": "–", "to": " to ", "to(-)": "–", "and": " and ", "or": " or ", ",": ", ", "by": " by ", "x": " x ",
    "×": " × ", "+": " + ", "+/-": " ± ", "±": " ± ",
}  # fmt: skip
_NUMBERS = re.compile(r"[-−]?[\d.,][\d.,/+ ]*(?:(?:[-–×x±]|to|and|or|by) *[\d.,][\d.,/+ ]*)*")
"""A number, or several in one argument: `20–25`."""
_EXTERNAL = re.compile(r"\[(?:https?:)?//[^\s\]]+(?:\s+([^\]]*))?\]")
_MAGIC = re.compile(r"__[A-Z]+__")
_MARKS = re.compile(r"'{2,5}")
_LINE_START = re.compile(r"^[*#:;]+\s*", re.MULTILINE)
_SPACE_BEFORE = re.compile(r"\s+([,.;:)])")
_EMPTY_BRACKETS = re.compile(r"\(\s*[,;]*\s*\)")
_UNKEPT_LINK = re.compile(r"\s*:?(?:file|image|category|datei|bild|media)\s*:", re.IGNORECASE)
_OPEN_OR_CLOSE = re.compile(r"\{\{|\}\}|\{\||\|\}(?!\})|\[\[|\]\]")
_CLOSES = {"{{": "}}", "{|": "|}", "[[": "]]"}


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page, up to the next heading of its own level or a higher one."""

    heading: str
    text: str
    """Plain, on one line."""


def form_section(wikitext: str) -> Section | None:
    """The section that describes form: the first with the surest heading that has any text, or else the lead.

    A description that opens with a sub-heading has the text below that.
    """
    wikitext = _COMMENT.sub("", wikitext)
    headings = list(_HEADING.finditer(wikitext))
    plain_headings = [plain_text(match[2]) for match in headings]
    for word in FORM_HEADINGS:
        for number, (match, heading) in enumerate(zip(headings, plain_headings, strict=True)):
            if word in heading.lower():
                later = headings[number + 1 :]
                end = next((other.start() for other in later if len(other[1]) <= len(match[1])), len(wikitext))
                if text := plain_text(wikitext[match.end() : end]):
                    return Section(heading, text)
    text = plain_text(lead(wikitext))
    return Section("lead", text) if text else None


def lead(wikitext: str) -> str:
    """What stands before the first heading."""
    wikitext = _COMMENT.sub("", wikitext)
    first = _HEADING.search(wikitext)
    return wikitext[: first.start()] if first else wikitext


def plain_text(wikitext: str) -> str:
    """The words of a piece of wikitext, on one line; measures in `convert` templates stay."""
    text = _COMMENT.sub("", wikitext)
    text = _REFERENCE.sub("", text)
    text = _DROPPED_TAG.sub("", text)
    text = _resolved(text)
    text = _HEADING.sub("", text)
    text = _EXTERNAL.sub(lambda match: match[1] or "", text)
    text = _TAG.sub(" ", text)
    text = _MAGIC.sub("", _MARKS.sub("", text))
    text = _LINE_START.sub("", text)
    text = " ".join(html.unescape(text).split())
    return _SPACE_BEFORE.sub(r"\1", _EMPTY_BRACKETS.sub("", text)).strip()


def links(wikitext: str) -> Iterator[str]:
    """Yield the titles that a piece of wikitext links to, in order."""
    for match in re.finditer(r"\[\[([^\[\]|#]+)", _COMMENT.sub("", wikitext)):
        if not _UNKEPT_LINK.match(match[1]):
            yield " ".join(match[1].replace("_", " ").split())


def template_names(wikitext: str) -> Iterator[str]:
    """Yield the names of the templates in a piece of wikitext, in small letters."""
    for match in re.finditer(r"\{\{\s*([^{}|\n<]+)", _COMMENT.sub("", wikitext)):
        yield " ".join(match[1].replace("_", " ").split()).lower()


def _resolved(text: str) -> str:
    """Text without templates and tables, and with the words of links in their place; nested to any depth.

    Brackets are matched with a stack in one pass: the time grows with the text alone, however deep it is nested. What
    is opened and never closed stands as it is, without its brackets.
    """
    opened: list[tuple[str, list[str]]] = [("", [])]
    position = 0
    for match in _OPEN_OR_CLOSE.finditer(text):
        opened[-1][1].append(text[position : match.start()])
        position = match.end()
        if match[0] in _CLOSES:
            opened.append((match[0], []))
        elif _CLOSES.get(opened[-1][0]) == match[0]:
            opening, parts = opened.pop()
            opened[-1][1].append(_words_of(opening, "".join(parts)))
    opened[-1][1].append(text[position:])
    return "".join("".join(parts) for _, parts in opened)


def _words_of(opening: str, inside: str) -> str:
    """What a template, a table or a link comes to in a sentence."""
    if opening == "[[":
        return "" if _UNKEPT_LINK.match(inside) else inside.rpartition("|")[2]
    if opening == "{{" and (match := _CONVERTED.match(inside)) is not None:
        return _measure(match[1])
    return inside.rpartition("|")[2] if opening == "{{" and _SHOWN.match(inside) else ""


def _measure(arguments: str) -> str:
    """`5|-|7|cm|in` as `5-7 cm`; what is said of the template itself, as `abbr=on`, may stand anywhere."""
    said = ""
    for argument in (part.strip() for part in arguments.split("|") if "=" not in part):
        if argument in _BETWEEN_NUMBERS:
            said += _BETWEEN_NUMBERS[argument]
        elif _NUMBERS.fullmatch(argument):
            said += argument
        else:
            return f"{said} {argument}"
    return said
