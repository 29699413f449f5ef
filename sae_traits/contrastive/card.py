"""The card of a CLIP that was trained further: what it was made from, on what, and what came of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from sae_traits import __version__
from sae_traits.config.tree import as_dict, public_name, with_public_names
from sae_traits.contrastive.record import TrainingRecord
from sae_traits.io import write_text
from sae_traits.models.clip.heads import HEADS_FILE
from sae_traits.models.clip.model import ONLY_FOR_KEY
from sae_traits.release.cards import CARD, render_card
from sae_traits.release.publication import public_model
from sae_traits.rendering import hub_license, lines, one_line
from sae_traits.sae.card import license_page

_HUB_ID = re.compile(r"(?:hf://datasets/)?([\w-][\w.-]*/[\w-][\w.-]*)(?:@.*)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HEADS = {
    "caption_projection.weight": "It has a second projection of images, for captions (BioCAP's), which `load_clip` "
    "alone reads.",
    "replay_projection.weight": "It has a second projection of images, for general pictures (BioCLIP 2's), which only "
    "training uses.",
}


def write_clip_card(
    folder: Path,
    record: TrainingRecord,
    *,
    repo_id: str | None,
    license: str | None = None,
    existing: str | None = None,
) -> None:
    """Write README.md into the folder of a CLIP that was trained further.

    Args:
        folder: of the model, with its weights.
        record: how it was trained.
        repo_id: where it will be on the Hub; None is nowhere.
        license: of its weights, in words or as the Hub names it.
        existing: a card whose section by a person is kept.

    Raises:
        ReleaseError: the existing card has lost a mark of that section.
    """
    base, revision = public_model(record.base, record.base_revision)
    pairs, is_on_hub = record.config.pairs, bool(_COMMIT.fullmatch(revision))
    data = _HUB_ID.fullmatch(pairs.data)
    more: dict[str, Any] = {**hub_license(license, license_page(repo_id))}
    if is_on_hub:
        more["base_model_relation"] = "finetune"
    front = ModelCardData(
        library_name="transformers",
        pipeline_tag="zero-shot-image-classification",
        tags=["sae-traits", "clip", "biology"],
        datasets=[data[1]] if data else None,
        base_model=base if is_on_hub else None,
        **more,
    )
    name = repo_id or folder.resolve().parent.name
    accuracies, losses = record.values_of("validation_accuracy"), record.values_of("loss")
    card = render_card(
        "clip_card.md.jinja",
        front,
        existing,
        name=one_line(name),
        note=json.loads((folder / "config.json").read_text(encoding="utf-8")).get(ONLY_FOR_KEY),
        base=base,
        n_pairs=record.n_pairs,
        data=data[1] if data else public_name(pairs.data),
        texts=pairs.text_types,
        source=json.dumps(repo_id or "FOLDER"),
        example=json.dumps(pairs.template.replace("{}", "Apis mellifera")),
        heads=[said for tensor, said in _HEADS.items() if tensor in _heads_of(folder)],
        accuracies=accuracies,
        losses=losses,
        settings=lines(
            {"made from": f"{base}@{revision}", "steps": record.n_steps}
            | as_dict(with_public_names(record.config))
            | {"toolkit": f"sae-traits {__version__}"}
        ),
        cut_texts=sorted(record.cut_texts.items()),
        license=license,
        licenses=list(record.licenses.items()),
        has_traits="trait" in pairs.text_types,
        run=None,
    )
    write_text(folder / CARD, card)


def _heads_of(folder: Path) -> list[str]:
    from safetensors import safe_open

    if not (folder / HEADS_FILE).is_file():
        return []
    with safe_open(folder / HEADS_FILE, "pt") as file:
        return list(file.keys())
