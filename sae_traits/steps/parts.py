"""Where on the organism the regions of an annotated run lie, beside those of baselines: RUN/evaluation/parts.json."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sae_traits.errors import ConfigError
from sae_traits.evaluation.part_evidence import PartEvidence, StoredPartEvidence, measure_parts, write_part_evidence
from sae_traits.evaluation.part_files import read_part_files
from sae_traits.evaluation.part_truth import PartTruth
from sae_traits.logging import warn
from sae_traits.runs.baselines import can_be_compared, methods_of, plan_with_labels_of, regions_digest
from sae_traits.runs.context import Context

N_PROBLEMS_SHOWN = 3


def write_parts(
    context: Context,
    *,
    keypoints: Path | None = None,
    part_masks: Path | None = None,
    boxes: Path | None = None,
    baselines: Sequence[str],
) -> PartEvidence:
    """Measure the regions of an annotated run against files with parts, and what its collection has of masks and boxes.

    Args:
        context: its codes are complete.
        keypoints, part_masks, boxes: see `read_part_files`.
        baselines: kinds of regions to compare with; fitted where they are not there.

    Raises:
        StoreError: the run is not annotated, or its codes are not as they were written.
        ConfigError: its regions have no latents, or no labels chose them.
        CollectionError: a file cannot be read, or nothing of it belongs to the collection.
    """
    encoded = context.steps.fingerprint("encode")
    context.steps.check(reading=["encode"])
    if not can_be_compared(context):
        raise ConfigError(
            f"the regions of {context.folder.path} (--regions {context.config.regions.kind}) are not those of latents "
            "that a contrast of species chose; part evidence needs such a run"
        )
    given = {"keypoints": keypoints, "part_masks": part_masks, "boxes": boxes}
    files = read_part_files(context.collection, **given)
    for problem in files.problems[:N_PROBLEMS_SHOWN]:
        warn(f"{problem.file}: {problem.reason}")
    if (n_more := len(files.problems) - N_PROBLEMS_SHOWN) > 0:
        warn(f"… and {n_more} more; all are in {context.folder.parts}")
    evidence = measure_parts(
        methods_of(context, baselines),
        context.collection,
        context.features.info,
        PartTruth(context.collection, files),
        partial(plan_with_labels_of, context),
    )
    named = {name: str(path) for name, path in given.items() if path is not None}
    stored = StoredPartEvidence(encode=encoded, regions=regions_digest(context), files=named, evidence=evidence)
    write_part_evidence(context.folder.parts, stored)
    return evidence
