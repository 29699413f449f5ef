"""The texts that a vision-language model gets for a class: its name, with and without traits, through templates."""

from __future__ import annotations

import csv
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sae_traits.errors import ConfigError
from sae_traits.logging import track
from sae_traits.schema import Collection, Taxon, Trait

if TYPE_CHECKING:
    from torch import Tensor

TextType = Literal["asis", "sci", "taxon", "com", "sci_com", "taxon_com"]
TemplateSet = Literal["none", "one", "openai"]
TraitText = Literal["prompts", "joined"]

COMMON_NAME_JOINER = " with common name "
"""Between scientific and common name, as BioCLIP was trained (Stevens et al. 2024, section 3.2)."""
FILLER = "this is one of the many things that could be said about it here and there is no more to it than that"
"""Says nothing; repeated and cut to the length of a trait."""
_TEXTS_A_CALL = 2048


class TextEncoder(Protocol):
    """What is needed of a vision-language model here."""

    @property
    def context_length(self) -> int:
        """How many tokens a text may have; the rest would be cut off."""
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens of a text before it is cut, with the marks of start and end."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings of unit length, float32 `[n, embed_dim]`."""
        ...


@dataclass(frozen=True)
class ClassNames:
    """The name of every class, as the model reads it."""

    texts: tuple[str, ...]
    without_common_name: tuple[str, ...]
    """Species that have none although the text type asks for one; they get the text without it."""


def name_classes(taxa: Sequence[Taxon], text_type: TextType, common_names: Mapping[str, str]) -> ClassNames:
    """Name classes as BioCLIP does.

    `asis` is the species as the collection writes it, `sci` the scientific name, `taxon` all ranks that are known,
    `com` the common name; `sci_com` and `taxon_com` have both.

    Args:
        taxa: one a class, with a species.
        text_type: which name.
        common_names: species -> common name.
    """
    texts: list[str] = []
    missing: list[str] = []
    for taxon in taxa:
        species = taxon.species
        assert species is not None
        common_name = common_names.get(species)
        latin = _lineage(taxon) if text_type.startswith("taxon") else _scientific_name(species)
        if text_type == "asis":
            texts.append(species)
        elif text_type in ("sci", "taxon"):
            texts.append(latin)
        elif common_name is None:
            missing.append(species)
            texts.append(latin)
        else:
            texts.append(common_name if text_type == "com" else latin + COMMON_NAME_JOINER + common_name)
    return ClassNames(tuple(texts), tuple(missing))


def _scientific_name(species: str) -> str:
    """Genus with a capital letter, the rest in lower case."""
    return " ".join(species.split()).capitalize()


def _lineage(taxon: Taxon) -> str:
    """Kingdom to family as far as they are known, then the scientific name, which holds genus and epithet."""
    assert taxon.species is not None
    ranks = (taxon.kingdom, taxon.phylum, taxon.class_, taxon.order, taxon.family)
    return " ".join([*(rank for rank in ranks if rank), _scientific_name(taxon.species)])


def read_common_names(path: Path) -> dict[str, str]:
    """Species -> common name, from a CSV file with the columns `species` and `common_name`.

    Raises:
        ConfigError: the file cannot be read or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not {"species", "common_name"} <= set(reader.fieldnames or ()):
                raise ConfigError(f"{path} needs the columns species and common_name; it has {reader.fieldnames}")
            return {row["species"]: row["common_name"] for row in reader if row["common_name"]}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read common names from {path}: {error}") from error


def read_templates(name: TemplateSet) -> tuple[str, ...]:
    """The templates of a set; `{}` stands for the text of a class."""
    if name == "none":
        return ("{}",)
    if name == "one":
        return ("a photo of {}.",)
    text = (files("sae_traits.evaluation") / "templates" / f"{name}.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


def rank_traits(collection: Collection, traits: Iterable[Trait]) -> dict[str, tuple[str, ...]]:
    """What the training images of every species have in common, the most widely shared trait first.

    Texts are compared without regard to case and made to stand within a sentence. They are ranked by the number of
    training images with that text, then by the largest effect. Other splits are ignored, so that no text can leak.

    Returns:
        Species -> texts; a species without traits is absent.
    """
    sharing: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    effects: dict[tuple[str, str], float] = {}
    wording: dict[str, str] = {}
    for trait in traits:
        row = trait.candidate.image
        record = collection.images[row]
        text = as_phrase(trait.description.text)
        if record.split != "train" or not text:
            continue
        key = text.casefold()
        wording.setdefault(key, text)
        sharing[record.species][key].add(row)
        effect = trait.candidate.effect
        effects[record.species, key] = max(effects.get((record.species, key), effect), effect)
    ranked = {}
    for species, rows in sharing.items():
        order = sorted((-len(rows[key]), -effects[species, key], key) for key in rows)
        ranked[species] = tuple(wording[key] for *_, key in order)
    return ranked


def as_phrase(text: str) -> str:
    """A trait's sentence as the continuation of another: small first letter (but `UV-dark`), no full stop."""
    words = " ".join(text.split()).rstrip(" .,;:")
    return words if words[1:2].isupper() else words[:1].lower() + words[1:]


@dataclass(frozen=True)
class Prompter:
    """Embeds texts through templates: encode, unit length, mean over the templates, unit length."""

    encoder: TextEncoder
    templates: tuple[str, ...]

    @cached_property
    def _longest(self) -> str:
        return max(self.templates, key=self.encoder.count_tokens)

    def fits(self, text: str) -> bool:
        """Whether the model reads all of a text, in every template."""
        return self.encoder.count_tokens(_filled(self._longest, text)) <= self.encoder.context_length

    def example(self, text: str) -> str:
        """A text in the first template."""
        return _filled(self.templates[0], text)

    def embed(self, texts: Sequence[str], label: str) -> NDArray[np.float32]:
        """Embeddings of unit length `[n_texts, embed_dim]`; equal texts are encoded once.

        Args:
            texts: at least one.
            label: for the progress line, where there is more than one batch.
        """
        place = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        different = list(place)
        step = max(1, _TEXTS_A_CALL // len(self.templates))
        starts = range(0, len(different), step)
        shown = track(starts, label, len(starts), "batch") if len(starts) > 1 else starts
        parts = [self._embed(different[start : start + step]) for start in shown]
        return np.concatenate(parts)[[place[text] for text in texts]]

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        prompts = [_filled(template, text) for text in texts for template in self.templates]
        embeddings = self.encoder.embed_texts(prompts).cpu().numpy()
        return unit_length(embeddings.reshape(len(texts), len(self.templates), -1).mean(axis=1))


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of unit length; a row of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


@dataclass(frozen=True)
class TraitPrompts:
    """What every class says when it gets so many traits at most."""

    prompts: tuple[tuple[str, ...], ...]
    """Of a class: the texts whose embeddings are averaged; none where it has no trait, or none that fits."""
    left_out: tuple[int, ...]
    """Of a class: how many of these traits do not fit into the context."""


def write_prompts(
    prompter: Prompter,
    names: Sequence[str],
    traits: Sequence[Sequence[str]],
    trait_text: TraitText,
    trait_counts: Sequence[int],
) -> list[TraitPrompts]:
    """Say the first traits of every class, once for each of `trait_counts`.

    `prompts` says one trait a text, `joined` all in one text. A trait that the model would not read to its end is left
    out and counted.

    Args:
        prompter: knows what fits.
        names: the name that begins the texts of a class `[n_classes]`; an empty one makes texts of traits alone.
        traits: ranked traits of each class `[n_classes]`.
        trait_text: one text a trait, or one for all.
        trait_counts: how many traits a class gets at most.
    """
    considered = [ranked[: max(trait_counts)] for ranked in traits]
    fitting = [_fitting(prompter, *said, trait_text) for said in zip(names, considered, strict=True)]
    variants = []
    for n_traits in trait_counts:
        prompts, left_out = [], []
        for name, ranked, fits in zip(names, considered, fitting, strict=True):
            kept = [trait for trait, fit in zip(ranked[:n_traits], fits, strict=False) if fit]
            left_out.append(len(ranked[:n_traits]) - len(kept))
            texts = [kept] if trait_text == "joined" and kept else [[trait] for trait in kept]
            prompts.append(tuple(_say(name, text) for text in texts))
        variants.append(TraitPrompts(tuple(prompts), tuple(left_out)))
    return variants


def _fitting(prompter: Prompter, name: str, ranked: Sequence[str], trait_text: TraitText) -> list[bool]:
    """Which traits fit into the context: each alone, or (joined) together with those before it."""
    kept: list[str] = []
    fits = []
    for trait in ranked:
        fits.append(prompter.fits(_say(name, [*kept, trait] if trait_text == "joined" else [trait])))
        if fits[-1]:
            kept.append(trait)
    return fits


def embed_prompts(
    prompter: Prompter, variants: Sequence[TraitPrompts], n_dimensions: int, label: str
) -> list[NDArray[np.float32]]:
    """Mean embedding of every class's prompts, of unit length; zeros for a class without any.

    Returns:
        One array `[n_classes, n_dimensions]` a variant; prompts that variants share are encoded once.
    """
    every = list(dict.fromkeys(prompt for variant in variants for prompts in variant.prompts for prompt in prompts))
    if not every:
        return [np.zeros((len(variant.prompts), n_dimensions), dtype=np.float32) for variant in variants]
    place = {prompt: row for row, prompt in enumerate(every)}
    embeddings = prompter.embed(every, label)
    found = []
    for variant in variants:
        mean = np.zeros((len(variant.prompts), n_dimensions), dtype=np.float32)
        for row, prompts in enumerate(variant.prompts):
            if prompts:
                mean[row] = embeddings[[place[prompt] for prompt in prompts]].mean(axis=0)
        found.append(unit_length(mean))
    return found


def write_fillers(encoder: TextEncoder, traits: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Neutral words in place of every trait, as long as it in tokens (or one word over)."""
    lengths = {trait: encoder.count_tokens(trait) for ranked in traits for trait in ranked}
    longest = max(lengths.values(), default=0)
    words = cycle(FILLER.split())
    fillers = [next(words)]
    counts = [encoder.count_tokens(fillers[0])]
    while counts[-1] < longest:
        fillers.append(f"{fillers[-1]} {next(words)}")
        counts.append(encoder.count_tokens(fillers[-1]))
    return [tuple(fillers[bisect_left(counts, lengths[trait])] for trait in ranked) for ranked in traits]


def _say(name: str, traits: Sequence[str]) -> str:
    said = "; ".join(traits)
    return f"{name}, {said}" if name else said


def _filled(template: str, text: str) -> str:
    return template.replace("{}", text)
