"""The card of an SAE, or of a sweep with the recommended SAE at its root, and its scores as the Hub reads them.

The scores are in the card's `model-index` and in `.eval_results/*.yaml`, and the two say the same. Of the latter the
Hub shows what names a dataset that is registered there as a benchmark.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml

from sae_traits import __version__
from sae_traits.errors import ReleaseError
from sae_traits.evaluation.zero_shot_results import NAME_AND_TRAITS, NAME_ONLY
from sae_traits.io import write_text
from sae_traits.release.cards import CARD, read_card, render_card, seconds_per_step
from sae_traits.release.dataset_card import hub_dataset
from sae_traits.release.facts import ModelFacts
from sae_traits.release.model_figures import draw_figures
from sae_traits.release.model_record import is_number, measures, sweep_table, training_data, training_settings
from sae_traits.rendering import lines, one_line
from sae_traits.sae.card import FEATURES, front_matter, license_page
from sae_traits.sae.sweep_folder import read_sweep
from sae_traits.vocabulary import SPLITS

EVAL_RESULTS_FILE = ".eval_results/sae-traits.yaml"
CARD_FILES = (CARD, "figures", EVAL_RESULTS_FILE.partition("/")[0])
"""What the card comes to in the folder of an SAE; the rest is the SAE."""
NOTHING_MORE = ModelFacts()
"""What is known of an SAE by itself."""
_ZERO_SHOT = "zero-shot-image-classification"
"""A task, as the Hub calls it."""
_OF_SAE = {
    "explained_variance": "explained variance of the patch features",
    "l0": "active latents per patch (L0)",
    "dead_share": "share of the latents that never fired",
}
_DIGITS = 6


def write_model_card(
    sae_folder: Path, config: Mapping[str, Any], *, repo_id: str | None, facts: ModelFacts = NOTHING_MORE
) -> None:
    """Write README.md and its figures into the folder of an SAE, or of a sweep with the recommended one at its root.

    What a person wrote into its section of the README.md that is there stays. Where the dataset's place on the Hub is
    known, the scores are also written into .eval_results.

    Raises:
        ReleaseError: the pictures cannot be written, or the card that is there has lost a mark of the person's section.
        StoreError: the folder cannot be written; the former card stays.
        CheckpointError: its sweep.json is damaged.
    """
    training, sweep, run = config.get("training", {}), read_sweep(sae_folder), facts.provenance
    metrics = training.get("metrics", {})
    name = repo_id or sae_folder.name
    collection = one_line(run.source.name if run and run.source else str(training.get("collection", "unknown")))
    scores = _scores(metrics, facts, collection)
    try:
        card = render_card(
            "model_card.md.jinja",
            front_matter(
                config.get("backbone"),
                license=facts.license,
                page=license_page(repo_id),
                datasets=_datasets(facts),
                tags=["biology", *(["synthetic"] if run and run.note else [])],
                model_name=one_line(name) if scores else None,
                eval_results=list(scores.values()) or None,
            ),
            read_card(sae_folder),
            name=one_line(name),
            source=json.dumps(name),
            config=config,
            facts=facts,
            license=facts.license,
            licenses=list(facts.licenses.items()),
            run=run,
            measures=lines(dict(measures(metrics))),
            figures=list(draw_figures(sae_folder, training).items()),
            sweep=sweep_table(sweep) if sweep else None,
            backbone=lines(config.get("backbone") or {}),
            data=lines(dict(training_data(training))),
            training=lines(dict(training_settings(training))),
            seconds=seconds_per_step(run.seconds) if run else [],
            version=config.get("sae_traits_version", __version__),
        )
        _write_eval_results(sae_folder, facts.dataset_id, scores)
        write_text(sae_folder / CARD, card)
    except OSError as error:
        raise ReleaseError(f"cannot write the card into {sae_folder}: {error.strerror}") from error


def _datasets(facts: ModelFacts) -> list[str] | None:
    """Datasets on the Hub that hold what it was trained on: the one that is released with it, and its source."""
    source = hub_dataset(facts.provenance.source) if facts.provenance else None
    return [name for name in (facts.dataset_id, source) if name] or None


def _scores(metrics: Mapping[str, Any], facts: ModelFacts, collection: str) -> dict[str, EvalResult]:
    """Id among all scores of a dataset -> what is a number; a record of another program may hold anything."""
    scores: dict[str, EvalResult] = {}

    def add(task_id: str, task: str, metric: str, name: str, value: Any, split: Any) -> None:
        if is_number(value) and math.isfinite(value):
            scores[task_id] = EvalResult(
                task_type=task,
                dataset_type=facts.dataset_id or collection,
                dataset_name=collection,
                dataset_split=split if split in SPLITS else None,
                metric_type=metric,
                metric_name=name,
                metric_value=round(value, _DIGITS),
            )

    for metric, name in _OF_SAE.items():
        add(metric, FEATURES, metric, name, metrics.get(metric), metrics.get("measured_on"))
    zero_shot = facts.results.zero_shot if facts.results else None
    for condition, task_id in ((NAME_ONLY, "zero_shot_names"), (NAME_AND_TRAITS, "zero_shot_names_and_traits")):
        if zero_shot is not None and (top1 := zero_shot.top1(condition)) is not None:
            name = f"top-1 accuracy of {zero_shot.clip}, texts: {condition}"
            add(task_id, _ZERO_SHOT, "accuracy", name, top1.mean, "test")
    return scores


def _write_eval_results(folder: Path, dataset_id: str | None, scores: Mapping[str, EvalResult]) -> None:
    """Write the scores of a dataset that is on the Hub, or take an earlier file away where there are none."""
    file = folder / EVAL_RESULTS_FILE
    if dataset_id is None or not scores:
        file.unlink(missing_ok=True)
        return
    entries = [
        EvalResultEntry(
            dataset_id=dataset_id,
            task_id=task_id,
            value=score.metric_value,
            notes=f"{score.metric_name}, {score.dataset_split} split" if score.dataset_split else score.metric_name,
        )
        for task_id, score in scores.items()
    ]
    file.parent.mkdir(exist_ok=True)
    text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)
    write_text(file, text)
