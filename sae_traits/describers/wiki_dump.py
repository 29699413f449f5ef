"""The species table from an XML dump of a MediaWiki, such as Wikipedia's: read page by page, nothing is fetched.

A name may be that of a page, of a redirect, or of a page that tells several things of one name apart. What these point
to is looked for by reading the dump again, so that no more than the pages of the wanted species are ever in memory.
"""

from __future__ import annotations

import bz2
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast
from xml.parsers import expat

from sae_traits.describers.species_context import SpeciesContext
from sae_traits.describers.wikitext import form_section, lead, links, plain_text, template_names
from sae_traits.errors import CollectionError
from sae_traits.images.names import rank_name
from sae_traits.logging import say, track
from sae_traits.schema import Taxon

MAX_READINGS = 4
"""For a name, what it redirects to, what that tells apart, and what its links redirect to."""
MAX_LINKS = 50
"""Of a page of several meanings that are followed."""
MAX_PAGE = 16 * 2**20
"""Characters of a page; MediaWiki's own limit is 2 MB."""
_CHUNK = 2**18
_KEPT = ("title", "ns", "text")
_KINGDOMS = {
    "Animalia": (
        *("animal", "animalia", "metazoa", "fauna", "insect", "butterfly", "moth", "beetle", "fly", "bug", "bird"),
        *("fish", "mammal", "reptile", "snake", "lizard", "frog", "amphibian", "spider", "mollusc", "mollusk"),
        *("gastropod", "snail", "bivalve", "crustacean", "starfish", "sea star", "worm", "wasp", "bee", "ant"),
    ),
    "Plantae": ("plant", "plantae", "flora", "flower", "tree", "shrub", "grass", "moss", "fern", "orchid"),
    "Fungi": ("fungus", "fungi", "mushroom", "lichen"),
}
"""Kingdom -> words for it in taxoboxes, brackets behind titles and categories; others go by their own name."""
_KINGDOM_OF_WORD = {word: kingdom for kingdom, words in _KINGDOMS.items() for word in words}
_REGNUM = re.compile(r"\|\s*(?:regnum|kingdom)\s*=([^\n|}]*)", re.IGNORECASE)
_FIELD = r"\|\s*{}\s*=\s*([^\n|{{}}]*)"
_CATEGORY = re.compile(r"\[\[\s*Category\s*:([^\[\]|]*?) (?:of|described in) ", re.IGNORECASE)
"""Such as Moths described in 1758, or Flora of Asia."""
_BRACKETS = re.compile(r"^(.*?)\s*\(([^()]+)\)$")
_SEVERAL = re.compile(r"^(?!.*needed).*disambig|^(?:dab|hndis|sia)$|^set index")
"""In the names of templates of pages that tell several things of one name apart."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the dump."""

    title: str
    text: str
    redirect: str | None = None
    """The title that it sends its reader to."""

    @property
    def is_of_several(self) -> bool:
        """Whether it tells several things of one name apart."""
        return any(_SEVERAL.search(name) for name in template_names(self.text))

    @property
    def kingdom(self) -> str:
        """As its taxobox says it, the brackets of its title, or its categories; empty where none does."""
        if (found := _REGNUM.search(self.text)) is not None and (said := plain_text(found[1])):
            return _kingdom_in(said) or rank_name(said)
        if (brackets := _BRACKETS.match(self.title)) is not None and (kingdom := _kingdom_in(brackets[2])):
            return kingdom
        named = {_kingdom_in(match[1]) for match in _CATEGORY.finditer(self.text)} - {""}
        return named.pop() if len(named) == 1 else ""

    def is_about(self, species: str) -> bool:
        """Whether its title, its taxobox or its first paragraphs have the name."""
        beginning = lead(self.text)
        words = f"{self.title} {plain_text(beginning)} {beginning}"
        if re.search(rf"(?<!\w){re.escape(species)}(?!\w)", words, re.IGNORECASE):
            return True
        genus, _, epithet = species.partition(" ")
        said = {name: re.search(_FIELD.format(name), beginning, re.IGNORECASE) for name in ("genus", "species")}
        values = {name: plain_text(match[1]).lower() for name, match in said.items() if match}
        return values == {"genus": genus.lower(), "species": epithet.lower()}


def _kingdom_in(words: str) -> str:
    """The kingdom that some words name, in the singular or plural; empty where they name none."""
    for word in (words.lower(), *words.lower().split()):
        for singular in (word, word.removesuffix("s"), word.removesuffix("es"), re.sub("ies$", "y", word)):
            if singular in _KINGDOM_OF_WORD:
                return _KINGDOM_OF_WORD[singular]
    return ""


@dataclass
class _Search:
    """What has been found of the pages that are looked for."""

    homonyms: frozenset[str]
    """Wanted species of several kingdoms."""
    pages: dict[str, Page] = field(default_factory=dict)
    """By title."""
    read_for: set[str] = field(default_factory=set)
    """Titles that the dump was read for."""


def contexts_of_dump(dump: Path, wanted: Sequence[Taxon]) -> list[SpeciesContext]:
    """A row for each wanted species: what the dump says of its form, or why there is nothing.

    Raises:
        CollectionError: the dump cannot be read, or is none.
    """
    species = Counter(taxon.species for taxon in wanted)
    search = _Search(frozenset(name for name, n in species.items() if name and n > 1))
    titles = {title for taxon in wanted for title in _first_titles(taxon)}
    for reading in range(MAX_READINGS):
        titles -= search.read_for
        if not titles:
            break
        say(f"context: reading {dump} for {len(titles):,} titles ({reading + 1} of at most {MAX_READINGS} times)")
        search.pages |= {page.title: page for page in read_pages(dump, titles.__contains__)}
        search.read_for |= titles
        titles = {title for taxon in wanted for title in _further_titles(taxon, search)}
    return [_row(taxon, search) for taxon in wanted]


def _first_titles(taxon: Taxon) -> list[str]:
    """The name, and where the kingdom is known the name with a word for it in brackets, which is looked at first."""
    assert taxon.species is not None
    words = _KINGDOMS.get(rank_name(taxon.kingdom or ""), ())
    return [*(f"{taxon.species} ({word})" for word in words), taxon.species]


def _further_titles(taxon: Taxon, search: _Search) -> Iterator[str]:
    """Yield what the pages found so far point to."""
    for title in _first_titles(taxon):
        page = search.pages.get(title)
        if page is not None and page.redirect is not None:
            yield page.redirect
            page = search.pages.get(page.redirect)
        if page is not None and page.is_of_several:
            for link in _links(page):
                yield link
                if (other := search.pages.get(link)) is not None and other.redirect is not None:
                    yield other.redirect


def _links(page: Page) -> list[str]:
    return list(dict.fromkeys(map(_title, links(page.text))))[:MAX_LINKS]


def _row(taxon: Taxon, search: _Search) -> SpeciesContext:
    """The first page of the species that describes it, or the reason of the last one that does not."""
    assert taxon.species is not None
    kingdom = rank_name(taxon.kingdom or "")
    note = "no page"
    for title in _first_titles(taxon):
        page, how = _follow(title, search)
        if page is None:
            note = how or note
            continue
        if page.is_of_several:
            page, how = _choose(page, how, taxon, search)
            if page is None:
                note = how
                continue
        if reason := _why_not(page, taxon, search):
            note = "; ".join(filter(None, (how, reason)))
            continue
        section = form_section(page.text)
        if section is None:
            note = "; ".join(filter(None, (how, f"{page.title} has no text")))
            continue
        unsaid = f"{page.title} does not say its kingdom" if kingdom and not page.kingdom else ""
        return SpeciesContext(
            species=taxon.species, kingdom=kingdom or page.kingdom, page=page.title, section=section.heading,
            text=section.text, note="; ".join(filter(None, (how, unsaid))),
        )  # fmt: skip
    return SpeciesContext(species=taxon.species, kingdom=kingdom, note=note)


def _follow(title: str, search: _Search) -> tuple[Page | None, str]:
    """The page of a title, or that which it redirects to, and how it was found; None and why there is none."""
    page = search.pages.get(title)
    if page is None or page.redirect is None:
        return page, ""
    target = search.pages.get(page.redirect)
    if target is None:
        return None, f"redirect to {page.redirect}, which has no page"
    if target.redirect is not None:
        return None, f"redirect to {target.title}, which is a redirect itself"
    return target, f"redirect from {title}"


def _choose(several: Page, how: str, taxon: Taxon, search: _Search) -> tuple[Page | None, str]:
    """The one page that a page of several meanings links to and that is about the taxon; None and why not."""
    found: dict[str, Page] = {}
    for link in _links(several):
        page, _ = _follow(link, search)
        if page is not None and not page.is_of_several and not _why_not(page, taxon, search):
            found[page.title] = page
    by = "; ".join(filter(None, (how, f"disambiguation page {several.title}")))
    if len(found) == 1:
        return next(iter(found.values())), by
    names = ", ".join(f"{page.title} ({page.kingdom})" if page.kingdom else page.title for page in found.values())
    return None, f"{by} leads to {names}" if found else f"{by} leads to no page about it"


def _why_not(page: Page, taxon: Taxon, search: _Search) -> str:
    """Why a page is not about a taxon; empty where it is."""
    assert taxon.species is not None
    if not page.is_about(taxon.species):
        return f"{page.title} is not about it"
    kingdom = rank_name(taxon.kingdom or "")
    if kingdom and page.kingdom and page.kingdom != kingdom:
        return f"{page.title} is of the kingdom {page.kingdom}"
    if taxon.species in search.homonyms and not page.kingdom:
        return f"{page.title} does not say its kingdom"
    return ""


def _title(text: str) -> str:
    """A title as MediaWiki keeps it: blanks for underscores, and a capital letter first."""
    text = " ".join(text.replace("_", " ").split())
    return text[:1].upper() + text[1:]


def read_pages(dump: Path, is_wanted: Callable[[str], bool]) -> Iterator[Page]:
    """Yield the articles of a dump, plain or compressed with bzip2, whose titles are wanted.

    Raises:
        CollectionError: it cannot be read, is broken off, is no dump of a MediaWiki, or has a document type, whose
            entities could grow without bounds.
    """
    reader = _Reader(is_wanted)
    try:
        with dump.open("rb") as plain:
            is_compressed = plain.read(3) == b"BZh"
            plain.seek(0)
            stream = cast(BinaryIO, bz2.BZ2File(plain)) if is_compressed else plain
            n_bytes = max(1, dump.stat().st_size)

            def how_far() -> str:
                return f"{100 * plain.tell() / n_bytes:.0f} % of {dump.name}"

            for chunk in track(iter(partial(stream.read, _CHUNK), b""), "context", None, "piece", how_far):
                reader.parser.Parse(chunk, False)
                yield from reader.take()
            reader.parser.Parse(b"", True)
            yield from reader.take()
    except expat.ExpatError as error:
        raise CollectionError(f"{dump} is no XML dump of a MediaWiki, or broken off: {error}; get it again") from error
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CollectionError(f"cannot read {dump}: {reason}; name a dump, .xml or .xml.bz2") from error
    except _NotADumpError as error:
        raise CollectionError(f"{dump} {error}") from error


class _NotADumpError(Exception):
    """What is read is no dump; the message goes behind the name of the file."""


class _Reader:
    """Collects pages while an XML parser goes through a dump; no more than one chunk's pages are kept."""

    def __init__(self, is_wanted: Callable[[str], bool]) -> None:
        self._is_wanted = is_wanted
        self._pages: list[Page] = []
        self._depth = 0
        self._words: list[str] | None = None
        """Of the element that is read; None outside of those that are kept."""
        self._n_letters = 0
        self._values: dict[str, str] = {}
        self._redirect: str | None = None
        self.parser = expat.ParserCreate()
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.buffer_text = True

    def take(self) -> list[Page]:
        """The pages that were completed since the last time."""
        pages, self._pages = self._pages, []
        return pages

    def _refuse(self, *_: object) -> None:
        raise _NotADumpError("has a document type, which no dump of a MediaWiki has; it is not read")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if self._depth == 0 and name != "mediawiki":
            raise _NotADumpError(f"is no dump of a MediaWiki: it begins with <{name}>, not <mediawiki>")
        self._depth += 1
        if name == "page":
            self._values, self._redirect = {}, None
        elif name == "redirect":
            self._redirect = attributes.get("title")
        elif name in _KEPT and (name != "text" or self._is_wanted(_title(self._values.get("title", "")))):
            self._words, self._n_letters = [], 0
            self.parser.CharacterDataHandler = self._read  # and not for the text of all other pages

    def _read(self, text: str) -> None:
        assert self._words is not None
        self._n_letters += len(text)
        if self._n_letters <= MAX_PAGE:
            self._words.append(text)

    def _end(self, name: str) -> None:
        self._depth -= 1
        if name in _KEPT and self._words is not None:
            self._values[name], self._words = "".join(self._words), None
            self.parser.CharacterDataHandler = None
        elif name == "page":
            title = _title(self._values.get("title", ""))
            if self._values.get("ns", "0").strip() == "0" and self._is_wanted(title):
                redirect = _title(self._redirect.partition("#")[0]) if self._redirect else None
                self._pages.append(Page(title, self._values.get("text", ""), redirect))
