"""Can a trait be relied on to tell a species from its relatives? One rule, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sae_traits.evaluation.species_tallies import MIN_INDIVIDUALS
from sae_traits.schema import Contrast
from sae_traits.traits.chosen import MAX_BACKGROUND

Word = Literal["trust", "look first", "do not use", "not compared"]

MIN_SHARE = 0.5
"""A trait to trust is in at least this share of the species' individuals."""
MIN_RATIO = 2.0
"""And at least so many times as frequent as in its relatives."""
MIN_ON_ORGANISM = 0.5
"""Of the area of its regions where masks or boxes say so; with less it is a trait of what is beside the organism."""
RULES: dict[Word, str] = {
    "trust": "significant, in at least half of the species' individuals, and at least twice as often as in relatives; "
    "the same among those that were held out, where there are any; with regions in at least "
    f"{MIN_INDIVIDUALS} individuals; with a word that tells the species from its relatives; and background told from "
    "organism, or masks or boxes that say where they lie",
    "look first": "not all of these hold: look at more images before you rely on it",
    "do not use": "neither significant nor twice as often; more likely of the background than of the organism; or, by "
    "masks or boxes, more beside the organism than on it",
    "not compared": "regions without latents, or without a contrast, tell nothing of relatives",
}
"""What each word of a verdict stands for, the best first."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether to rely on a trait, and what speaks against it."""

    word: Word
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.word}: {', '.join(self.reasons)}" if self.reasons else self.word


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What was observed of a latent in a species, beside its contrast."""

    background: float | None = None
    """How likely it is of the background, 0 to 1; None where that is not known."""
    held_out: tuple[float, float | None] | None = None
    """Share of the species' and of its relatives' individuals, of those from which nothing was learnt or chosen; None
    where there are none of the species, or of its relatives."""
    n_individuals: int | None = None
    """Of the species, with a region of it; None where regions are not counted."""
    on_organism: float | None = None
    """Share of its regions' area that lies on the organism by masks or boxes; None where there are none."""
    is_told: bool = False
    """Whether a word that is said of its regions tells the species from its relatives: see `TellingWords`."""


def judge(contrast: Contrast | None, observed: Observed) -> Verdict:
    """Judge a latent of a species by its contrast with the species' closest relatives, and by what else is known.

    Args:
        contrast: of the default kind; one that was not tested is never trusted.
        observed: of the same latent and species.
    """
    if contrast is None:
        return Verdict("not compared")
    is_background = observed.background is not None and observed.background > MAX_BACKGROUND
    is_beside = observed.on_organism is not None and observed.on_organism < MIN_ON_ORGANISM
    is_frequent, is_distinct = contrast.f_species >= MIN_SHARE, contrast.f_species >= MIN_RATIO * contrast.f_reference
    own, others = observed.held_out or (None, None)
    is_found_again = own is None or (own >= MIN_SHARE and (others is None or own >= MIN_RATIO * others))
    against = {
        "beside the organism": is_beside,
        "likely background": is_background,
        "background not known": observed.background is None and observed.on_organism is None,
        "not significant": not contrast.significant,
        "in less than half": not is_frequent,
        "less than twice as often": not is_distinct,
        "not so in held-out individuals": not is_found_again,
        "regions in few individuals": observed.n_individuals is not None and observed.n_individuals < MIN_INDIVIDUALS,
        "no word says how it differs": not observed.is_told,
    }
    reasons = tuple(reason for reason, holds in against.items() if holds)
    if is_background or is_beside or not (contrast.significant or is_distinct):
        return Verdict("do not use", reasons)
    return Verdict("look first" if reasons else "trust", reasons)


def rank(contrast: Contrast | None, observed: Observed) -> tuple[int, int, float]:
    """Order latents of a species by what they can be used for, the smallest first.

    By verdict, then by how many reasons speak against it, then by difference. The difference is that of the two shares:
    unlike an effect, it is never large for a latent of few individuals. It is rounded: shares of a dataset, which
    are stored with fewer digits, give the same order.
    """
    difference = 0.0 if contrast is None else contrast.f_species - contrast.f_reference
    verdict = judge(contrast, observed)
    return list(RULES).index(verdict.word), len(verdict.reasons), -round(difference, 6)
