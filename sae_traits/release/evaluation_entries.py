"""The scores of a run as the Hub reads them: `model-index` in a model card, and `.eval_results/*.yaml`.

The two say the same. Of `.eval_results` the Hub shows what names a dataset that is registered there as a benchmark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sae_traits.evaluation.results import Results
from sae_traits.evaluation.zero_shot_results import NAME_AND_TRAITS, NAME_ONLY
from sae_traits.schema import SPLITS

EVAL_RESULTS_FILE = ".eval_results/sae-traits.yaml"
FEATURES, ZERO_SHOT = "image-feature-extraction", "zero-shot-image-classification"
"""Tasks, as the Hub calls them."""
_OF_SAE = {
    "explained_variance": "explained variance of the patch features",
    "l0": "active latents a patch (L0)",
    "dead_share": "share of the latents that never fired",
}
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Score:
    """One number."""

    task: str
    metric: str
    """An identifier, one for all scores of a kind."""
    task_id: str
    """Of the score among all of this dataset."""
    name: str
    value: float
    split: str | None


@dataclass(frozen=True)
class Scores:
    """The scores of an SAE and of the traits made with it, all on the images of one dataset."""

    dataset_id: str | None
    """On the Hub; None where it has no place there."""
    dataset_name: str
    scores: tuple[Score, ...]

    @classmethod
    def of(
        cls, metrics: Mapping[str, Any], results: Results | None, *, dataset_id: str | None, dataset_name: str
    ) -> Scores:
        """The scores that are numbers; a record of another program may hold anything."""
        split = metrics.get("measured_on")
        found = [
            Score(FEATURES, metric, metric, name, metrics[metric], split if split in SPLITS else None)
            for metric, name in _OF_SAE.items()
            if _is_finite(metrics.get(metric))
        ]
        if results is not None and (zero_shot := results.zero_shot) is not None:
            for condition, task_id in ((NAME_ONLY, "zero_shot_names"), (NAME_AND_TRAITS, "zero_shot_names_and_traits")):
                top1 = zero_shot.top1(condition)
                if top1 is not None:
                    name = f"top-1 accuracy of {zero_shot.clip}, texts: {condition}"
                    found.append(Score(ZERO_SHOT, "accuracy", task_id, name, top1.mean, "test"))
        return cls(dataset_id, dataset_name, tuple(found))


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def model_index(name: str, scores: Scores) -> list[dict[str, Any]]:
    """The `model-index` of a card's front matter; empty where there are no scores.

    Args:
        name: of the model.
        scores: all on one dataset.
    """
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    if not scores.scores:
        return []
    results = [
        EvalResult(
            task_type=score.task,
            dataset_type=scores.dataset_id or scores.dataset_name,
            dataset_name=scores.dataset_name,
            dataset_split=score.split,
            metric_type=score.metric,
            metric_name=score.name,
            metric_value=round(score.value, _DIGITS),
        )
        for score in scores.scores
    ]
    return eval_results_to_model_index(name, results)


def write_eval_results(folder: Path, scores: Scores) -> None:
    """Write the scores into the folder of a model repository, or take an earlier file away where there are none.

    Without a dataset on the Hub nothing is written, because every entry has to name one.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    file = folder / EVAL_RESULTS_FILE
    if scores.dataset_id is None or not scores.scores:
        file.unlink(missing_ok=True)
        return
    entries = [
        EvalResultEntry(
            dataset_id=scores.dataset_id,
            task_id=score.task_id,
            value=round(score.value, _DIGITS),
            notes=score.name + (f", {score.split} split" if score.split else ""),
        )
        for score in scores.scores
    ]
    file.parent.mkdir(exist_ok=True)
    text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)
    file.write_text(text, encoding="utf-8")
