"""Where on the organism the regions of an annotated run lie, beside those of baselines: RUN/evaluation/parts.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sae_traits.errors import ConfigError
from sae_traits.evaluation.part_evidence import PartEvidence
from sae_traits.logging import say
from sae_traits.runs.baselines import can_be_compared
from sae_traits.runs.context import Context
from sae_traits.runs.part_evidence import in_words, measure_part_evidence, read_part_evidence


def write_parts(context: Context, given: Mapping[str, Path], *, baselines: Sequence[str]) -> PartEvidence:
    """Measure the regions of an annotated run against files with parts, and what its collection has of masks and boxes.

    Args:
        context: its codes are complete.
        given: files of `read_part_files`, by argument; without any those that were used before, if there are any.
        baselines: kinds of regions to compare with; fitted where they are not there.

    Raises:
        StoreError: the run is not annotated, or its codes or earlier part evidence are not as they were written.
        ConfigError: its regions have no latents, or no labels chose them.
        CollectionError: a file cannot be read, or nothing of it belongs to the collection.
    """
    context.steps.fingerprint("encode")
    context.steps.check(reading=["encode"])
    if not can_be_compared(context):
        raise ConfigError(
            f"the regions of {context.folder.path} (--regions {context.config.regions.kind}) are not those of latents "
            "that a contrast of species chose; part evidence needs such a run"
        )
    files = {name: str(path.absolute()) for name, path in given.items()}
    if not files and context.folder.parts.is_file() and (files := read_part_evidence(context.folder.parts).files):
        say(f"measured with the files of before, {in_words(files)}; without any once {context.folder.parts} is removed")
    return measure_part_evidence(context, files, baselines)
