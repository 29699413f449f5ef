"""The step `evaluate`: score the regions and the texts, ask a CLIP model whether the traits help, write the report."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sae_traits.config import SAERegions
from sae_traits.config.tree import as_dict
from sae_traits.evaluation.evidence import Evidence, StoredTraits
from sae_traits.evaluation.part_regions import Method, sample_of_species
from sae_traits.evaluation.report import write_report
from sae_traits.evaluation.results import SCHEMA_VERSION, run_tasks
from sae_traits.evaluation.tasks import TASKS
from sae_traits.evaluation.verdict import RULES
from sae_traits.io import hash_of_file
from sae_traits.logging import warn
from sae_traits.runs.background import known_background
from sae_traits.runs.baselines import BASELINES, can_be_compared, methods_of, plan_with_labels_of
from sae_traits.runs.context import Context
from sae_traits.runs.part_evidence import stored_part_evidence
from sae_traits.runs.record import Counts
from sae_traits.traits.table import read_latents

MAX_IMAGES = 20_000
"""On which part evidence is measured without the command `parts`; it takes some milliseconds per image and method."""


def evaluate(context: Context) -> None:
    """Run the tasks of an evaluation on the traits, and write RUN/evaluation."""
    config, folder, faithfulness = context.config, context.folder, context.faithfulness
    part_evidence, part_note = stored_part_evidence(context), None
    if isinstance(part_evidence, str):
        part_evidence, part_note = None, part_evidence
        warn(f"warning: {part_note}")
    sample = sample_of_species(context.collection, MAX_IMAGES)
    # An SAE is compared with baselines, unless each would run the backbone over all images again.
    is_compared = isinstance(config.regions, SAERegions) and not config.features.stream
    baselines = BASELINES if is_compared else ()
    zero_shot, clip = config.zero_shot, context.clip

    if clip is not None:
        clip.check_note(context.collection.note, context.collection.root)

    def part_methods(with_baselines: bool) -> dict[str, Method]:
        return methods_of(context, baselines if with_baselines else (), sample)

    def work() -> Counts:
        with context.open_ledger() as ledger:
            evidence = Evidence(
                collection=context.collection,
                traits=StoredTraits(folder.traits),
                backbone=context.features.info,
                region_source=config.regions.kind,
                latents=read_latents(folder.chosen_latents),
                annotation=context.steps.counts("annotate"),
                background=known_background(context),
                sae=context.steps.counts("train") if config.regions.kind == "sae" else None,
                ledger=ledger,
                describer=context.describer,
                faithfulness=faithfulness,
                clip=clip,
                zero_shot=zero_shot,
                embeddings=folder.embeddings,
                batch_size=config.features.image_batch_size,
                workers=config.features.workers,
                part_evidence=part_evidence,
                part_note=part_note,
                part_methods=part_methods if can_be_compared(context) else None,
                plan_with=partial(plan_with_labels_of, context, sample=sample),
                firing=(lambda: context.firing_shares) if config.regions.has_latents else None,
                open_picture=context.open_picture,
            )
            results = run_tasks(evidence, (*TASKS, *context.extra_tasks))
            n_drawn = write_report(folder.evaluation, config.release.title, results, evidence)
        return {"n_regions_drawn": n_drawn, "zero_shot": results.zero_shot is not None}

    common_names = zero_shot.common_names if zero_shot else None
    inputs = {
        "schema_version": SCHEMA_VERSION,
        "verdicts": RULES,
        "masks": context.steps.fingerprint("collect"),
        "parts": hash_of_file(folder.parts) if part_evidence else part_note,
        "faithfulness": faithfulness.to_dict() if faithfulness else None,
        "zero_shot": as_dict(zero_shot),
        "clip": clip.info.to_dict() if clip else None,
        "common_names": hash_of_file(Path(common_names)) if common_names else None,
        "title": config.release.title,
        "tasks": [task.name for task in (*TASKS, *context.extra_tasks)],
    }
    kept = [
        folder.faithfulness,
        folder.faithfulness_ledger(config.regions.kind),
        folder.embeddings,
        folder.parts,
        *(folder.baseline(kind) for kind in baselines),
        *(folder.baseline_codes(kind) for kind in baselines),
    ]
    context.steps.do("evaluate", inputs, [folder.evaluation], work, kept=kept, apart_from=[folder.parts.name])
