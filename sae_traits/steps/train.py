"""The step `train`: one SAE or a sweep, or an SAE that was trained elsewhere, and what it measures; all take part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sae_traits.config import AdoptedSAE
from sae_traits.config.tree import as_dict
from sae_traits.logging import say
from sae_traits.release.model_card import CARD_FILES
from sae_traits.runs.context import Context
from sae_traits.runs.record import Counts
from sae_traits.sae.collection_training import train_on_source
from sae_traits.sae.extractor import adopt
from sae_traits.sae.measuring import measure_on_held_out, measure_together
from sae_traits.sae.model import SAE
from sae_traits.sae.sweep import expand, folder_name, parse_sweep, sweep_lines
from sae_traits.sae.sweep_folder import save_saes
from sae_traits.sae.trainer import check_together


def train(context: Context) -> None:
    """Train the SAE of a run, or a sweep, on its training images, or adopt that of --sae."""
    config = context.config.train
    if isinstance(config, AdoptedSAE):
        _adopt(context)
        return
    accelerator, collection = context.accelerator, context.collection
    varied = parse_sweep(config.sweep) if config.sweep is not None else {}
    configs = expand(replace(config, sweep=None, tracker=None), varied)
    check_together(configs, accelerator)
    rows = collection.rows("train")

    def work() -> Counts:
        saes = train_on_source(
            context.features,
            rows,
            config,
            configs,
            collection=collection.root.name,
            checkpoint=context.folder.checkpoint,
            accelerator=accelerator,
        )
        measure_together(saes, configs, context.features, collection, accelerator)
        if len(saes) > 1 and context.is_main_process:
            names = [folder_name(of_sae, varied) for of_sae in configs]
            measures = [sae.config.training["metrics"] for sae in saes]
            for line in sweep_lines(dict(zip(names, measures, strict=True))):
                say(line)
        return _save(context, saes, lambda: save_saes(context.folder.sae, saes, configs, varied))

    inputs: dict[str, Any] = {
        "training": rows.tolist(),
        "train": [as_dict(of_sae) for of_sae in configs],
        "seed_of_order": config.seed,
        "precision": accelerator.mixed_precision,
    }
    context.steps.do("train", inputs, [context.folder.sae], work, apart_from=CARD_FILES)
    if context.is_main_process:
        context.folder.checkpoint.unlink(missing_ok=True)


def _adopt(context: Context) -> None:
    sae = context.adopted_sae
    assert sae is not None
    adopt(sae, context.features.info)

    def work() -> Counts:
        measure_on_held_out([sae], context.features, context.collection, context.accelerator.device)
        return _save(context, [sae], lambda: save_saes(context.folder.sae, [sae], [], ()))

    inputs = {"training": context.collection.rows("train").tolist(), "sae": sae.weights_hash()}
    context.steps.do("train", inputs, [context.folder.sae], work, apart_from=CARD_FILES)


def _save(context: Context, saes: list[SAE], save: Callable[[], SAE]) -> Counts:
    """Save the SAEs in one of the processes; the measures."""
    if not context.is_main_process:
        return {}
    chosen = save()
    return {**chosen.config.training["metrics"], "n_saes": len(saes)}
