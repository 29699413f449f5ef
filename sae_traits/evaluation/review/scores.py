"""What the answers of several raters come to: scores that can be compared, agreement, and how many more are needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sae_traits.evaluation.measures.agreement import Level, krippendorff_alpha
from sae_traits.evaluation.review.ratings import Rating
from sae_traits.evaluation.review.sheets import CONTROLS, OTHER_PLACE, OTHER_SENTENCE, TRAIT, Item
from sae_traits.evaluation.statistics import LEVEL, Interval, bootstrap_interval
from sae_traits.schema import Reviewed

MIN_ANSWERS = 5
"""Fewer that are all the same may be chance."""
N_RESAMPLES = 500
_MEANING = {
    TRAIT: "the release's own traits",
    OTHER_SENTENCE: "control: with the sentence of another species",
    OTHER_PLACE: "control: at a random place of the image",
}

Answered = tuple[str, Item, Mapping[str, Rating]]
"""The sheet, an item of it, and what each rater said of that."""


@dataclass(frozen=True, kw_only=True)
class Rater:
    """One person."""

    name: str
    n_items: int
    mean_score: float
    accepted: float
    """Share of the items with a verdict."""
    always_same: bool
    """Of such a rater nothing counts, since among the items are some that are wrong on purpose."""


@dataclass(frozen=True, kw_only=True)
class KindOfItem:
    """What was said of the items of one kind; intervals are over individuals."""

    kind: str
    n_items: int
    n_ratings: int
    score: Interval
    """1 to 5, normalised."""
    accepted: Interval
    """Share of the verdicts of an item, the mean over items."""

    def __str__(self) -> str:
        meaning = _MEANING.get(self.kind, "another run")
        return f"{self.kind:<18}{self.n_items:>6}   {self.score!s:<24}{self.accepted!s:<24}{meaning}"


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a review came to."""

    raters: tuple[Rater, ...]
    kinds: tuple[KindOfItem, ...]
    """The release's own traits first."""
    alpha_score: Interval
    """Krippendorff's alpha of the scores as ranks; the interval is over items."""
    alpha_verdict: Interval
    half_width: float
    """That the interval of the mean score is wanted to have."""
    more_needed: int | None
    """Traits that have to be reviewed besides for that; None where nothing can be said."""

    def lines(self, *, is_public: bool = False) -> list[str]:
        """For the terminal, or for a card, which names no rater."""
        names = [f"rater {i + 1}" if is_public else one.name for i, one in enumerate(self.raters)]
        lines = [
            f"{name}: {one.n_items} items, mean score {one.mean_score:.2f}, {one.accepted:.0%} accepted"
            + (" – ALWAYS THE SAME ANSWER, left out of all that follows" if one.always_same else "")
            for name, one in zip(names, self.raters, strict=True)
        ]
        lines += ["", f"{'':<18}{'items':>6}   {'score, 1 to 5':<24}{'accepted':<24}", *map(str, self.kinds), ""]
        lines += [f"agreement (Krippendorff's alpha): scores {self.alpha_score}, verdicts {self.alpha_verdict}"]
        if self.more_needed is not None:
            lines.append(
                f"for a mean score within {self.half_width:g} of the truth (95 %): "
                + (f"{self.more_needed} more traits" if self.more_needed else "no more traits")
            )
        return lines


def score_review(answered: Sequence[Answered], *, half_width: float = 0.25) -> Scores:
    """Score what raters answered.

    Args:
        answered: items of all sheets, with what each rater said; those that nobody has answered may be among them.
        half_width: of the interval around the mean score of the traits that is wanted.
    """
    raters, scores, verdicts = _counted(answered)
    kinds = [item.kind for _, item, _ in answered]
    order = [TRAIT, *CONTROLS, *sorted({*kinds} - {TRAIT, *CONTROLS})]
    individuals = np.array([item.individual_id for _, item, _ in answered])
    score_of_item, accepted_of_item = _mean(normalised(scores)), _mean(verdicts)
    found = []
    for kind in order:
        columns = np.array([one == kind for one in kinds], dtype=bool)
        rated = columns & ~np.isnan(score_of_item)
        judged = columns & ~np.isnan(accepted_of_item)
        if rated.any() or judged.any():
            found.append(
                KindOfItem(
                    kind=kind,
                    n_items=int((rated | judged).sum()),
                    n_ratings=int((~np.isnan(scores[:, columns])).sum()),
                    score=bootstrap_interval(score_of_item[rated], groups=individuals[rated]),
                    accepted=bootstrap_interval(accepted_of_item[judged], groups=individuals[judged]),
                )
            )
    own = np.array([kind == TRAIT for kind in kinds], dtype=bool) & ~np.isnan(score_of_item)
    return Scores(
        raters=raters,
        kinds=tuple(found),
        alpha_score=alpha_interval(scores, "ordinal"),
        alpha_verdict=alpha_interval(verdicts, "nominal"),
        half_width=half_width,
        more_needed=more_needed(score_of_item[own], half_width),
    )


def normalised(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores less their rater's mean, plus the mean over raters: a strict and a lenient rater can be compared.

    Args:
        scores: `[n_raters, n_items]`, NaN where a rater said nothing.

    Source: Pahuja et al. 2026 give expert scores normalised by annotator mean; taken here as a difference, so that
    they stay on the scale from 1 to 5.
    """
    means = _mean(scores.T)
    return scores - means[:, None] + (np.nanmean(means) if np.isfinite(means).any() else math.nan)


def alpha_interval(ratings: NDArray[np.float64], level: Level) -> Interval:
    """Krippendorff's alpha of `[n_raters, n_items]`, with a percentile bootstrap interval over items."""
    several = ratings[:, (~np.isnan(ratings)).sum(axis=0) > 1]
    n_items = several.shape[1]
    alpha = krippendorff_alpha(several, level)
    if n_items < 2 or math.isnan(alpha):
        return Interval(alpha, math.nan, math.nan, n_items)
    random = np.random.default_rng(0)
    drawn = [krippendorff_alpha(several[:, random.integers(n_items, size=n_items)], level) for _ in range(N_RESAMPLES)]
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(alpha, float(low), float(high), n_items)


def more_needed(scores: NDArray[np.float64], half_width: float) -> int | None:
    """How many items are needed besides for a 95 % interval of that half width around their mean.

    None with fewer than two items, whose spread is not known.
    """
    if len(scores) < 2:
        return None
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    return max(0, math.ceil((z * float(np.std(scores, ddof=1)) / half_width) ** 2) - len(scores))


def reviewed_traits(answered: Sequence[Answered]) -> dict[tuple[str, str], Reviewed]:
    """Trait and hash of its content -> what raters made of it, for those that were reviewed as they are in a release.

    Raters who always answer the same do not count.
    """
    _, scores, verdicts = _counted(answered)
    score_of_item, accepted_of_item = _mean(normalised(scores)), _mean(verdicts)
    found = {}
    for column, (sheet, item, _) in enumerate(answered):
        n_raters = int((~np.isnan(verdicts[:, column])).sum())
        if item.kind != TRAIT or not n_raters:
            continue
        share = float(accepted_of_item[column])
        score = float(score_of_item[column])
        found[item.trait_id, item.content] = Reviewed(
            verdict="disputed" if share == 0.5 else "accepted" if share > 0.5 else "rejected",
            score=None if math.isnan(score) else score,
            n_raters=n_raters,
            sheet=sheet,
        )
    return found


def _counted(
    answered: Sequence[Answered],
) -> tuple[tuple[Rater, ...], NDArray[np.float64], NDArray[np.float64]]:
    """All raters, and what those said who do not always answer the same.

    Scores, and verdicts as 1 for accepted and 0 for rejected, each `[n_counted, n_items]` with NaN for none.
    """
    names = sorted({name for _, _, said in answered for name in said})
    scores = np.full((len(names), len(answered)), math.nan)
    verdicts = scores.copy()
    for column, (_, _, said) in enumerate(answered):
        for row, name in enumerate(names):
            if (rating := said.get(name)) is not None:
                scores[row, column] = math.nan if rating.score is None else rating.score
                verdicts[row, column] = math.nan if rating.verdict is None else rating.verdict == "accepted"
    raters = tuple(_rater(name, *row) for name, *row in zip(names, scores, verdicts, strict=True))
    counted = [row for row, rater in enumerate(raters) if not rater.always_same]
    return raters, scores[counted], verdicts[counted]


def _rater(name: str, scores: NDArray[np.float64], verdicts: NDArray[np.float64]) -> Rater:
    said = ~(np.isnan(scores) & np.isnan(verdicts))
    different = {tuple(pair) for pair in np.nan_to_num(np.stack([scores, verdicts], axis=1)[said], nan=-1).tolist()}
    return Rater(
        name=name,
        n_items=int(said.sum()),
        mean_score=float(_mean(scores[:, None])[0]),
        accepted=float(_mean(verdicts[:, None])[0]),
        always_same=len(different) == 1 and int(said.sum()) >= MIN_ANSWERS,
    )


def _mean(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of every column without NaN; NaN for one that has nothing else."""
    n = (~np.isnan(table)).sum(axis=0)
    return np.divide(np.nansum(table, axis=0), n, out=np.full(n.shape, math.nan), where=n > 0)
