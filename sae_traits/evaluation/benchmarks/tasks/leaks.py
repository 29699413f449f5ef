"""Leaks: which images are near-identical to images that a model, an SAE or traits were made with?"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

from sae_traits.errors import ConfigError
from sae_traits.evaluation.benchmarks.inputs import EmbeddedImages, Figures, Inputs, Outcome, percent
from sae_traits.images.near_identical import near_identical_groups


@dataclass(frozen=True, kw_only=True)
class Leak:
    """An image that is near-identical to others of the other collection."""

    file: str
    label: str
    others: tuple[str, ...]
    """The first of them."""


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
        """Find the images whose hashes nearly equal one of the others."""
        return Outcome(find_leaks(inputs))

    def figures(self, result: LeakScores) -> Figures:
        """The share."""
        return {"leaked": result.share}

    def sentence(self, name: str, result: LeakScores) -> str:
        """Say how many images are in both."""
        example = f", such as {result.leaks[0].file} and {result.leaks[0].others[0]}" if result.leaks else ""
        return (
            f"{result.n_leaked:,} of {result.n_images:,} images ({percent(result.share)}) are near-identical to one of "
            f"{result.n_against:,} images of the other collection{example}."
        )

    def notes(self, result: LeakScores) -> list[str]:
        """Nothing beyond the report."""
        return []


def find_leaks(inputs: Inputs, *, n_others: int = 3) -> LeakScores:
    """Group the images of both collections, and list those that share a group."""
    groups = near_identical_groups([*inputs.hashes, *(found for _, found in inputs.against)]).tolist()
    n_images = len(inputs.hashes)
    others: dict[int, list[str]] = defaultdict(list)
    for (file, _), group in zip(inputs.against, groups[n_images:], strict=True):
        others[group].append(file)
    leaks = tuple(
        Leak(file=row.file, label=row.label, others=tuple(others[group][:n_others]))
        for row, group in zip(inputs.rows, groups[:n_images], strict=True)
        if group in others
    )
    return LeakScores(
        n_images=n_images,
        n_against=len(inputs.against),
        n_leaked=len(leaks),
        share=len(leaks) / n_images,
        leaks=leaks,
    )
