"""Which columns of a Hub dataset hold the image, the species and what else is known, and a row made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sae_traits.errors import CollectionError
from sae_traits.images.listing import Row
from sae_traits.schema import RANKS, Split, Taxon

SPECIES_NAMES = (
    *("species", "scientific_name", "scientificname", "binomial", "binomial_name", "canonical_name"),
    *("species_name", "taxon_name", "taxon", "label", "labels"),
)
"""Names of a column with the species, the surest first; capital letters, blanks and hyphens do not matter."""
OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    **{rank: (rank,) for rank in RANKS[:-1]},
    "license": ("license", "licence"),
    "rights_holder": ("rights_holder", "rightsholder", "copyright_holder", "creator", "author"),
    "source_url": ("source_url", "references", "url", "image_url"),
}
"""What a row has -> names of a column that says it."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns that are read."""

    image: str
    species: str | None
    others: Mapping[str, str]
    """What a row has -> column."""

    @property
    def names(self) -> list[str]:
        """All of them, each once."""
        return list(dict.fromkeys([self.image, *([self.species] if self.species else []), *self.others.values()]))

    def row(
        self,
        example: Mapping[str, Any],
        features: Mapping[str, Any],
        *,
        file: str,
        split: Split | None,
        license: str | None,
        source_url: str,
        source_revision: str,
    ) -> Row:
        """The row of an example; `license` and `source_url` hold where the example has none."""
        others = {what: _text(example[name], features[name]) for what, name in self.others.items()}
        return Row(
            file=file,
            label=_text(example[self.species], features[self.species]) if self.species else None,
            ranks=Taxon.from_dict(others),
            split=split,
            license=others.get("license") or license,
            rights_holder=others.get("rights_holder"),
            source_url=others.get("source_url") or source_url,
            source_revision=source_revision,
        )


def find_columns(
    features: Mapping[str, Any], repo_id: str, *, species: str | None, image: str | None, labelled: bool = True
) -> Columns:
    """The columns of a dataset, by name and type.

    The image is the only column of type Image, or that called `image`. The species is a column of text or of classes
    with one of SPECIES_NAMES, or else the only column of classes.

    Args:
        features: of the dataset.
        repo_id: named in errors.
        species: the column with the species, if the user says it.
        image: the column with the image, if the user says it.
        labelled: False reads no species.

    Raises:
        CollectionError: there is no such column, or more than one.
    """
    there = f"its columns are {', '.join(f'{name} ({_kind(feature)})' for name, feature in features.items())}"
    for option, name in (("--species-column", species), ("--image-column", image)):
        if name is not None and name not in features:
            raise CollectionError(f"{repo_id} has no column {name!r} for {option}; {there}")
    pictures = [name for name, feature in features.items() if _kind(feature) == "Image"]
    if image is None:
        image = next((name for name in pictures if name.lower() == "image" or len(pictures) == 1), None)
    if image is None or _kind(features[image]) != "Image":
        raise CollectionError(f"{repo_id} needs a column of type Image, named by --image-column; {there}")
    if not labelled:
        return Columns(image=image, species=None, others=_others(features, image, exclude=RANKS))
    species = species or _species(features)
    if species is None or not _is_text(features[species]):
        raise CollectionError(f"{repo_id} needs a column with the species, named by --species-column; {there}")
    return Columns(image=image, species=species, others=_others(features, species, exclude=()))


def _species(features: Mapping[str, Any]) -> str | None:
    by_name = {_plain(name): name for name, feature in features.items() if _is_text(feature)}
    found = next((by_name[name] for name in SPECIES_NAMES if name in by_name), None)
    classes = [name for name, feature in features.items() if _kind(feature) == "ClassLabel"]
    return found or (classes[0] if len(classes) == 1 else None)


def _others(features: Mapping[str, Any], used: str, exclude: tuple[str, ...]) -> dict[str, str]:
    by_name = {_plain(name): name for name, feature in features.items() if _is_text(feature) and name != used}
    found = {
        what: next((by_name[name] for name in names if name in by_name), None)
        for what, names in OTHER_NAMES.items()
        if what not in exclude
    }
    return {what: name for what, name in found.items() if name is not None}


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _kind(feature: Any) -> str:
    """Image, ClassLabel, string, int64 … or the kind of container."""
    return getattr(feature, "dtype", "") if type(feature).__name__ == "Value" else type(feature).__name__


def _is_text(feature: Any) -> bool:
    return _kind(feature) in ("ClassLabel", "string", "large_string", "string_view")


def _text(value: Any, feature: Any) -> str | None:
    """A cell as text; the name of a class, whose number may be -1 for unknown."""
    if value is None:
        return None
    if _kind(feature) == "ClassLabel":
        return feature.int2str(value) if value >= 0 else None
    return str(value).strip() or None
