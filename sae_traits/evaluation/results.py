"""What a card quotes of an evaluation: read from RUN/evaluation/results.json, and reduced to the figures it shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from sae_traits.errors import ReleaseError

NAME_ONLY, NAME_AND_TRAITS = "name only", "name + traits"
"""The two conditions of the zero-shot evaluation that say what traits add."""
NONE = "none"
"""A share of nothing."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of a card's table."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class Condition:
    """Share of the test images whose species is recognised by class texts of one kind."""

    name: str
    top1: Estimate


@dataclass(frozen=True, kw_only=True)
class ZeroShot:
    """Whether the traits help a vision-language model to recognise species."""

    clip: str
    """The model: a Hub id, or the name of a local folder."""
    revision: str | None
    n_test: int
    n_classes: int
    chance: float
    conditions: tuple[Condition, ...]
    """Each with the texts that did best on validation."""
    gain: Estimate | None
    """Of name + traits over the name only, resampling species; None where that was not compared."""
    dealt_p_value: float
    """Share of random deals of the traits to the species that do at least as well."""
    above_chance: bool
    notes: tuple[str, ...]
    """What a reader must know before believing a number."""

    def top1(self, condition: str) -> Estimate | None:
        """The score of a condition, if it was evaluated."""
        return next((one.top1 for one in self.conditions if one.name == condition), None)


@dataclass(frozen=True, kw_only=True)
class Results:
    """What was evaluated of a run."""

    quality: tuple[Figure, ...]
    """Failure rates of the descriptions, and how consistent they are."""
    has_controls: bool
    """Whether a sample was asked about again with other regions."""
    on_animal: Estimate | None = None
    """Share of the regions' area on the animal; None where there are no masks."""
    on_animal_at_random: Estimate | None = None
    """The same for regions at random places."""
    zero_shot: ZeroShot | None = None


def read_results(file: Path) -> Results | None:
    """The results of a run; None where it was not evaluated.

    Raises:
        ReleaseError: the file is not one of this version.
    """
    if not file.is_file():
        return None
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        animal, quality = values["on_animal"], values["quality"]
        return Results(
            quality=tuple(_quality(quality)),
            has_controls=quality["controls"] is not None,
            on_animal=_estimate(animal and animal["on_animal"]),
            on_animal_at_random=_estimate(animal and animal["random"]),
            zero_shot=_zero_shot(values["zero_shot"]) if values["zero_shot"] else None,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReleaseError(
            f"cannot read {file} ({type(error).__name__}: {error}); run `sae-traits evaluate {file.parents[1]}` again"
        ) from error


def _estimate(values: Mapping[str, Any] | None) -> Estimate | None:
    """None also where there was nothing to take the mean of, which results.json says as null."""
    if values is None or values["mean"] is None:
        return None
    return Estimate(values["mean"], values["low"], values["high"])


def _quality(quality: Mapping[str, Any]) -> list[Figure]:
    calls, leakage = quality["calls"], quality["leakage"]
    figures = [
        Figure("called background, and left out, of the valid answers", _share(calls["n_background"], calls["n_ok"])),
        Figure("invalid, and left out, of the answers", _share(calls["n_invalid"], calls["n_ok"] + calls["n_invalid"])),
        Figure("failed, of the calls", _share(calls["n_failed"], calls["n_calls"] - calls["n_pending"])),
    ]
    if leakage["n_traits"]:
        share = _share(leakage["n_any"], leakage["n_traits"])
        figures.append(Figure("with the species' own name in it, of the descriptions", share))
    figures += [
        Figure(
            f"species and latents whose images contradict each other in {one['facet']}",
            _share(one["n_contradictory"], one["n_groups"]),
        )
        for one in quality["contradictions"]
        if one["n_groups"]
    ]
    figures += [
        Figure(
            f"pairs of a species' images with the same {one['facet']} at the same latent (any two descriptions)",
            f"{one['share']:.1%} ({one['chance']:.1%})",
        )
        for one in quality["agreement"]
    ]
    return figures + [
        Figure(
            f"changed answers, or background, when asked again with {_CONTROLS[score['kind']]}",
            _share(score["n_changed"], score["n_answered"]),
        )
        for score in (quality["controls"] or {"scores": ()})["scores"]
    ]


_CONTROLS = {
    "same": "the same region",
    "swapped": "the region of another image",
    "blank": "a region in a corner of the image",
}


def _share(n: int, of: int) -> str:
    return f"{n / of:.1%} ({n:,} of {of:,})" if of else NONE


def _zero_shot(values: Mapping[str, Any]) -> ZeroShot:
    clip, protocol = values["clip"], values["protocol"]
    comparisons = {one["condition"]: one["over_species"] for one in values["comparisons"]}
    scores = ((one["condition"], _estimate(one["top"]["1"])) for one in values["conditions"])
    return ZeroShot(
        clip=PurePath(clip["model"]).name if PurePath(clip["model"]).is_absolute() else clip["model"],
        revision=clip["revision"],
        n_test=protocol["n_test"],
        n_classes=protocol["n_classes"],
        chance=protocol["chance"],
        conditions=tuple(Condition(name, top1) for name, top1 in scores if top1 is not None),
        gain=_estimate(comparisons.get(NAME_AND_TRAITS)),
        dealt_p_value=values["dealt"]["p_value"],
        above_chance=values["above_chance"],
        notes=tuple(values["notes"]),
    )
