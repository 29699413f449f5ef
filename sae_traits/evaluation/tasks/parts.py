"""Do the regions lie on parts of the organism, and better so than those of other dictionaries?"""

from __future__ import annotations

from sae_traits.evaluation.evidence import Evidence
from sae_traits.evaluation.part_evidence import PartEvidence, measure_parts
from sae_traits.evaluation.part_truth import PartTruth


class Parts:
    """Measures part evidence against the masks and boxes of the collection, or shows what `parts` measured."""

    name, heading, result = "parts", "Regions on parts of the organism", PartEvidence

    def run(self, evidence: Evidence) -> PartEvidence | None:
        """Give what the command `parts` measured; or measure, None where the collection has neither masks nor boxes."""
        if evidence.part_evidence is not None:
            return evidence.part_evidence
        truth = PartTruth(evidence.collection)
        if evidence.part_methods is None or evidence.plan_with is None or not truth.is_known:
            return None
        return measure_parts(
            evidence.part_methods(),
            evidence.collection,
            evidence.backbone,
            truth,
            evidence.plan_with,
            seed=evidence.seed,
        )

    def lines(self, result: PartEvidence) -> list[str]:
        """Say the measures of every method as a table, the differences, and what shuffled labels give."""
        return result.lines()
