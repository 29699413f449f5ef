"""Do the regions lie on parts of the organism, and better so than those of other dictionaries?"""

from __future__ import annotations

import math
from dataclasses import replace

from sae_traits.evaluation.evidence import Evidence
from sae_traits.evaluation.part_evidence import MEASURES, PartEvidence
from sae_traits.evaluation.part_measuring import measure_parts
from sae_traits.evaluation.part_truth import PartTruth

SUMMARY = ("inside_significant", "purity", "held_out_part_learnt", "location")
"""Measures that the terminal shows after an evaluation."""
_READ = {
    "location": " (1: a latent always at one place of the organism; 0 or less: anywhere)",
    "repeats": " (1: a latent in held-out images always at its place of the organism; 0 or less: anywhere)",
}
"""How to read a number that does not say so itself."""
_IN_WORDS = {"random": "random directions", "k_means": "k-means", "pca": "PCA", "nmf": "NMF"}
"""Dictionaries besides the run's own."""


class Parts:
    """Measures part evidence against the masks and boxes of the collection, or shows what `parts` measured."""

    name, heading, result = "parts", "Regions on parts of the organism", PartEvidence

    def run(self, evidence: Evidence) -> PartEvidence | None:
        """Give what the command `parts` measured, or measure; None where regions have no latents or labels.

        Where the collection has neither masks nor boxes no baselines are fitted: only the place is measured then.
        """
        if evidence.part_evidence is not None:
            return evidence.part_evidence
        truth = PartTruth(evidence.collection)
        if evidence.part_methods is None or evidence.plan_with is None:
            return None
        measured = measure_parts(
            evidence.part_methods(truth.is_known),
            evidence.collection,
            evidence.backbone,
            truth,
            evidence.plan_with,
        )
        return replace(measured, note=evidence.part_note)

    def lines(self, result: PartEvidence) -> list[str]:
        """Say the measures of SUMMARY, the run's beside the baselines', and the null; the tables are for the report."""
        own, *others = result.methods
        measures = result.methods[own].measures
        lines = [] if result.note is None else [f"parts     {result.note}"]
        perfect = result.location_of_parts
        read = _READ if math.isnan(perfect) else _READ | {"location": f" (a perfect detector of parts: {perfect:.3f})"}
        for measure in [name for name in measures if name in SUMMARY] or measures:
            values = {name: result.value(name, measure) for name in others}
            beside = [f"{of:.3f} of {_IN_WORDS.get(name, name)}" for name, of in values.items() if not math.isnan(of)]
            against = f", against {', '.join(beside)}" if beside else ""
            lines.append(
                f"parts     {MEASURES[measure]}: {measures[measure].value:.3f}{against}{read.get(measure, '')}"
            )
        if result.below_chance is not None:
            lines.append(f"parts     area inside the organism: {result.below_chance}")
        shuffled, true = result.shuffled_labels, result.labels
        null = f"{shuffled.n_significant:,} pairs of species and latent pass the test, {shuffled.n_regions:,} regions"
        lines.append(
            f"check     with shuffled labels {null}; with the labels {true.n_significant:,}, {true.n_regions:,}"
        )
        return lines
