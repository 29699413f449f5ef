"""Do the regions lie on parts of the organism, and better so than those of other dictionaries?"""

from __future__ import annotations

import math

from sae_traits.evaluation.evidence import Evidence
from sae_traits.evaluation.part_evidence import MEASURES, PartEvidence, measure_parts
from sae_traits.evaluation.part_truth import PartTruth

SUMMARY = ("inside_significant", "purity", "held_out_part_learnt", "location")
"""Measures that the terminal shows after an evaluation."""
_IN_WORDS = {"random": "random directions", "k_means": "k-means", "pca": "PCA", "nmf": "NMF"}
"""Dictionaries besides the run's own."""


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
        """Say the measures of SUMMARY, the run's beside the baselines'; the tables are for the report."""
        own, *others = result.methods
        lines = []
        for measure, value in result.methods[own].measures.items():
            if measure in SUMMARY:
                values = {name: result.value(name, measure) for name in others}
                beside = [
                    f"{of:.3f} of {_IN_WORDS.get(name, name)}" for name, of in values.items() if not math.isnan(of)
                ]
                against = f", against {', '.join(beside)}" if beside else ""
                lines.append(f"parts     {MEASURES[measure]}: {value.value:.3f}{against}")
        return lines
