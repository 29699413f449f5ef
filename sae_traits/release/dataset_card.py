"""The card of a dataset: its front matter, by which the tables are loaded, and what people need to know of them."""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCardData
from markupsafe import Markup

from sae_traits.io import write_text
from sae_traits.release.card_picture import CARD_PICTURE, draw_card_picture
from sae_traits.release.cards import CARD, marked_section, read_card, render_card, seconds_per_step
from sae_traits.release.facts import RELEASE_FILE, DatasetFacts, DatasetSummary, Rights, Source
from sae_traits.release.model_record import measures
from sae_traits.release.tables import CONFIG_NAMES, ConfigName, columns, features, folder_of, type_in_words
from sae_traits.rendering import hub_license, lines, one_line, with_front_matter
from sae_traits.traits.captions import FLAGS
from sae_traits.vocabulary import REGION_SOURCES

MAX_RIGHTS = 50
"""Lines of the card's table of licences and rights holders; the rows name them all."""
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
_HUB_DATASET = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+)")


def write_dataset_card(folder: Path, summary: DatasetSummary, facts: DatasetFacts) -> None:
    """Write README.md with its picture and, for a release by reference, its facts.

    What a person wrote into the card stays.
    """
    picture = draw_card_picture(folder, summary)
    card = dataset_card(summary, facts, folder=folder.name, existing=read_card(folder), picture=picture)
    write_text(folder / CARD, card)
    if summary.images == "reference":
        replace(facts, segments=summary.segments).save(folder / RELEASE_FILE)


def index_card(summary: DatasetSummary, existing: str | None) -> str:
    """A card that says how the tables are loaded, and what a person wrote into the existing one; nothing else."""
    return with_front_matter(DatasetCardData(**_index(summary)), marked_section(existing) + "\n")


def dataset_card(
    summary: DatasetSummary,
    facts: DatasetFacts,
    *,
    folder: str,
    existing: str | None = None,
    picture: tuple[Rights, ...] | None = None,
) -> str:
    """README.md of a dataset, which opens with its picture where it has one, of images with these rights."""
    licenses = Counter[str | None]()
    for rights in summary.rights:
        licenses[rights.license] += rights.n_images
    provenance = facts.provenance
    return render_card(
        "dataset_card.md.jinja",
        _front_matter(summary, facts, set(licenses)),
        existing,
        title=one_line(facts.title),
        summary=summary,
        facts=facts,
        picture=picture,
        picture_file=CARD_PICTURE,
        review=Markup(html.escape("\n".join(facts.review))),  # noqa: S704
        run=provenance,
        licenses=licenses.most_common(),
        rights=summary.rights[:MAX_RIGHTS],
        n_more_rights=max(0, len(summary.rights) - MAX_RIGHTS),
        n_unlicensed=licenses[None],
        columns={config: columns(config, summary.images) for config in _filled(summary)},
        type_in_words=type_in_words,
        backbone=lines(provenance.backbone.to_dict()),
        regions=REGION_SOURCES[provenance.regions],
        measured=lines(dict(measures(provenance.dictionary_metrics))),
        contrast=lines(provenance.contrast),
        caption_flags=FLAGS,
        seconds=seconds_per_step(provenance.seconds),
        source=json.dumps(facts.repo_id or folder),
        first_split=next(iter(summary.rows["default"])),
    )


def _front_matter(summary: DatasetSummary, facts: DatasetFacts, licenses: set[str | None]) -> DatasetCardData:
    source = hub_dataset(facts.provenance.source)
    return DatasetCardData(
        pretty_name=one_line(facts.title),
        **_license(licenses, facts.repo_id),
        language=["en"],
        annotations_creators=["machine-generated"],
        task_categories=["image-to-text", "object-detection"]
        + (["image-classification", "zero-shot-image-classification"] if summary.n_species else []),
        size_categories=[size_category(summary.n_traits)],
        tags=["sae-traits", "biology", "morphology", "traits", "sparse-autoencoder"]
        + (["synthetic"] if facts.provenance.note else []),
        source_datasets=[source] if source else None,
        **_index(summary),
    )


def _filled(summary: DatasetSummary) -> list[ConfigName]:
    return [config for config in CONFIG_NAMES if summary.rows.get(config)]


def _index(summary: DatasetSummary) -> dict[str, Any]:
    """Where the tables lie, what is in them, and a hash of it.

    The datasets library names what it caches of a folder by the folder's name and this part of the front matter alone,
    so the hash is what tells two datasets of the same shape apart.
    """
    return {
        "configs": [
            {
                "config_name": config,
                "data_files": [
                    {"split": split, "path": f"data/{folder_of(config, summary.images)}/{split}-*.parquet"}
                    for split in summary.rows[config]
                ],
            }
            | ({"default": True} if config == "default" else {})
            for config in _filled(summary)
        ],
        "dataset_info": [
            {
                "config_name": config,
                "description": f"sha256:{summary.sha256[config]}",
                "features": features(config, summary.images)._to_yaml_list(),
                "splits": [
                    {"name": split, "num_bytes": summary.n_bytes[config][split], "num_examples": n_rows}
                    for split, n_rows in summary.rows[config].items()
                ],
                "dataset_size": sum(summary.n_bytes[config].values()),
            }
            for config in _filled(summary)
        ],
    }


def hub_dataset(source: Source | None) -> str | None:
    """The Hub id of a source that is on the Hub."""
    found = _HUB_DATASET.match(source.name) if source else None
    return found[1] if found else None


def _license(licenses: set[str | None], repo_id: str | None) -> dict[str, str]:
    """The licence that all images share; several are named where the card and the rows name them."""
    page = f"https://huggingface.co/datasets/{repo_id}" if repo_id else CARD
    link = f"{page}#licences-and-rights"
    if len(licenses) > 1:
        return {"license": "other", "license_name": "named-in-each-row", "license_link": link}
    return hub_license(next(iter(licenses), None), link)


def size_category(n_rows: int) -> str:
    """The Hub's identifier of a number of rows."""
    return _SIZES[min(max(0, len(str(n_rows)) - 3), len(_SIZES) - 1)]
