"""The step `annotate`: describe the chosen regions, and write RUN/traits/traits.parquet."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sae_traits.config.tree import as_dict
from sae_traits.runs.context import Context
from sae_traits.runs.record import Counts
from sae_traits.traits.annotate import describe_candidates, export_traits


def annotate(context: Context) -> None:
    """Ask the describer about every region that the ledger has no answer for, and write what came of it.

    Raises:
        DescriberError: the describer cannot answer from the start.
        CollectionError: an image cannot be read any more.
    """
    config, folder, describer = context.config, context.folder, context.describer
    use_masks = config.describer.use_masks

    def work() -> Counts:
        with context.open_ledger() as ledger:
            describe_candidates(
                context.plan,
                describer,
                ledger,
                workers=config.describer.workers,
                use_masks=use_masks,
                pictures=context.pictures_of_dataset,
            )
            annotation = export_traits(
                context.plan,
                ledger,
                traits_file=folder.traits,
                latents_file=folder.chosen_latents,
                withhold=describer.withhold,
            )
            return asdict(annotation)

    inputs: dict[str, Any] = {
        "regions": as_dict(config.regions),
        "describer": [describer.name, describer.model, describer.prompt, describer.settings],
        "images_per_description": describer.images_per_description,
        "labels": context.collection.digest("taxon", "individual_id", "split", "mm_per_pixel"),
        "masks": context.collection.digest("mask_file") if use_masks else None,
    }
    context.check_masks()
    ledger = folder.ledger(config.regions.kind)
    context.steps.do("annotate", inputs, [folder.traits, folder.chosen_latents], work, kept=[ledger])
