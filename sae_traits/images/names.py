"""Species labels as people write them, read as binomials; what names no single species is refused, not guessed."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from sae_traits.errors import CollectionError

HYBRID_SIGN = "×"

_LOWER = "a-zà-öø-þœ"
_UPPER = "A-ZÀ-ÖØ-ÞŒ"
_GENUS = re.compile(rf"[{_UPPER}{_LOWER}][{_LOWER}]+(-[{_LOWER}]+)?|[{_UPPER}]{{2,}}(-[{_UPPER}]+)?")
_EPITHET = re.compile(rf"(?=.{{2}})[{_LOWER}]+(-[{_LOWER}]+)*")
_SHOUTED_EPITHET = re.compile(rf"(?=.{{2}})[{_UPPER}]+(-[{_UPPER}]+)*")
_SUBGENUS = re.compile(rf"\([{_UPPER}][{_LOWER}]+\)")
_ABBREVIATION = re.compile(rf"[{_UPPER}{_LOWER}]{{1,3}}\.")
_YEAR = re.compile(r"[(\[]*(1[6-9]|20)\d\d[a-z]?[)\],;.]*")

_OPEN = frozenset(
    {"sp", "spp", "spec", "species", "cf", "aff", "nr", "near", "prope", "gen", "n", "nov", "novum", "hybrid", "indet"}
    | {"unknown", "unidentified", "undetermined", "unclassified", "none", "nan", "null", "na", "n/a", "other", "others"}
    | {"male", "female", "larva", "adult", "background"}
)
"""Words in the place of a genus or an epithet that leave the species open."""
_SEVERAL = frozenset({"agg", "aggregate", "complex", "group", "gr", "or", "vs"})
"""Words after a binomial that make it more than one species."""


@dataclass(frozen=True, slots=True)
class ParsedName:
    """A label placed at a species."""

    genus: str
    species: str
    """The binomial."""
    note: str | None = None
    """What the label said beyond the binomial: author, year, subgenus, subspecies, variety, form."""


def parse_name(label: str | None) -> ParsedName:
    """The binomial in a label such as "Papilio machaon Linnaeus, 1758" or "Magnolia_x_soulangeana".

    Author, year, subgenus and ranks below the species are left out, and the note says so. The names of hybrids are
    written "Magnolia × soulangeana", those of hybrid genera "×Mahoberberis neubertii".

    Raises:
        CollectionError: the label names no single species; the message is the reason, with the label.
    """
    words = _words(label or "")
    if not words:
        raise CollectionError("it has no species name")
    try:
        return _parse(words)
    except CollectionError as error:
        raise CollectionError(f"{_quoted(label)} cannot be placed at a species: {error}") from error


def _quoted(label: str | None) -> str:
    """The label on one line, cut to a readable length."""
    line = " ".join((label or "").split())
    return repr(line if len(line) <= 80 else line[:79] + "…")


def _words(label: str) -> list[str]:
    spaced = unicodedata.normalize("NFC", label).replace("_", " ").replace(HYBRID_SIGN, f" {HYBRID_SIGN} ")
    return [HYBRID_SIGN if word in {"x", "X"} else word for word in spaced.split()]


def _parse(words: list[str]) -> ParsedName:
    """The name in a label's words; the parts of it are read from left to right."""
    hybrid_genus = words[0] == HYBRID_SIGN
    words = words[1:] if hybrid_genus else words
    genus = _genus(words)
    shouted = words[0].isupper()
    rest = words[1:]
    # Bombus (Pyrobombus) impatiens; but in Papilio (Linnaeus) the brackets hold an author.
    n_subgenus = 1 if len(rest) > 1 and _SUBGENUS.fullmatch(rest[0]) and _EPITHET.fullmatch(rest[1]) else 0
    subgenus, rest = rest[:n_subgenus], rest[n_subgenus:]
    hybrid_species = rest[:1] == [HYBRID_SIGN]
    rest = rest[1:] if hybrid_species else rest
    epithet = _epithet(rest, shouted)
    _check_rest(rest[1:])
    left_out = " ".join([*subgenus, *rest[1:]])
    genus = HYBRID_SIGN + genus if hybrid_genus else genus
    species = f"{genus} {HYBRID_SIGN} {epithet}" if hybrid_species else f"{genus} {epithet}"
    return ParsedName(genus, species, f"left out: {left_out}" if left_out else None)


def _genus(words: list[str]) -> str:
    """The genus that begins the words, with a capital letter."""
    if not words:
        raise CollectionError("it has no genus")
    first = words[0]
    if first.lower().rstrip(".") in _OPEN:
        raise CollectionError(f"{first!r} says that it is not known")
    if _ABBREVIATION.fullmatch(first):
        raise CollectionError(f"the genus is abbreviated as {first!r}")
    if not _GENUS.fullmatch(first):
        raise CollectionError(f"{first!r} is no genus")
    return first.capitalize()


def _epithet(words: list[str], shouted: bool) -> str:
    """The species epithet that begins the words, in lower case.

    A capitalised second word is mostly an author ("Papilio Linnaeus"); only where the genus stands in capitals, too, is
    a second word in capitals an epithet.
    """
    if not words:
        raise CollectionError("it has no species epithet; expected Genus species")
    first = words[0]
    if first.lower().rstrip(".0123456789") in _OPEN:
        raise CollectionError(f"{first!r} says that the species is not known")
    if HYBRID_SIGN in words:
        raise CollectionError("it is a hybrid formula, of two species")
    if not (_EPITHET.fullmatch(first) or (shouted and _SHOUTED_EPITHET.fullmatch(first))):
        raise CollectionError(f"{first!r} is no species epithet (a word in lower-case letters)")
    return first.lower()


def _check_rest(words: list[str]) -> None:
    """Refuse what changes the meaning of the binomial before it."""
    for word in words:
        if word.lower().rstrip(".") in _SEVERAL or "/" in word:
            raise CollectionError(f"{word!r} says that it may be several species")
        if "?" in word:
            raise CollectionError("it is marked as doubtful")
        if any(letter.isdigit() for letter in word) and not _YEAR.fullmatch(word):
            raise CollectionError(f"{word!r} is a number of a provisional name")
