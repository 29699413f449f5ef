"""Rows for `model-index`, the front matter in which the Hub keeps the scores of a model."""

from __future__ import annotations

import re

from sae_traits.config.benchmark import BenchmarkTaskName
from sae_traits.evaluation.benchmarks.results import BenchmarkResults
from sae_traits.evaluation.statistics import Interval
from sae_traits.images.hub import is_hub_source

MODEL_INDEX_FILE = "model-index.yaml"
TASK_TYPES: dict[BenchmarkTaskName, tuple[str, str]] = {
    "zero-shot": ("zero-shot-image-classification", "accuracy"),
    "few-shot": ("image-classification", "accuracy"),
    "newt": ("image-classification", "accuracy"),
    "fishnet": ("image-classification", "accuracy"),
    "awa2": ("image-classification", "f1"),
}
"""What the Hub calls a task, and its main figure; it has no names for the others."""


def model_index(results: BenchmarkResults) -> str | None:
    """Write the main figure of every model as YAML; None where the Hub has no name for the task.

    A figure says in its name what it is of, with its interval; images that are of no published benchmark and not on the
    Hub are called by the name of their folder.
    """
    import yaml
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    if results.task not in TASK_TYPES:
        return None
    task_type, metric_type = TASK_TYPES[results.task]
    source = results.images.removeprefix("hf://datasets/") if is_hub_source(results.images) else results.images
    entries = []
    for name, figures in results.figures():
        figure, value = next(iter(figures.items()))
        if not isinstance(value, Interval):
            continue
        row = EvalResult(
            task_type=task_type,
            dataset_type=re.sub(r"[^\w./@-]+", "-", source),
            dataset_name=results.benchmark.title if results.benchmark else source,
            metric_type=metric_type,
            metric_value=round(value.mean, 4),
            metric_name=f"{figure}, 95 % interval {value.low:.3f} to {value.high:.3f}, {results.n_images:,} images",
        )
        entries += eval_results_to_model_index(name, [row])
    return yaml.safe_dump({"model-index": entries}, sort_keys=False, allow_unicode=True) if entries else None
