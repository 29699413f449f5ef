"""What a zero-shot evaluation found: for results.json, and as Markdown for report.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sae_traits.evaluation.statistics import Interval, McNemar, holm

NAME_ONLY = "name only"
NAME_AND_TRAITS = "name + traits"
TRAITS_ONLY = "traits only"
SHUFFLED = "name + another species' traits"
FILLER = "name + filler"
TOP = (1, 3, 5)
SIGNIFICANT = 0.05
FEWEST_CLASSES = 5
"""With fewer, no assignment of texts to classes is rare enough to differ from chance."""


@dataclass(frozen=True, kw_only=True)
class ConditionScore:
    """How well the test images are classified with one kind of class text."""

    condition: str
    top: dict[int, Interval]
    """k -> share of the images whose species is among the first k; intervals resample images."""
    macro: dict[int, float]
    """The same, as the mean over species."""
    weight: float | None
    """Of the name; None where there is nothing to mix."""
    n_traits: int | None
    """At most this many a class; None for the name alone."""
    validation_top1: float | None
    """With these, on the images that they were chosen with; None without such."""
    n_with_traits: int
    """Classes that say a trait (or its stand-in); the others say their name only."""
    left_out: dict[str, int]
    """Species -> how many of these traits do not fit into the model's context."""
    example: str | None
    """The text of a class, in the first template; None where no trait fits."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {
            "top": {str(k): interval.to_dict() for k, interval in self.top.items()},
            "macro": {str(k): value for k, value in self.macro.items()},
        }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Top-1 accuracy of a condition minus that of the name only, on the same images."""

    condition: str
    difference: Interval
    """Resampling images: the species are these."""
    over_species: Interval
    """Resampling species whole: the species are a sample of those that the traits could be used for."""
    mcnemar: McNemar
    """First: name only; second: the condition."""
    holm_p_value: float
    """McNemar's, adjusted for the number of comparisons."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"difference": self.difference.to_dict(), "over_species": self.over_species.to_dict()}


@dataclass(frozen=True, kw_only=True)
class RandomDeals:
    """Name + own traits against name + traits that are dealt to the species at random, chosen anew each time."""

    top1: tuple[float, ...]
    """Accuracy of every deal."""
    over_species: Interval
    """Top-1 with own traits minus the mean of the deals, resampling species whole."""
    p_value: float
    """Share of the deals, own traits counted as one, that do at least as well."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"over_species": self.over_species.to_dict()}


@dataclass(frozen=True, kw_only=True)
class ZeroShotResults:
    """All conditions of one run, and how they were compared."""

    protocol: dict[str, Any]
    conditions: tuple[ConditionScore, ...]
    comparisons: tuple[Comparison, ...]
    names_p_value: float
    """Share of random assignments of the names to the classes that do at least as well as the true one (top-1)."""
    dealt: RandomDeals
    without_traits: tuple[str, ...]
    """Species without a trait of a training image; they keep their name only in every condition."""
    without_common_name: tuple[str, ...]
    names_cut: tuple[str, ...]
    """Species whose name alone exceeds the model's context."""
    same_names: tuple[str, ...]
    """Species whose name another species has too."""

    @property
    def above_chance(self) -> bool:
        """Whether names or traits do better than those of other species (Holm over the two tests)."""
        return bool(holm([self.names_p_value, self.dealt.p_value]).min() <= SIGNIFICANT)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for results.json."""
        return asdict(self) | {
            "conditions": [score.to_dict() for score in self.conditions],
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "dealt": self.dealt.to_dict(),
            "above_chance": self.above_chance,
            "notes": notes(self),
        }

    def score(self, condition: str) -> ConditionScore:
        """The score of one condition."""
        return next(score for score in self.conditions if score.condition == condition)

    def comparison(self, condition: str) -> Comparison:
        """The comparison of one condition with the name only."""
        return next(comparison for comparison in self.comparisons if comparison.condition == condition)


def notes(results: ZeroShotResults) -> list[str]:
    """What a reader must know before believing a number; the gravest first."""
    protocol, found = results.protocol, []
    if protocol["n_classes"] < FEWEST_CLASSES:
        found.append(f"{protocol['n_classes']} classes are too few to tell any result from chance.")
    elif not results.above_chance:
        found.append(
            "Neither names nor traits recognise species better than when they are dealt to the species at random: the "
            "model is random, untrained, or knows nothing of these organisms. The comparison means nothing."
        )
    elif results.names_p_value > SIGNIFICANT:
        found.append("The names alone are indistinguishable from chance: the model does not know them.")
    if not protocol["n_validation"]:
        found.append(
            "There is no validation image to tune on: the name weighs "
            f"{results.score(NAME_AND_TRAITS).weight:g} and a class gets at most "
            f"{results.score(NAME_AND_TRAITS).n_traits} traits, untuned."
        )
    elif results.score(NAME_AND_TRAITS).weight == 1:
        found.append("On validation the name alone did best: `name + traits` gives the traits no weight.")
    if SHUFFLED not in {score.condition for score in results.conditions}:
        found.append("Only one species has traits, so there are no traits of another species to compare with.")
    for species, meaning in (
        (results.without_traits, "without a trait of a training image, kept with the name only"),
        (results.without_common_name, "without a common name, called by the scientific one"),
        (results.names_cut, "whose name is cut, because it exceeds the model's context"),
        (results.same_names, "whose name another species has too, told apart by chance"),
    ):
        if species:
            found.append(f"{len(species)} of {protocol['n_classes']} species {meaning}: {_some(species)}.")
    return found


def report_lines(results: ZeroShotResults) -> list[str]:
    """The results as lines of Markdown."""
    return [
        *(f"**Note:** {note}\n" for note in notes(results)),
        *_protocol_lines(results.protocol),
        "",
        *_condition_lines(results),
        "",
        *_comparison_lines(results.comparisons),
        "",
        *_dealt_lines(results),
    ]


def _protocol_lines(protocol: dict[str, Any]) -> list[str]:
    tuned = (
        f"chosen by top-1 on {protocol['n_validation']} validation images, each condition for itself"
        if protocol["n_validation"]
        else "not tuned"
    )
    return [
        f"{protocol['n_test']} test images of {protocol['n_test_species']} species, classified among the "
        f"{protocol['n_classes']} species of the collection (chance {protocol['chance']:.3f}).",
        "",
        f"- Model: {protocol['clip']}. Names: `{protocol['text_type']}`; templates: `{protocol['templates']}` "
        f"({protocol['n_templates']}); traits: `{protocol['trait_text']}`, of training images only.",
        "- Class text: normalise(weight x name + (1 - weight) x traits). Weight and number of traits: "
        f"{tuned}; seed {protocol['seed']}.",
        "- Equal similarities are ranked at random. Intervals: 95 %, bootstrap over images, where it does not say "
        "over species.",
    ]


def _condition_lines(results: ZeroShotResults) -> list[str]:
    lines = [
        "| condition | top-1 | top-3 | top-5 | macro top-1, 3, 5 | weight of the name "
        "| traits a species, at most | species with traits | traits left out |",
        "| --- " * 9 + "|",
    ]
    for score in results.conditions:
        cells = [
            score.condition,
            *(str(score.top[k]) for k in TOP),
            ", ".join(f"{score.macro[k]:.3f}" for k in TOP),
            "" if score.weight is None else f"{score.weight:g}",
            "" if score.n_traits is None else str(score.n_traits),
            "" if score.n_traits is None else str(score.n_with_traits),
            "" if score.n_traits is None else str(sum(score.left_out.values())),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Traits are left out where they exceed the model's context. Examples of a class text:", ""]
    return lines + [f"- {score.condition}: “{score.example}”" for score in results.conditions if score.example]


def _comparison_lines(comparisons: Sequence[Comparison]) -> list[str]:
    lines = [
        "| against the name only | difference in top-1 | over species | only the name right | only this right "
        "| p (McNemar) | p (Holm) |",
        "| --- " * 7 + "|",
    ]
    for comparison in comparisons:
        test = comparison.mcnemar
        cells = [
            comparison.condition,
            str(comparison.difference),
            str(comparison.over_species),
            str(test.only_first),
            str(test.only_second),
            _p(test.p_value),
            _p(comparison.holm_p_value),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return [
        *lines,
        "",
        "McNemar's test is exact; Holm's correction is over these comparisons. They and the interval over images "
        "say whether two sets of texts differ on these very species, which they may by luck: images of a species "
        "look alike. Whether traits help is for the interval over species, which draws species whole, and for the "
        "random deals.",
    ]


def _dealt_lines(results: ZeroShotResults) -> list[str]:
    dealt = results.dealt
    return [
        f"**Random deals.** Traits dealt to the species at random, {len(dealt.top1)} times, weight and number chosen "
        f"anew each time: top-1 {sum(dealt.top1) / len(dealt.top1):.3f} on average, {max(dealt.top1):.3f} at best, "
        f"against {results.score(NAME_AND_TRAITS).top[1].mean:.3f} with own traits; difference {dealt.over_species} "
        f"over species, p = {_p(dealt.p_value)}. Names dealt at random: p = {_p(results.names_p_value)} for the name "
        "only.",
    ]


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
