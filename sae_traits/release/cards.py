"""The model and dataset cards: Jinja templates, filled strictly and escaped by default.

What comes from data (names of species, licences, rights holders) is untrusted: it is laid into the text as HTML
entities, which neither Markdown nor HTML takes for markup, and into the front matter as YAML made by a YAML library.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sae_traits import __version__
from sae_traits.errors import ReleaseError
from sae_traits.release.facts import DatasetFacts, DatasetSummary
from sae_traits.release.model_facts import measures, sweep_table, training_data, training_settings
from sae_traits.release.model_figures import draw_figures
from sae_traits.release.tables import COLUMNS
from sae_traits.sae.sweep_folder import read_sweep

MAXIMUM_RIGHTS = 50
"""Lines of the card's table of licences and rights holders; the rows name them all."""
MAXIMUM_LENGTH = 300
"""Letters of a value on a card."""
HUB_LICENSES = frozenset(
    {"apache-2.0", "mit", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"}
    | {"cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"}
    | {"cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "odbl", "odc-by", "pddl"}
)
"""The licences of images and data that the Hub has identifiers for."""
_SPECIAL = re.compile(r"[^\w\s.,;/()+%§·–—-]")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def dataset_card(
    summary: DatasetSummary, facts: DatasetFacts, *, sae: str, title: str, longest_side: int, folder: str
) -> str:
    """README.md of a dataset.

    Args:
        summary: what was written.
        facts: what only the run knows.
        sae: the SAE, as repository@revision.
        title: of the card.
        longest_side: pixels of the images of `default`.
        folder: name of the dataset's folder, for the loading snippet where there is no repository yet.
    """
    licenses = Counter[str | None]()
    for rights in summary.rights:
        licenses[rights.license] += rights.n_images
    hub_license = _hub_license(set(licenses))
    front = {
        "pretty_name": _one_line(title),
        "license": hub_license,
        "language": ["en"],
        "annotations_creators": ["machine-generated"],
        "task_categories": ["image-to-text", "image-classification", "object-detection"],
        "size_categories": [_size_category(summary.n_traits)],
        "tags": ["sae-traits", "biology", "morphology", "traits", "sparse-autoencoder"]
        + (["synthetic"] if facts.drawn else []),
        "configs": [
            {
                "config_name": config,
                "data_files": [{"split": split, "path": f"data/{config}/{split}-*.parquet"} for split in splits],
            }
            | ({"default": True} if config == "default" else {})
            for config, splits in summary.rows.items()
            if splits
        ],
    }
    return _render(
        "dataset_card.md.jinja",
        front,
        title=_one_line(title),
        summary=summary,
        facts=facts,
        sae=sae,
        longest_side=longest_side,
        licenses=licenses.most_common(),
        rights=summary.rights[:MAXIMUM_RIGHTS],
        n_more_rights=max(0, len(summary.rights) - MAXIMUM_RIGHTS),
        n_unlicensed=licenses[None],
        columns=COLUMNS,
        backbone=_lines(facts.backbone.to_dict()),
        sae_metrics=_lines(facts.sae_metrics),
        contrast=_lines(facts.contrast),
        source=json.dumps(facts.repo_id or folder),
        first_split=next(iter(summary.rows["default"])),
    )


def write_model_card(
    sae_folder: Path, config: Mapping[str, Any], metrics: Mapping[str, Any], *, repo_id: str | None
) -> None:
    """Write README.md and its figures into the folder of an SAE, or of a sweep with the recommended one at its root.

    Args:
        sae_folder: as `save_saes` wrote it.
        config: what its config.json holds.
        metrics: how well it reconstructs and how sparsely.
        repo_id: where it will be on the Hub; None for a folder on this machine.

    Raises:
        ReleaseError: the folder cannot be written.
        CheckpointError: its sweep.json is damaged.
    """
    training, sweep = config.get("training", {}), read_sweep(sae_folder)
    backbone = config.get("backbone")
    front: dict[str, Any] = {
        "library_name": "sae-traits",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["sae-traits", "sparse-autoencoder", "interpretability", "biology"],
    }
    if backbone and _HUB_ID.fullmatch(backbone["backbone"]) and _COMMIT.fullmatch(backbone["revision"]):
        front["base_model"] = backbone["backbone"]
    try:
        card = _render(
            "model_card.md.jinja",
            front,
            name=_one_line(repo_id or sae_folder.name),
            source=json.dumps(repo_id or sae_folder.name),
            config=config,
            measures=_lines(dict(measures(metrics))),
            figures=list(draw_figures(sae_folder, training).items()),
            sweep=sweep_table(sweep) if sweep else None,
            backbone=_lines(backbone or {}),
            data=_lines(dict(training_data(training))),
            training=_lines(dict(training_settings(training))),
            version=config.get("sae_traits_version", __version__),
        )
        (sae_folder / "README.md").write_text(card, encoding="utf-8")
    except OSError as error:
        raise ReleaseError(f"cannot write the card into {sae_folder}: {error.strerror}") from error


def escape(value: object) -> Markup:
    """A value as one line of text that Markdown and HTML show and do not interpret."""
    text = _one_line(str(value))
    return Markup(_SPECIAL.sub(lambda match: f"&#{ord(match[0])};", text).replace("_", "&#95;"))  # noqa: S704


def _render(template: str, front: dict[str, Any], **values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(_templates()),
        undefined=StrictUndefined,
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup | int) else escape(value),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=1000)
    return environment.get_template(template).render(front_matter=Markup(text), **values)  # noqa: S704


def _templates() -> Path:
    """`hub_cards` of the installed package, or of the repository in an editable install."""
    package = Path(__file__).parents[1]
    folder = package / "hub_cards"
    return folder if folder.is_dir() else package.parent / "hub_cards"


def _one_line(text: str) -> str:
    """Without line breaks and control characters, and of bounded length."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= MAXIMUM_LENGTH else line[: MAXIMUM_LENGTH - 1] + "…"


def _lines(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Names and values of nested settings, for a table."""
    return list(_flattened(values, prefix))


def _flattened(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flattened(value, f"{prefix}{name}.")
        elif isinstance(value, float):
            yield f"{prefix}{name}", f"{value:.4g}"
        elif isinstance(value, list | tuple):
            yield f"{prefix}{name}", ", ".join(str(v) for v in value)
        elif value is not None:
            yield f"{prefix}{name}", str(value)


def _hub_license(licenses: set[str | None]) -> str:
    """The Hub's identifier where all images share one licence that it knows; `unknown` where none has one."""
    if licenses == {None}:
        return "unknown"
    if len(licenses) > 1:
        return "other"
    identifier = _identifier(str(next(iter(licenses))))
    return identifier if identifier in HUB_LICENSES else "other"


def _identifier(license_text: str) -> str:
    """`CC BY-NC 4.0` and `https://creativecommons.org/licenses/by-nc/4.0/` as `cc-by-nc-4.0`."""
    text = license_text.strip().lower()
    deed = re.fullmatch(r"https?://creativecommons\.org/(?:licenses|publicdomain)/([a-z-]+)/(\d\.\d)(?:/.*)?", text)
    if deed:
        return "cc0-1.0" if deed[1] == "zero" else f"cc-{deed[1]}-{deed[2]}"
    text = re.sub(r"[\s_-]+", "-", text)
    return "cc0-1.0" if text == "cc0" else text


def _size_category(n_rows: int) -> str:
    bounds = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]
    return next((name for bound, name in bounds if n_rows < bound), "1M<n<10M" if n_rows < 10**7 else "10M<n<100M")
