"""The model and dataset cards: which figures they show, and their front matter."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sae_traits import __version__
from sae_traits.errors import ReleaseError
from sae_traits.release.evaluation_entries import Scores, model_index, write_eval_results
from sae_traits.release.facts import DatasetFacts, DatasetSummary, ModelFacts, Source
from sae_traits.release.hub_names import hub_license, size_category
from sae_traits.release.merging import keep_own_parts, mark_sections
from sae_traits.release.model_facts import measures, sweep_table, training_data, training_settings
from sae_traits.release.model_figures import draw_figures
from sae_traits.release.tables import CONFIG_NAMES, columns
from sae_traits.rendering import lines, one_line, render, templates
from sae_traits.sae.sweep_folder import read_sweep
from sae_traits.schema import REGION_SOURCES

CARD = "README.md"
MAXIMUM_RIGHTS = 50
"""Lines of the card's table of licences and rights holders; the rows name them all."""
STEPS = ("collect", "extract", "train", "encode", "annotate")
"""Those that come before a card is written; how long each took is on the card."""
NOTHING_MORE = ModelFacts()
"""What is known of an SAE by itself."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_DATASET = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+)")


def render_card(template: str, front: Mapping[str, Any], **values: Any) -> str:
    """Fill a template of hub_cards, with the comments by which `merge_cards` knows what was generated.

    Args:
        template: its name.
        front: the front matter.
        values: every variable of the template, as in `render`.
    """
    return mark_sections(front, render(templates(), template, **values))


def dataset_card(
    summary: DatasetSummary, facts: DatasetFacts, *, sae: str | None, title: str, longest_side: int, folder: str
) -> str:
    """README.md of a dataset.

    Args:
        summary: what was written.
        facts: what only the run knows.
        sae: the SAE, as repository@revision, or the baseline in its place; None where regions have no latents.
        title: of the card.
        longest_side: pixels of the images of `default`.
        folder: name of the dataset's folder, for the loading snippet where there is no repository yet.
    """
    licenses = Counter[str | None]()
    for rights in summary.rights:
        licenses[rights.license] += rights.n_images
    return render_card(
        "dataset_card.md.jinja",
        _dataset_front_matter(summary, facts, title, set(licenses)),
        title=one_line(title),
        summary=summary,
        facts=facts,
        sae=sae,
        longest_side=longest_side,
        licenses=licenses.most_common(),
        rights=summary.rights[:MAXIMUM_RIGHTS],
        n_more_rights=max(0, len(summary.rights) - MAXIMUM_RIGHTS),
        n_unlicensed=licenses[None],
        columns={config: columns(config, summary.images) for config in CONFIG_NAMES if summary.rows.get(config)},
        backbone=lines(facts.backbone.to_dict()),
        regions=REGION_SOURCES[facts.regions],
        measured=lines(dict(measures(facts.dictionary_metrics))),
        contrast=lines(facts.contrast),
        seconds=_seconds(facts.seconds),
        source=json.dumps(facts.repo_id or folder),
        first_split=next(iter(summary.rows["default"])),
    )


def _dataset_front_matter(
    summary: DatasetSummary, facts: DatasetFacts, title: str, licenses: set[str | None]
) -> dict[str, Any]:
    front: dict[str, Any] = {
        "pretty_name": one_line(title),
        "license": hub_license(licenses),
        "language": ["en"],
        "annotations_creators": ["machine-generated"],
        "task_categories": ["image-to-text", "object-detection"]
        + (["image-classification", "zero-shot-image-classification"] if summary.n_species else []),
        "size_categories": [size_category(summary.n_traits)],
        "tags": ["sae-traits", "biology", "morphology", "traits", "sparse-autoencoder"]
        + (["synthetic"] if facts.drawn else []),
    }
    if source := _hub_dataset(facts.source):
        front["source_datasets"] = [source]
    front["configs"] = [
        {
            "config_name": config,
            "data_files": [{"split": split, "path": f"data/{config}/{split}-*.parquet"} for split in splits],
        }
        | ({"default": True} if config == "default" else {})
        for config, splits in summary.rows.items()
        if splits
    ]
    return front


def write_model_card(
    sae_folder: Path,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    *,
    repo_id: str | None,
    facts: ModelFacts = NOTHING_MORE,
) -> None:
    """Write README.md and its figures into the folder of an SAE, or of a sweep with the recommended one at its root.

    What a person wrote into the README.md that is there stays. Where the dataset's place on the Hub is known, the
    scores are also written into .eval_results.

    Args:
        sae_folder: as `save_saes` wrote it.
        config: what its config.json holds.
        metrics: how well it reconstructs and how sparsely.
        repo_id: where it will be on the Hub; None for a folder on this machine.
        facts: what only the run knows.

    Raises:
        ReleaseError: the folder cannot be written, or the card that is there cannot be read.
        CheckpointError: its sweep.json is damaged.
    """
    training, sweep = config.get("training", {}), read_sweep(sae_folder)
    backbone = config.get("backbone")
    collection = facts.source.name if facts.source else str(training.get("collection", "unknown"))
    scores = Scores.of(metrics, facts.results, dataset_id=facts.dataset_id, dataset_name=one_line(collection))
    name = repo_id or sae_folder.name
    try:
        card = render_card(
            "model_card.md.jinja",
            _model_front_matter(backbone, facts, model_index(one_line(name), scores)),
            name=one_line(name),
            source=json.dumps(name),
            config=config,
            facts=facts,
            measures=lines(dict(measures(metrics))),
            figures=list(draw_figures(sae_folder, training).items()),
            sweep=sweep_table(sweep) if sweep else None,
            backbone=lines(backbone or {}),
            data=lines(dict(training_data(training))),
            training=lines(dict(training_settings(training))),
            seconds=_seconds(facts.seconds),
            version=config.get("sae_traits_version", __version__),
        )
        write_eval_results(sae_folder, scores)
        file = sae_folder / CARD
        existing = file.read_text(encoding="utf-8") if file.is_file() else None
        file.write_text(keep_own_parts(card, existing, str(file)), encoding="utf-8")
    except OSError as error:
        raise ReleaseError(f"cannot write the card into {sae_folder}: {error.strerror}") from error


def _model_front_matter(
    backbone: Mapping[str, Any] | None, facts: ModelFacts, index: list[dict[str, Any]]
) -> dict[str, Any]:
    front: dict[str, Any] = {
        "library_name": "sae-traits",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["sae-traits", "sparse-autoencoder", "interpretability", "biology"]
        + (["synthetic"] if facts.drawn else []),
    }
    if backbone and _HUB_ID.fullmatch(backbone["backbone"]) and _COMMIT.fullmatch(backbone["revision"]):
        front["base_model"] = backbone["backbone"]
    if source := _hub_dataset(facts.source):
        front["datasets"] = [source]
    if index:
        front["model-index"] = index
    return front


def _hub_dataset(source: Source | None) -> str | None:
    """The Hub id of a source that is on the Hub."""
    found = _HUB_DATASET.match(source.name) if source else None
    return found[1] if found else None


def _seconds(seconds: Mapping[str, float]) -> list[tuple[str, str]]:
    return [(step, f"{seconds[step]:,.0f}") for step in STEPS if step in seconds]
