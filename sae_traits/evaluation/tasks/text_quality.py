"""How good are the descriptions, as far as that shows without a truth? Assessed by `traits.quality`."""

from __future__ import annotations

from sae_traits.evaluation.evidence import Evidence
from sae_traits.traits.quality import Quality, assess_quality


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
        """Say how many sentences tell no species apart; no single number sums the quality up."""
        shared = result.shared
        if shared.n_species < 2:
            return []
        return [f"sentences {shared.n_shared / shared.n_traits:.0%} of them are said of another species, too"]
