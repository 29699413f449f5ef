"""Leaks: which images are near-identical to images that a model, an SAE or traits were made with?"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

from sae_traits.errors import ConfigError
from sae_traits.evaluation.benchmarks.inputs import EmbeddedImages, Figures, Inputs, Outcome, percent
from sae_traits.images.near_identical import leaks

N_OTHERS = 3


@dataclass(frozen=True, kw_only=True)
class Leak:
    """An image that is near-identical to others of the other collection."""

    file: str
    label: str
    others: tuple[str, ...]
    """The first N_OTHERS of them."""


@dataclass(frozen=True, kw_only=True)
class LeakScores:
    """Which images are in another collection, too."""

    task: Literal["leaks"] = "leaks"
    n_images: int
    n_against: int
    n_leaked: int
    share: float
    leaks: tuple[Leak, ...]


class LeakTask:
    """Compares perceptual hashes of two collections."""

    name, title, result = "leaks", "Leaks", LeakScores
    needs_clip, needs_models, head = False, False, "taxonomy"

    def check(self, inputs: Inputs) -> None:
        """Refuse to compare with nothing."""
        if inputs.config.against is None:
            raise ConfigError("leaks needs --against SOURCE, the images to compare with, such as those of the training")
        if inputs.config.embeddings is not None:
            raise ConfigError("leaks compares the images themselves; leave out --embeddings")

    def run(self, inputs: Inputs, model: EmbeddedImages) -> Outcome:
        """List the images whose hashes nearly equal some of the others."""
        others: dict[int, list[str]] = defaultdict(list)
        for other, image in leaks([found for _, found in inputs.against], inputs.hashes).tolist():
            others[image].append(inputs.against[other][0])
        found = tuple(
            Leak(file=inputs.rows[image].file, label=inputs.rows[image].label, others=tuple(where[:N_OTHERS]))
            for image, where in sorted(others.items())
        )
        return Outcome(
            LeakScores(
                n_images=len(inputs.hashes),
                n_against=len(inputs.against),
                n_leaked=len(found),
                share=len(found) / len(inputs.hashes),
                leaks=found,
            )
        )

    def figures(self, result: LeakScores) -> Figures:
        return {"leaked": result.share}

    def sentence(self, name: str, result: LeakScores) -> str:
        example = f", such as {result.leaks[0].file} and {result.leaks[0].others[0]}" if result.leaks else ""
        return (
            f"{result.n_leaked:,} of {result.n_images:,} images ({percent(result.share)}) are near-identical to one of "
            f"{result.n_against:,} images of the other collection{example}."
        )

    def notes(self, result: LeakScores) -> list[str]:
        return []
