"""What is said of species, from any table: that of a released dataset, of the paper's, or one of species and text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_traits.errors import ConfigError
from sae_traits.evaluation.benchmarks.class_taxa import label_key, species_of
from sae_traits.evaluation.benchmarks.labels import LABEL_NAMES
from sae_traits.evaluation.benchmarks.matching import one_each
from sae_traits.evaluation.measures.class_names import ClassName
from sae_traits.evaluation.text import as_phrase, most_shared_first
from sae_traits.images.columns import COLUMN_NAMES, SPECIES_NAMES, find_columns
from sae_traits.images.names import binomial
from sae_traits.images.table_files import read_columns
from sae_traits.logging import say

TEXT_NAMES = ("text", "trait_description", "trait_text", "trait", "description", "caption")
"""Names of a column with what is said, the surest first."""
_OTHERS = {
    "individual": COLUMN_NAMES["individual"],
    "effect": ("effect",),
    "split": ("split",),
    "sha256": ("source_sha256", "sha256"),
}


@dataclass(frozen=True, kw_only=True)
class TraitTexts:
    """What is said of every species."""

    source: str
    ranked: Mapping[str, tuple[str, ...]]
    """Key of a species -> texts, the most widely shared first."""
    described: frozenset[str]
    """Hashes of the image files that they were written of, as far as the source says them."""

    def of_classes(self, names: Sequence[ClassName], images: str) -> dict[str, tuple[str, ...]]:
        """Look up what is said of every class: label -> texts, none for a class without any.

        Raises:
            ConfigError: no class has a trait.
        """
        keys = {name.label: self._key(name) for name in names}
        found = {label: self.ranked.get(key, ()) for label, key in keys.items()}
        if not any(found.values()):
            example = next(iter(self.ranked))
            raise ConfigError(
                f"no class of {images} has a trait in {self.source}: its species are such as {example!r}, the classes "
                f"such as {names[0].label!r}; say with --taxa which species the labels stand for"
            )
        if unused := self.ranked.keys() - set(keys.values()):
            n_unused = f"{len(unused):,} of {len(self.ranked):,}"
            say(f"{n_unused} species of {self.source} have no class here, such as {min(unused)!r}")
        return found

    def _key(self, name: ClassName) -> str:
        """The key of a class; an empty one where nothing is said of it."""
        keys = [label_key(text) for text in (species_of(name), name.label, binomial(name.label)) if text]
        return next((key for key in keys if key in self.ranked), "")


def trait_columns(names: Sequence[str], source: str) -> dict[str, str]:
    """Find the columns of a table of traits: `species` and `text`, and others that are read if present.

    Raises:
        ConfigError: it lacks one of the two.
    """
    found = find_columns(names, {"species": SPECIES_NAMES, "text": TEXT_NAMES, **_OTHERS})
    if lacking := [name for name in ("species", "text") if name not in found]:
        raise ConfigError(f"{source} has no column `{lacking[0]}`; its columns are {', '.join(names)}")
    return found


def region_columns(names: Sequence[str], source: str) -> dict[str, str]:
    """Find the columns of a table of traits that say which region a text is about.

    Raises:
        ConfigError: it lacks one.
    """
    found = find_columns(names, {"trait_id": ("trait_id",), "text": TEXT_NAMES})
    if lacking := [name for name in ("trait_id", "text") if name not in found]:
        raise ConfigError(f"{source} has no column `{lacking[0]}`, by which regions of two describers are compared")
    return found


def read_references(path: Path, names: Sequence[ClassName]) -> dict[str, str]:
    """Read descriptions of species from a table with the columns label or species, and text: label -> text.

    Raises:
        ConfigError: it cannot be read, lacks a column, contradicts itself, or is about no class at hand.
    """
    wanted = {"label (or species)": ("label", *SPECIES_NAMES, *LABEL_NAMES), "text": TEXT_NAMES}
    rows = [tuple(row.values()) for row in read_columns(path, wanted, tuple(wanted), what="references")]
    said = [(number, label, text) for number, (label, text) in enumerate(rows, start=1) if label and text]
    known = one_each(path, ((number, label_key(label), label, text) for number, label, text in said))
    found = {}
    for name in names:
        keys = [label_key(text) for text in (species_of(name), name.label) if text]
        if (reference := next((known[key] for key in keys if key in known), None)) is not None:
            found[name.label] = reference
    if not found:
        raise ConfigError(f"no row of {path} is about a class at hand, such as {names[0].label!r}")
    return found


def rank_texts(source: str, rows: Iterable[Mapping[str, Any]]) -> TraitTexts:
    """Rank what is said of every species, the most widely shared text first, then by the largest effect.

    Where rows have the split `train`, only those count: no text of a test image can leak.

    Args:
        source: where they come from, for messages.
        rows: with the keys of `trait_columns`.

    Raises:
        ConfigError: there is no text.
    """
    said: list[tuple[str, str, Any, float]] = []
    described: set[str] = set()
    every = list(rows)
    for row in [row for row in every if row.get("split") == "train"] or every:
        if row["species"] and (text := as_phrase(row["text"] or "")):
            individual = row.get("individual") or len(said)
            said.append((label_key(binomial(row["species"])), text, individual, _number(row.get("effect"))))
            described |= {row["sha256"]} if row.get("sha256") else set()
    if not said:
        raise ConfigError(f"{source} has no text about a species")
    ranked = most_shared_first(said)
    return TraitTexts(source=source, ranked=ranked, described=frozenset(described))


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0
