"""Captions of images, from a table; and the same captions without the name of the species, and the name alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sae_traits.errors import ConfigError
from sae_traits.evaluation.benchmarks.class_taxa import species_of
from sae_traits.evaluation.benchmarks.matching import places_of
from sae_traits.evaluation.benchmarks.trait_texts import TEXT_NAMES
from sae_traits.evaluation.measures.class_names import ClassName
from sae_traits.images.columns import FILE_NAMES
from sae_traits.images.table_files import read_columns
from sae_traits.logging import warn

_NAMES = {"file": (*FILE_NAMES, "filename", "id"), "text": ("caption", *TEXT_NAMES)}


@dataclass(frozen=True, kw_only=True)
class Captions:
    """Texts about images."""

    images: tuple[int, ...]
    """Of each text: the place of its image."""
    texts: tuple[str, ...]

    def of_images(self, place: Mapping[int, int]) -> Captions:
        """Keep the texts of some images, each of which gets another place."""
        kept = [(place[image], text) for image, text in zip(self.images, self.texts, strict=True) if image in place]
        return Captions(images=tuple(image for image, _ in kept), texts=tuple(text for _, text in kept))


def read_captions(path: Path, files: Sequence[str]) -> Captions:
    """Read a table with the columns `file` and `text`; rows of other images are passed over with a warning.

    Raises:
        ConfigError: it cannot be read, lacks a column, or none of its rows is about an image at hand.
    """
    rows = read_columns(path, _NAMES, tuple(_NAMES), what="captions")
    images, texts, others = [], [], []
    for number, (row, place) in enumerate(
        zip(rows, places_of([row["file"] or "" for row in rows], files), strict=True), start=1
    ):
        if place is not None and row["text"]:
            images.append(place)
            texts.append(" ".join(row["text"].split()))
        else:
            others.append(f"row {number} below the header ({row['file']})")
    if not texts:
        raise ConfigError(f"no row of {path} is about an image at hand, such as {files[0]}; its first is {others[:1]}")
    if others:
        warn(
            f"{len(others)} rows of {path.name} have no text, are about other images, or do not say which of several "
            f"images of the same name they are about, such as {others[0]}"
        )
    return Captions(images=tuple(images), texts=tuple(texts))


def without_name(caption: str, name: ClassName) -> str:
    """Take the name of the class out of a caption: binomial, genus, epithet, abbreviation, common name and label."""
    text = caption
    for written in sorted(_writings(name), key=len, reverse=True):
        pattern = rf"(?<!\w){re.escape(written)}s?(?!\w)"
        text = re.sub(pattern, " ", text, flags=re.IGNORECASE)
    text = re.sub(r"\s+([,.;:])", r"\1", " ".join(text.split()))
    return text.strip(" ,;:")


def name_alone(name: ClassName) -> str:
    """The name by which a class is called in a text: its binomial, or else its label."""
    return species_of(name) or name.label.replace("_", " ")


def _writings(name: ClassName) -> set[str]:
    written = {name.label, name.label.replace("_", " "), name.common_name, name.genus, name.epithet}
    if name.genus and name.epithet:
        written |= {f"{name.genus} {name.epithet}", f"{name.genus[0]}. {name.epithet}"}
    return {text for text in written if text and len(text) > 2}
