"""What a zero-shot evaluation found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from pydantic import computed_field

from sae_traits.evaluation.statistics import Interval, McNemar, holm
from sae_traits.evaluation.text import some

NAME_ONLY = "name only"
NAME_AND_TRAITS = "name + traits"
TRAITS_ONLY = "traits only"
SHUFFLED = "name + another species' traits"
FILLER = "name + filler"
TOP = (1, 3, 5)
SIGNIFICANT = 0.05
MIN_CLASSES = 5
"""With fewer, no assignment of texts to classes is rare enough to differ from chance."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """How well the test images are classified with one kind of class text."""

    name: str
    top: dict[int, Interval]
    """k -> share of the images whose species is among the first k; intervals resample individuals."""
    macro: dict[int, float]
    """The same, as the mean over species."""
    weight: float | None
    """Of the name; None where there is nothing to mix."""
    n_traits: int | None
    """At most this many per class; None for the name alone."""
    validation_top1: float | None
    """With these, on the images that they were chosen with; None without such."""
    n_with_traits: int
    """Classes that say a trait (or its stand-in); the others say their name only."""
    left_out: dict[str, int]
    """Species -> how many of these traits do not fit into the model's context."""
    example: str | None
    """The text of a class, in the first template; None where no trait fits."""

    @property
    def top1(self) -> Interval:
        """Share of the images whose species comes first."""
        return self.top[1]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Top-1 accuracy of a condition minus that of the name only, on the same images."""

    condition: str
    difference: Interval
    """Resampling individuals: the species are these."""
    over_species: Interval
    """Resampling species whole: the species are a sample of those that the traits could be used for."""
    mcnemar: McNemar
    """First: name only; second: the condition."""
    holm_p_value: float
    """McNemar's, adjusted for the number of comparisons."""


@dataclass(frozen=True, kw_only=True)
class RandomDeals:
    """Name + own traits against name + traits that are dealt to the species at random, chosen anew each time."""

    top1: tuple[float, ...]
    """Accuracy of every deal."""
    over_species: Interval
    """Top-1 with own traits minus the mean of the deals, resampling species whole."""
    p_value: float
    """Share of the deals, own traits counted as one, that do at least as well."""


@dataclass(frozen=True, kw_only=True)
class ZeroShotResult:
    """Whether the traits help a vision-language model to recognise species: all conditions, and their comparison."""

    model: dict[str, Any] = field(default_factory=dict)
    """Everything that the model's embeddings depend on (`CLIPInfo`); empty where it is not known."""
    settings: dict[str, Any]
    """Everything else that the numbers depend on, besides the images."""
    n_classes: int
    n_test: int
    """Test images."""
    n_test_individuals: int
    n_test_species: int
    n_validation: int
    """Validation images."""
    conditions: tuple[Condition, ...]
    """Each with the texts that did best on validation."""
    comparisons: tuple[Comparison, ...]
    names_p_value: float
    """Share of random assignments of the names to the classes that do at least as well as the true one (top-1)."""
    dealt: RandomDeals
    without_traits: tuple[str, ...]
    """Species without a trait of a training image; they keep their name only in every condition."""
    without_common_name: tuple[str, ...] = ()
    names_cut: tuple[str, ...]
    """Species whose name alone exceeds the model's context."""
    same_names: tuple[str, ...]
    """Species whose name another species has too."""

    @computed_field
    @property
    def chance(self) -> float:
        """Top-1 accuracy of guessing."""
        return 1 / self.n_classes

    @computed_field
    @property
    def above_chance(self) -> bool:
        """Whether names or traits do better than those of other species (Holm over the two tests)."""
        return bool(holm([self.names_p_value, self.dealt.p_value]).min() <= SIGNIFICANT)

    @property
    def verdict(self) -> str | None:
        """Why the comparison means little or nothing; None where it may mean something."""
        if self.n_classes < MIN_CLASSES:
            return f"{self.n_classes} classes are too few to tell any result from chance."
        if not self.above_chance:
            return (
                "Neither names nor traits recognise species better than when they are dealt to the species at random: "
                "the model is random, untrained, or knows nothing of these organisms. The comparison means nothing."
            )
        if self.names_p_value > SIGNIFICANT:
            return "The names alone are indistinguishable from chance: the model does not know them."
        return None

    @computed_field
    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know before believing a number; the gravest first."""
        return tuple(_notes(self))

    @property
    def clip(self) -> str:
        """The model: a Hub id, or the name of a local folder."""
        model = self.model.get("model", "")
        return PurePath(model).name if PurePath(model).is_absolute() else model

    def condition(self, name: str) -> Condition:
        return next(condition for condition in self.conditions if condition.name == name)

    def top1(self, name: str) -> Interval | None:
        """Look up the top-1 accuracy of a condition, if it was evaluated."""
        return next((condition.top1 for condition in self.conditions if condition.name == name), None)

    def comparison(self, name: str) -> Comparison:
        """Look up the comparison of one condition with the name only."""
        return next(comparison for comparison in self.comparisons if comparison.condition == name)


def _notes(result: ZeroShotResult) -> list[str]:
    notes = [result.verdict] if result.verdict else []
    tuned = result.condition(NAME_AND_TRAITS)
    if not result.n_validation:
        notes.append(
            f"There is no validation image to tune on: the name weighs {tuned.weight:g} and a class gets at most "
            f"{tuned.n_traits} traits, untuned."
        )
    elif tuned.weight == 1:
        notes.append("On validation the name alone did best: `name + traits` gives the traits no weight.")
    if result.top1(SHUFFLED) is None:
        notes.append("Only one species has traits, so there are no traits of another species to compare with.")
    for species, meaning in (
        (result.without_traits, "without a trait of a training image, kept with the name only"),
        (result.without_common_name, "without a common name, called by the scientific one"),
        (result.names_cut, "whose name is cut, because it exceeds the model's context"),
        (result.same_names, "whose name another species has too, told apart by chance"),
    ):
        if species:
            notes.append(f"{len(species)} of {result.n_classes} species {meaning}: {some(species)}.")
    return notes
