"""Zero-shot classification with and without traits, as a module of Hugging Face's `evaluate`."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np

from sae_traits.evaluation.measures.classification import macro
from sae_traits.evaluation.ranking import count_places, top_credit
from sae_traits.evaluation.statistics import bootstrap_interval, mcnemar, paired_difference

_DESCRIPTION = """\
How often an image is next to the text of its class, with 95 % intervals, and whether texts with traits do better than
names alone on the same images. Computed by the functions of sae-traits.
"""
_INPUTS = """
Args:
    predictions: of each image the number of the class that it was given, or its similarity to every class text
        (cosines; classes whose similarities differ by less than 1e-6 tie, and share the credit).
    references: number of the true class of each image.
    names_only: predictions, of the same kind, with texts that say the names alone; adds the difference to them.
    individuals: which organism each image shows; intervals resample individuals. Without it every image is its own.
    seed: of the bootstrap.
Returns:
    top1, top1_low, top1_high, top1_macro (mean over classes); top3 and top5 where predictions are similarities of
    more classes; with names_only also names_only_top1, gain (top1 minus that), its interval over individuals
    (gain_low, gain_high) and over classes resampled whole (gain_over_classes_low, gain_over_classes_high), and
    mcnemar_p.
Examples:
    >>> metric = evaluate.load("metrics/trait_zero_shot")
    >>> with_traits, with_names = [[0.2, 0.1], [0.1, 0.3]], [[0.2, 0.1], [0.3, 0.1]]
    >>> metric.compute(predictions=with_traits, references=[0, 1], names_only=with_names)["gain"]
    0.5
"""
_CITATION = """\
@software{sae_traits, title = {sae-traits}, author = {{The sae-traits authors}}, year = {2026}}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class TraitZeroShot(evaluate.Metric):
    """Scores zero-shot classification, and the gain by traits."""

    def _info(self) -> evaluate.MetricInfo:
        label = datasets.Value("int64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=[
                datasets.Features({"predictions": label, "references": label}),
                datasets.Features({"predictions": datasets.List(datasets.Value("float64")), "references": label}),
            ],
        )

    def _compute(
        self,
        predictions: Any,
        references: Any,
        names_only: Any = None,
        individuals: Any = None,
        seed: int = 0,
    ) -> dict[str, float]:
        truth = np.asarray(references)
        credit = _credit(predictions, truth)
        interval = bootstrap_interval(credit[1], groups=individuals, seed=seed)
        found = {"top1": interval.mean, "top1_low": interval.low, "top1_high": interval.high}
        found["top1_macro"] = macro(credit[1], truth)
        found |= {f"top{k}": float(credit[k].mean()) for k in credit if k > 1}
        if names_only is not None:
            names = _credit(names_only, truth)[1]
            gain = paired_difference(names, credit[1], groups=individuals, seed=seed)
            over_classes = paired_difference(names, credit[1], groups=truth, seed=seed)
            found |= {
                "names_only_top1": float(names.mean()),
                "gain": gain.mean,
                "gain_low": gain.low,
                "gain_high": gain.high,
                "gain_over_classes_low": over_classes.low,
                "gain_over_classes_high": over_classes.high,
                "mcnemar_p": mcnemar(names == 1, credit[1] == 1, groups=individuals).p_value,
            }
        return found


def _credit(predictions: Any, truth: np.ndarray) -> dict[int, np.ndarray]:
    """Of each k the credit of every image: 1 where the true class is among the first k, a share under ties."""
    given = np.asarray(predictions)
    if given.ndim == 1:
        return {1: (given == truth).astype(np.float64)}
    places = count_places(given.T, given[np.arange(len(truth)), truth])
    return {k: top_credit(*places, k) for k in (1, 3, 5) if k == 1 or k < given.shape[1]}
