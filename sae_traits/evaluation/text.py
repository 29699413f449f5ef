"""What a vision-language model is told of a class: its name in BioCLIP's ways, and the traits of its species."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from sae_traits.config.benchmark import TemplateSet, TextType
from sae_traits.evaluation.measures.class_names import ClassName, class_text
from sae_traits.images.columns import SPECIES_NAMES
from sae_traits.images.names import binomial
from sae_traits.images.table_files import read_columns
from sae_traits.schema import Collection, Taxon, Trait


def name_class(taxon: Taxon, text_type: TextType, common_names: Mapping[str, str]) -> str:
    """Name a species as BioCLIP does.

    `asis` is the species as the collection writes it, `sci` the scientific name, `taxon` all ranks that are known,
    `com` the common name; `sci_com` and `taxon_com` have both.
    """
    assert taxon.species is not None
    genus, *epithet = taxon.species.split()
    name = ClassName(
        label=taxon.species,
        kingdom=taxon.kingdom,
        phylum=taxon.phylum,
        class_=taxon.class_,
        order=taxon.order,
        family=taxon.family,
        genus=genus,
        epithet=" ".join(epithet),
        common_name=common_names.get(binomial(taxon.species)),
    )
    return class_text(name, text_type)


def lacks_common_name(species: str, text_type: TextType, common_names: Mapping[str, str]) -> bool:
    """Whether a species has no common name although the text type asks for one; its text is the one without it."""
    return text_type.endswith("com") and binomial(species) not in common_names


def read_common_names(path: Path) -> dict[str, str]:
    """Read common names by species, from a table with the columns `species` (or `scientific_name` …) and `common_name`.

    Species are read as labels are, so that underscores, authors, blanks and capitals do not matter; `nan`, `NA` and
    `none` are no names.

    Raises:
        ConfigError: the file cannot be read or lacks a column.
    """
    wanted = {"species": SPECIES_NAMES, "common_name": ("common_name", "vernacular_name")}
    rows = read_columns(path, wanted, tuple(wanted), what="common names")
    return {binomial(row["species"]): row["common_name"] for row in rows if row["species"] and row["common_name"]}


def read_templates(name: TemplateSet) -> tuple[str, ...]:
    """Read the templates of a set; `{}` stands for the text of a class."""
    if name == "none":
        return ("{}",)
    if name == "one":
        return ("a photo of {}.",)
    if name == "bioclip":  # the 81 that BioCLIP and its kin were evaluated with
        return (*read_templates("one"), *read_templates("openai"))
    text = (files("sae_traits.evaluation") / "templates" / f"{name}.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


def rank_traits(collection: Collection, traits: Iterable[Trait]) -> dict[str, tuple[str, ...]]:
    """Rank what is said of the training images of every species, the most widely shared text first.

    Texts are compared without regard to case and made to stand within a sentence. They are ranked by the number of
    training individuals with that text, then by the largest effect. Other splits are ignored: no text can leak.

    Returns:
        Species -> texts; a species without traits is absent.
    """

    def said() -> Iterator[tuple[str, str, str, float]]:
        for trait in traits:
            record = collection.images[trait.candidate.image]
            text = as_phrase(trait.description.text)
            if record.split == "train" and record.taxon.species is not None and text:
                yield record.species, text, record.individual_id, trait.candidate.effect

    return most_shared_first(said())


def most_shared_first(said: Iterable[tuple[str, str, Hashable, float]]) -> dict[str, tuple[str, ...]]:
    """Rank texts by how many individuals have them, then by the largest effect: species -> texts, as they came first.

    Of each trait `said` has species, text, individual and effect; texts that differ in their case alone are one.
    """
    sharing: dict[str, dict[str, set[Hashable]]] = defaultdict(lambda: defaultdict(set))
    effects: dict[tuple[str, str], float] = {}
    wording: dict[str, str] = {}
    for species, text, individual, effect in said:
        key = text.casefold()
        wording.setdefault(key, text)
        sharing[species][key].add(individual)
        effects[species, key] = max(effects.get((species, key), effect), effect)
    ranked = {}
    for species, individuals in sharing.items():
        order = sorted((-len(individuals[key]), -effects[species, key], key) for key in individuals)
        ranked[species] = tuple(wording[key] for *_, key in order)
    return ranked


def as_phrase(text: str) -> str:
    """Make a trait's sentence the continuation of another: small first letter (but `UV-dark`), no full stop."""
    words = " ".join(text.split()).rstrip(" .,;:")
    return words if words[1:2].isupper() else words[:1].lower() + words[1:]


def some(names: Sequence[str]) -> str:
    """Name the first few of some classes."""
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
