"""What cards read of an evaluation's results, with numbers of which each stands once."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class SmallEstimate:
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class SmallFigure:
    name: str
    value: str


@dataclass(frozen=True)
class SmallCondition:
    name: str
    top1: SmallEstimate


@dataclass(frozen=True, kw_only=True)
class SmallZeroShot:
    """The attributes of a zero-shot result that cards read."""

    clip: str = "imageomics/bioclip"
    revision: str | None = "0123abcd"
    n_test: int = 80
    n_classes: int = 16
    chance: float = 0.0625
    conditions: tuple[SmallCondition, ...] = (
        SmallCondition("name only", SmallEstimate(0.3, 0.2, 0.4)),
        SmallCondition("name + traits", SmallEstimate(0.35, 0.25, 0.45)),
        SmallCondition("name + filler", SmallEstimate(0.31, 0.2, 0.4)),
    )
    gain: SmallEstimate | None = SmallEstimate(0.05, -0.01, 0.11)
    dealt_p_value: float = 0.125
    notes: tuple[str, ...] = ("Three species have no traits.",)

    def top1(self, name: str) -> SmallEstimate | None:
        return next((condition.top1 for condition in self.conditions if condition.name == name), None)


@dataclass(frozen=True, kw_only=True)
class SmallResults:
    """The attributes of `Results` that cards read."""

    quality: tuple[SmallFigure, ...] = (SmallFigure("invalid, and left out, of the answers", "3.0% (3 of 100)"),)
    has_controls: bool = False
    on_animal: SmallEstimate | None = SmallEstimate(0.91, 0.9, 0.92)
    on_animal_at_random: SmallEstimate | None = SmallEstimate(0.25, 0.2, 0.3)
    zero_shot: SmallZeroShot = SmallZeroShot()


RESULTS = SmallResults()


def hostile_results(text: str) -> SmallResults:
    """Results whose every text is `text`."""
    zero_shot = replace(RESULTS.zero_shot, clip=text, revision=text, notes=(text,))
    return replace(RESULTS, quality=(SmallFigure(text, text),), zero_shot=zero_shot)
