"""The texts of a class, with and without traits, through templates, and their embeddings."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sae_traits.logging import track

if TYPE_CHECKING:
    from torch import Tensor

TraitText = Literal["prompts", "joined"]
FloatT = TypeVar("FloatT", bound=np.floating)

NEUTRAL = "this is one of the many things that could be said about it here and there is no more to it than that"
"""Says nothing; repeated and cut to the length of a trait."""
_TEXTS_PER_CALL = 2048


class TextEncoder(Protocol):
    """What is needed of a vision-language model here; a `CLIP` has it."""

    @property
    def context_length(self) -> int:
        """How many tokens a text may have; the rest would be cut off."""
        ...

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text before it is cut, with the marks of start and end."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed texts: vectors of unit length, float32 `[n, embed_dim]`."""
        ...


@dataclass(frozen=True)
class Prompter:
    """Embeds texts through templates: encode, unit length, mean over the templates, unit length."""

    encoder: TextEncoder
    templates: tuple[str, ...]

    @cached_property
    def _longest(self) -> str:
        return max(self.templates, key=self.encoder.count_tokens)

    def fits(self, text: str) -> bool:
        """Tell whether the model reads all of a text, in every template."""
        return self.encoder.count_tokens(_filled(self._longest, text)) <= self.encoder.context_length

    def example(self, text: str) -> str:
        """Show a text in the first template."""
        return _filled(self.templates[0], text)

    def embed(self, texts: Sequence[str], label: str) -> NDArray[np.float32]:
        """Embed texts: vectors of unit length `[n_texts, embed_dim]`; equal texts are encoded once."""
        place = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        different = list(place)
        step = max(1, _TEXTS_PER_CALL // len(self.templates))
        starts = range(0, len(different), step)
        shown = track(starts, label, len(starts), "batch") if len(starts) > 1 else starts
        parts = [self._embed(different[start : start + step]) for start in shown]
        return np.concatenate(parts)[[place[text] for text in texts]]

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        prompts = [_filled(template, text) for text in texts for template in self.templates]
        embeddings = self.encoder.embed_texts(prompts).cpu().numpy()
        return unit_length(embeddings.reshape(len(texts), len(self.templates), -1).mean(axis=1))


def unit_length(vectors: NDArray[FloatT]) -> NDArray[FloatT]:
    """Scale rows to unit length; a row of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


@dataclass(frozen=True)
class TraitPrompts:
    """What every class says when it gets a number of traits at most."""

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
    """Say the first of the ranked traits of every class `[n_classes]`, once for each of `trait_counts`.

    A name begins the texts of its class `[n_classes]`; an empty one makes texts of traits alone. `prompts` says one
    trait per text, `joined` all in one text. A trait that the model would not read to its end is left out and counted.
    """
    considered = [ranked[: max(trait_counts)] for ranked in traits]
    fitting = [_fitting(prompter, name, ranked, trait_text) for name, ranked in zip(names, considered, strict=True)]
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
    """Embed every class as the mean of its prompts, of unit length; zeros for a class without any.

    Returns:
        One array `[n_classes, n_dimensions]` per variant; prompts that variants share are encoded once.
    """
    every = list(dict.fromkeys(prompt for variant in variants for prompts in variant.prompts for prompt in prompts))
    embeddings = dict(zip(every, prompter.embed(every, label), strict=True)) if every else {}
    nothing = np.zeros((1, n_dimensions), dtype=np.float32)
    return [
        unit_length(
            np.stack(
                [np.mean([embeddings[prompt] for prompt in prompts] or nothing, axis=0) for prompts in variant.prompts]
            )
        )
        for variant in variants
    ]


def write_fillers(encoder: TextEncoder, traits: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Put neutral words in place of every trait, as long as it in tokens (or one word over)."""
    lengths = {trait: encoder.count_tokens(trait) for ranked in traits for trait in ranked}
    longest = max(lengths.values(), default=0)
    words = cycle(NEUTRAL.split())
    fillers = [next(words)]
    counts = [encoder.count_tokens(fillers[0])]
    while counts[-1] < longest:
        fillers.append(f"{fillers[-1]} {next(words)}")
        counts.append(encoder.count_tokens(fillers[-1]))
    return [tuple(fillers[bisect_left(counts, lengths[trait])] for trait in ranked) for ranked in traits]


def _say(name: str, traits: Sequence[str]) -> str:
    text = "; ".join(traits)
    return f"{name}, {text}" if name else text


def _filled(template: str, text: str) -> str:
    return template.replace("{}", text)
