"""Cards that people edit: what a person wrote into a card stays when the card is written anew.

A generated card has a comment that names the keys of its front matter, and a pair of comments around every section.
Everything else in a card is a person's. docs/cards.md says it for users.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from sae_traits.errors import ReleaseError
from sae_traits.logging import say

ALWAYS_OURS = frozenset({"configs"})
"""Keys of the front matter that are taken from the generated card whoever wrote them: data is loaded by them."""
OUR_TAGS = frozenset(
    {"sae-traits", "biology", "morphology", "traits", "sparse-autoencoder", "interpretability", "synthetic"}
)
"""Every tag that a generated card may have; any other is a person's."""
TOP = "top"
"""Name of the section before the first heading of level two."""
_FRONT = re.compile(r"\A---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_KEYS = re.compile(r"^<!-- sae-traits: front matter ([^\n]*)\n[^<>]*-->[ \t]*$", re.MULTILINE)
_SECTION = re.compile(
    r"^<!-- sae-traits: begin ([a-z0-9-]+) ([0-9a-f]{8}) -->[ \t]*\n(.*?)^<!-- sae-traits: end \1 -->[ \t]*$",
    re.DOTALL | re.MULTILINE,
)
_STRAY = re.compile(r"^<!-- sae-traits: [^<>]*-->[ \t]*\n?", re.MULTILINE)
_FENCED = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.DOTALL | re.MULTILINE)
_HEADING = re.compile(r"^#{1,2}[ \t]+(.+?)[ \t#]*$", re.MULTILINE)
_NOTE = "What stands between begin and end is written anew with every release. What you write elsewhere stays."


@dataclass(frozen=True, slots=True)
class _Block:
    """A section that sae-traits wrote, or, without a name, what a person wrote between two of them."""

    name: str | None
    text: str
    """Without line breaks at its ends."""
    digest: str | None = None
    """Of the text as it was written; None for a person's."""


@dataclass(frozen=True)
class _Card:
    front: dict[str, Any]
    front_text: str
    keys: frozenset[str] | None
    """Of the front matter, those that sae-traits wrote; None where it did not write the card."""
    blocks: tuple[_Block, ...]

    @property
    def own(self) -> list[_Block]:
        return [block for block in self.blocks if block.name is None]


def dump_front_matter(front: Mapping[str, Any]) -> str:
    """The YAML of a card's front matter, always the same for the same values."""
    return yaml.safe_dump(dict(front), sort_keys=False, allow_unicode=True, width=1000)


def mark_sections(front: Mapping[str, Any], body: str) -> str:
    """A generated card, with the comments by which `merge_cards` knows what was generated.

    Args:
        front: the front matter.
        body: Markdown; every heading of level two begins a section.
    """
    fenced = [match.span() for match in _FENCED.finditer(body)]
    starts = [
        match.start()
        for match in re.finditer(r"^## ", body, re.MULTILINE)
        if not any(first <= match.start() < last for first, last in fenced)
    ]
    blocks = []
    for start, end in zip([0, *starts], [*starts, len(body)], strict=True):
        text = body[start:end].strip("\n")
        name = re.sub(r"[^a-z0-9]+", "-", text.partition("\n")[0].lower()).strip("-") if start else TOP
        blocks.append(_Block(name, text, _digest(text)))
    return _write(dump_front_matter(front), frozenset(front), blocks)


def merge_cards(generated: str, existing: str) -> str:
    """The generated card, with what a person wrote into the existing one, in the places where it stood there.

    A person's are: text outside of the marked sections, keys of the front matter that the existing card's comment does
    not name, and tags that sae-traits does not use. A section whose marks a person removed is theirs: it stays, and is
    not written anew. What a person changed within a marked section is lost; `edited_sections` names those.

    Args:
        generated: a card as `mark_sections` makes it, or one that was merged before; any other comes back as it is.
        existing: a card of an earlier release, or one that was written by hand.

    Returns:
        The merged card. Merging the same generated card into it changes nothing.

    Raises:
        ReleaseError: the front matter of the existing card is not YAML.
    """
    existing = existing.replace("\r\n", "\n").removeprefix("\ufeff")
    new = _parse(generated)
    if new.keys is None or generated == existing:
        return generated
    old = _parse(existing)
    front, keys = _merge_front(new, old)
    blocks = _merge_blocks(new, old)
    is_same = bool(old.front_text) and front == old.front and list(front) == list(old.front)
    # A person's comments and layout in an unchanged front matter stay.
    return _write(old.front_text if is_same else dump_front_matter(front), keys, blocks)


def keep_own_parts(generated: str, existing: str | None, where: str) -> str:
    """`merge_cards` where there is a card already; a warning names what a person wrote in vain.

    Args:
        generated: the new card.
        existing: the one that it replaces.
        where: the file or repository of the existing one, for warnings and errors.

    Raises:
        ReleaseError: the front matter of the existing card is not YAML.
    """
    if existing is None:
        return generated
    try:
        if edited := edited_sections(existing):
            say(
                f"warning: the card of {where} was edited within sections that are written anew, and these edits go: "
                f"{', '.join(edited)}. To keep a section as you wrote it, remove the two comments around it"
            )
        return merge_cards(generated, existing)
    except ReleaseError as error:
        raise ReleaseError(f"{where}: {error}") from error


def edited_sections(card: str) -> list[str]:
    """Headings of the marked sections that were changed after they were written: merging replaces them."""
    blocks = _parse(card.replace("\r\n", "\n").removeprefix("\ufeff")).blocks
    return [
        next(iter(_headings(block.text)), block.name or "")
        for block in blocks
        if block.name is not None and block.digest != _digest(block.text)
    ]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _parse(card: str) -> _Card:
    found = _FRONT.match(card)
    front_text = found[1] if found else ""
    try:
        front = yaml.safe_load(front_text) if found else {}
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ReleaseError(f"the front matter of the card is not YAML ({reason}); correct it, and run again") from error
    if not isinstance(front, dict | None):
        raise ReleaseError("the front matter of the card is not a mapping of keys to values; correct it, and run again")
    body = card[found.end() :] if found else card
    keys = _KEYS.search(body)
    return _Card(
        front or {},
        front_text,
        frozenset(re.split(r", *", keys[1].strip())) - {""} if keys else None,
        tuple(_blocks(_KEYS.sub("", body) if keys else body)),
    )


def _blocks(body: str) -> Iterator[_Block]:
    end = 0
    for found in _SECTION.finditer(body):
        yield from _own(body[end : found.start()])
        yield _Block(found[1], found[3].strip("\n"), found[2])
        end = found.end()
    yield from _own(body[end:])


def _own(text: str) -> Iterator[_Block]:
    """A person's text; the half of a pair of comments that was left over is taken out."""
    text = _STRAY.sub("", text).strip("\n")
    if text.strip():
        yield _Block(None, text)


def _headings(text: str) -> list[str]:
    """Headings of levels one and two."""
    return [match[1] for match in _HEADING.finditer(_FENCED.sub("", text))]


def _merge_front(new: _Card, old: _Card) -> tuple[dict[str, Any], frozenset[str]]:
    """The merged front matter, and which of its keys are written by sae-traits."""
    assert new.keys is not None
    ours = (old.keys or frozenset()) | ALWAYS_OURS | {"tags"}
    front: dict[str, Any] = {}
    for key, value in old.front.items():
        if key in ours and key in new.front:
            front[key] = new.front[key]
        elif key not in ours:
            front[key] = value
    claimed = set(front) - ours
    front |= {key: value for key, value in new.front.items() if key not in front}
    tags = old.front.get("tags")
    if isinstance(tags, list) and (added := [str(tag) for tag in tags if tag not in OUR_TAGS]):
        front["tags"] = list(dict.fromkeys([*front.get("tags", []), *added]))
    return front, frozenset(new.keys - claimed)


def _merge_blocks(new: _Card, old: _Card) -> list[_Block]:
    """The new sections, each followed by what a person wrote after it in the old card."""
    marked = {block.name for block in old.blocks}
    theirs = {heading for block in old.own for heading in _headings(block.text)}

    def is_taken_over(block: _Block) -> bool:
        return block.name not in marked and not theirs.isdisjoint(_headings(block.text)[:1])

    sections = [block for block in new.blocks if block.name is not None and not is_taken_over(block)]
    names = {block.name for block in sections}
    after: dict[str | None, list[_Block]] = {}
    # Of two cards of sae-traits the old one, on the Hub, says what people wrote; else what they deleted would be back.
    for card in (old,) if old.keys is not None else (old, new):
        place: str | None = None
        for block in card.blocks:
            if block.name is None:
                after.setdefault(place, []).append(block)
            elif block.name in names:
                place = block.name
    merged = list(after.get(None, []))
    for section in sections:
        merged += [section, *after.get(section.name, [])]
    return merged


def _write(front_text: str, keys: frozenset[str], blocks: list[_Block]) -> str:
    parts = [f"<!-- sae-traits: front matter {', '.join(sorted(keys))}\n{_NOTE} -->"]
    for block in blocks:
        if block.name is None:
            parts.append(block.text)
        else:
            begin = f"<!-- sae-traits: begin {block.name} {block.digest} -->"
            parts.append(f"{begin}\n{block.text}\n<!-- sae-traits: end {block.name} -->")
    return f"---\n{front_text}---\n\n" + "\n\n".join(parts) + "\n"
