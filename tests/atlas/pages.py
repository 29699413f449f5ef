"""The pages of an atlas as trees of elements, with the parser of Python's own library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "img", "input", "br", "path", "rect", "circle", "image"}


@dataclass(eq=False)
class Element:
    """One element with its attributes; text is among its children."""

    name: str
    attributes: dict[str, str | None]
    parent: Element | None = None
    children: list[Element | str] = field(default_factory=list)

    def all(self, *names: str) -> Iterator[Element]:
        """It and what is in it, of some names."""
        if self.name in names:
            yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.all(*names)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    @property
    def classes(self) -> list[str]:
        return (self.attributes.get("class") or "").split()


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = self.open = Element("", {})

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs), self.open)
        self.open.children.append(element)
        if tag not in VOID:
            self.open = element

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.name == tag, f"</{tag}> ends <{self.open.name}>"
            assert self.open.parent is not None
            self.open = self.open.parent

    def handle_data(self, data: str) -> None:
        self.open.children.append(data)


def page(path: Path) -> Element:
    """The tree of a page; an AssertionError where an element is not closed."""
    parser = _Parser()
    parser.feed(path.read_text(encoding="utf-8"))
    assert parser.open is parser.root, f"{path}: <{parser.open.name}> is not closed"
    return parser.root
