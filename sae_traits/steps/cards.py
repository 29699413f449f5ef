"""The step `cards`: the cards of the dataset and of the SAE, with what an evaluation found where there was one."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter

from sae_traits.config.command_line import command_of
from sae_traits.release.card_picture import CARD_PICTURE
from sae_traits.release.cards import CARD
from sae_traits.release.facts import DatasetSummary
from sae_traits.release.model_card import CARD_FILES
from sae_traits.runs.context import Context
from sae_traits.runs.record import Counts
from sae_traits.runs.release import captions_of, write_dataset_card_of, write_model_card_of


def cards(context: Context) -> None:
    """Write both cards with their pictures; what a person wrote between the markers stays."""
    folder, results = context.folder, context.results

    def work() -> Counts:
        summary = TypeAdapter(DatasetSummary).validate_python(context.steps.counts("dataset"))
        write_dataset_card_of(context, folder.dataset, summary, name=context.dictionary_name)
        write_model_card_of(context, folder.sae)
        return {}

    inputs: dict[str, Any] = {
        "command": command_of(context.config),
        "title": context.config.release.title,
        "sae_license": context.config.release.sae_license,
        "results": json.loads(results.to_json()) if results else None,
        "calls": asdict(context.calls),
    }
    if captions := captions_of(context):
        inputs["captions"] = asdict(captions)
    outputs = [*(folder.dataset / name for name in (CARD, CARD_PICTURE)), *(folder.sae / name for name in CARD_FILES)]
    context.steps.do("cards", inputs, outputs, work)
