"""How good are the descriptions, as far as that shows without a truth? Assessed by `traits.quality`."""

from __future__ import annotations

from dataclasses import dataclass

from sae_traits.evaluation.evidence import Evidence
from sae_traits.traits.quality import Quality, assess_quality

_ASKED_AGAIN = {
    "same": "the same region",
    "swapped": "the region of another image",
    "blank": "a region in a corner of the image",
}


class TextQuality:
    """Failures of the describer, and consistency of what it says."""

    name, heading, result = "text_quality", "Quality of the descriptions", Quality

    def run(self, evidence: Evidence) -> Quality | None:
        """Assess the descriptions; None where the ledger of the calls is not at hand."""
        if evidence.ledger is None or evidence.describer is None:
            return None
        return assess_quality(
            evidence.traits, evidence.ledger, evidence.collection, evidence.describer, evidence.faithfulness
        )

    def lines(self, result: Quality) -> list[str]:
        """Say nothing: no single number sums the quality up."""
        return []


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of a card's table."""

    name: str
    value: str


def quality_figures(quality: Quality) -> tuple[Figure, ...]:
    """Pick the failure rates of the descriptions, and how consistent they are, for a card."""
    calls, leakage = quality.calls, quality.leakage
    figures = [
        Figure("called background, and left out, of the valid answers", _share(calls.n_background, calls.n_ok)),
        Figure("invalid, and left out, of the answers", _share(calls.n_invalid, calls.n_ok + calls.n_invalid)),
        Figure("failed, of the calls", _share(calls.n_failed, calls.n_calls - calls.n_pending)),
    ]
    if leakage.n_traits:
        share = _share(leakage.n_any, leakage.n_traits)
        figures.append(Figure("with the species' own name in it, of the descriptions", share))
    figures += [
        Figure(
            f"species and latents whose images contradict each other in {facet.facet}",
            _share(facet.n_contradictory, facet.n_groups),
        )
        for facet in quality.contradictions
        if facet.n_groups
    ]
    figures += [
        Figure(
            f"pairs of a species' images with the same {facet.facet} at the same latent (any two descriptions)",
            f"{facet.share:.1%} ({facet.chance:.1%})",
        )
        for facet in quality.agreement
    ]
    figures += [
        Figure(
            f"changed answers, or background, when asked again with {_ASKED_AGAIN[score.kind]}",
            _share(score.n_changed, score.n_answered),
        )
        for score in (quality.faithfulness.scores if quality.faithfulness else ())
    ]
    return tuple(figures)


def _share(n: int, of: int) -> str:
    return f"{n / of:.1%} ({n:,} of {of:,})" if of else "none"
