"""The step `caption`: one caption per image, and RUN/traits/captions.parquet; no run does it by itself."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from sae_traits.describers.captions import Guidance
from sae_traits.io import hash_of_file
from sae_traits.runs.context import Context
from sae_traits.runs.plans import caption_plan
from sae_traits.runs.record import Counts
from sae_traits.traits.captions import ask_for_captions, export_captions
from sae_traits.traits.estimate import AnnotationEstimate, estimate_calls
from sae_traits.traits.ledger import Ledger


def caption(context: Context, *, species_table: Path | None, examples: Path | None) -> Counts:
    """Ask the describer about every image that the ledger has no caption of, and write what came of it; the counts.

    Raises:
        ConfigError: a table cannot be used.
        DescriberError: the describer cannot answer from the start.
    """
    config, folder = context.config, context.folder
    context.steps.check(reading=["collect"], doing=["caption"])
    context.check_masks()
    plan = caption_plan(context, Guidance.read(species_table, examples))
    describer = plan.describer

    def work() -> Counts:
        with Ledger(folder.captions_ledger) as ledger:
            ask_for_captions(plan, ledger, workers=config.describer.workers, pictures=context.pictures_of_dataset)
            captioning = export_captions(
                plan, ledger, captions_file=folder.captions, quarantine_file=folder.captions_quarantine
            )
        return asdict(captioning) | {
            "describer": describer.name,
            "describer_model": describer.model,
            "prompt": describer.prompt,
            "context": None if species_table is None else species_table.name,
        }

    inputs: dict[str, Any] = {
        "describer": [describer.name, describer.model, describer.prompt, describer.settings],
        "context": None if species_table is None else hash_of_file(species_table),
        "examples": None if examples is None else hash_of_file(examples),
        "labels": plan.collection.digest("taxon"),
        "masks": context.collection.digest("mask_file") if config.describer.use_masks else None,
    }
    outputs = [folder.captions, folder.captions_quarantine]
    return context.steps.do("caption", inputs, outputs, work, kept=[folder.captions_ledger])


def estimate_captions(context: Context, *, species_table: Path | None, examples: Path | None) -> AnnotationEstimate:
    """What the captions would cost that the ledger does not have; asks nothing."""
    context.steps.check(reading=["collect"])
    context.check_masks()
    plan = caption_plan(context, Guidance.read(species_table, examples))
    with Ledger(context.folder.captions_ledger) as ledger:
        return estimate_calls(plan.tasks(), plan.describer, ledger, context.config.describer)
