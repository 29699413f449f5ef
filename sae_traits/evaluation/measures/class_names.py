"""The six texts of a class's name that the BioCLIP papers compare, from a table whose cells may be empty."""

from __future__ import annotations

from dataclasses import dataclass

from sae_traits.config.benchmark import Protocol, TextType
from sae_traits.errors import CollectionError

COMMON_NAME_JOINER = " with common name "
"""Between scientific and common name, as BioCLIP was trained (Stevens et al. 2024, section 3.2)."""


@dataclass(frozen=True, kw_only=True)
class ClassName:
    """A class as a benchmark's table names it; None or "" where the table says nothing."""

    label: str
    """The class as the benchmark writes it: any text."""
    kingdom: str | None = None
    phylum: str | None = None
    class_: str | None = None
    order: str | None = None
    family: str | None = None
    genus: str | None = None
    epithet: str | None = None
    """Second word of the binomial."""
    common_name: str | None = None

    @property
    def higher(self) -> tuple[str | None, ...]:
        """Kingdom, phylum, class, order, family."""
        return (self.kingdom, self.phylum, self.class_, self.order, self.family)


def class_text(name: ClassName, text_type: TextType, *, protocol: Protocol = "corrected") -> str:
    """Write the name of a class as a model reads it, with single blanks.

    Args:
        text_type: `asis` is the label, `sci` the scientific name, `taxon` all ranks, `com` the common name; `sci_com`
            and `taxon_com` have both.
        protocol: `corrected` says what is known: all ranks that there are, the scientific name in place of a missing
            common one, at last the label. `published` leaves out all higher ranks where there is no kingdom, and says
            nothing (``) where there is no common name or neither genus nor epithet.

    Raises:
        CollectionError: `published`, and the released code raises here: a rank is None (and not ""), or there is a
            common name but neither genus nor epithet.

    Source: naming_eval.py of BioCLIP; Stevens et al. 2024, section 3.2.
    """
    if text_type == "asis":
        return name.label
    text = _published(name, text_type) if protocol == "published" else _corrected(name, text_type)
    return " ".join(text.split())


def _corrected(name: ClassName, text_type: TextType) -> str:
    common = (name.common_name or "").strip()
    latin = _scientific(name.genus or "", name.epithet or "").strip()
    if text_type.startswith("taxon"):
        latin = " ".join([*(rank.capitalize() for rank in name.higher if rank), latin]).strip()
    if text_type == "com":
        return common or latin or name.label
    if text_type in ("sci", "taxon") or not common:
        return latin or common or name.label
    return latin + COMMON_NAME_JOINER + common if latin else common


def _published(name: ClassName, text_type: TextType) -> str:
    if text_type == "com":
        return name.common_name or ""
    if name.genus is None or name.epithet is None:
        raise _released_code_fails(name, text_type, "genus or epithet is missing, not empty")
    latin = _scientific(name.genus, name.epithet)
    with_common_name = text_type.endswith("com") and name.common_name != ""
    if text_type.startswith("taxon"):
        if name.kingdom != "":
            if any(rank is None for rank in name.higher):
                raise _released_code_fails(name, text_type, "a rank is missing, not empty")
            latin = " ".join([*(str(rank).capitalize() for rank in name.higher), latin])
    elif with_common_name and not latin.strip():
        raise _released_code_fails(name, text_type, "there is a common name without a scientific one")
    if not with_common_name:
        return latin
    if name.common_name is None:
        raise _released_code_fails(name, text_type, "the common name is missing, not empty")
    return latin + COMMON_NAME_JOINER + name.common_name


def _scientific(genus: str, epithet: str) -> str:
    return f"{genus.capitalize()} {epithet.lower()}"


def _released_code_fails(name: ClassName, text_type: TextType, reason: str) -> CollectionError:
    return CollectionError(
        f"the released code has no {text_type} text of {name.label!r}: {reason}; choose protocol `corrected`"
    )
