"""Part evidence of a run, RUN/evaluation/parts.json: what the command `parts` measures, and whether it is of today."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydantic import TypeAdapter

from sae_traits.config.tree import as_dict
from sae_traits.errors import CollectionError, StoreError, one_line
from sae_traits.evaluation.part_evidence import PartEvidence
from sae_traits.evaluation.part_files import read_part_files
from sae_traits.evaluation.part_measuring import measure_parts
from sae_traits.evaluation.part_truth import PartTruth
from sae_traits.evaluation.results import SCHEMA_VERSION
from sae_traits.io import read_sealed, sealed_json, write_text
from sae_traits.logging import say, warn
from sae_traits.runs.baselines import can_be_compared, methods_of, plan_with_labels_of
from sae_traits.runs.context import Context

N_PROBLEMS_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class StoredPartEvidence:
    """RUN/evaluation/parts.json."""

    encode: str
    """Fingerprint of the step that made the codes."""
    regions: str
    """Hash of the options that pick the regions, and of the labels."""
    files: dict[str, str]
    """What said where the parts are: option -> path."""
    evidence: PartEvidence

    @property
    def baselines(self) -> tuple[str, ...]:
        """With which the regions were compared."""
        return tuple(self.evidence.methods)[1:]


_ADAPTER = TypeAdapter(StoredPartEvidence)


def write_part_evidence(path: Path, stored: StoredPartEvidence) -> None:
    """Write part evidence as JSON, with its hash; NaN is null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, sealed_json(_ADAPTER.dump_python(stored, mode="json")))


def read_part_evidence(path: Path) -> StoredPartEvidence:
    """Read what `write_part_evidence` wrote.

    Raises:
        StoreError: the file is damaged.
    """
    try:
        if (values := read_sealed(path)) is None:
            raise StoreError(f"{path} is damaged; remove it, or run `sae-traits parts` again with its files")
        return _ADAPTER.validate_python(values)
    except (OSError, ValueError) as error:
        raise StoreError(
            f"cannot read {path} ({one_line(error)}); remove it, or run `sae-traits parts` again with its files"
        ) from error


def measure_part_evidence(context: Context, files: Mapping[str, str], baselines: Sequence[str]) -> PartEvidence:
    """Measure the regions of a run against files with parts and what its collection has of masks and boxes; keep it.

    Args:
        context: its regions `can_be_compared`.
        files: of `read_part_files`, by argument.
        baselines: kinds of regions to compare with; fitted where they are not there.

    Raises:
        CollectionError: a file cannot be read, or nothing of it belongs to the collection.
    """
    read = read_part_files(context.collection, **{name: Path(path) for name, path in files.items()})
    for problem in read.problems[:N_PROBLEMS_SHOWN]:
        warn(f"{problem.file}: {problem.reason}")
    if (n_more := len(read.problems) - N_PROBLEMS_SHOWN) > 0:
        warn(f"… and {n_more} more; all are in {context.folder.parts}")
    evidence = measure_parts(
        methods_of(context, baselines),
        context.collection,
        context.features.info,
        PartTruth(context.collection, read),
        partial(plan_with_labels_of, context),
    )
    encoded = context.steps.fingerprint("encode")
    stored = StoredPartEvidence(encode=encoded, regions=_digest(context), files=dict(files), evidence=evidence)
    write_part_evidence(context.folder.parts, stored)
    return evidence


def stored_part_evidence(context: Context) -> PartEvidence | str | None:
    """What the command `parts` measured; where that was of other regions, it is measured again with the same files.

    A sentence where that cannot be, and None where nothing was measured.

    Raises:
        StoreError: parts.json is damaged.
    """
    if not context.folder.parts.is_file() or not context.steps.is_current("encode"):
        return None
    stored = read_part_evidence(context.folder.parts)
    if (stored.encode, stored.regions) == (context.steps.fingerprint("encode"), _digest(context)):
        return stored.evidence
    of_other = f"{context.folder.parts} is of other regions, or of an earlier version"
    if not can_be_compared(context):
        return f"{of_other}; those of --regions {context.config.regions.kind} have no part evidence"
    say(f"{of_other}; it is measured again, with {in_words(stored.files)}")
    try:
        return measure_part_evidence(context, stored.files, stored.baselines)
    except CollectionError as error:
        command = f"sae-traits parts {shlex.quote(str(context.folder.path))}{as_options(stored.files)}"
        return f"{of_other}, and cannot be measured again ({error}); run `{command}` again, with files that are there"


def as_options(files: Mapping[str, str]) -> str:
    """Files with parts as options of the command line, each behind a space."""
    return "".join(f" --{name.replace('_', '-')} {shlex.quote(path)}" for name, path in files.items())


def in_words(files: Mapping[str, str]) -> str:
    """Files with parts for a terminal."""
    return as_options(files).strip() or "the masks and boxes of the collection alone"


def _digest(context: Context) -> str:
    """Hash of the options that pick the regions of a run, of its labels, and of how they are measured."""
    labels = context.collection.digest("taxon", "individual_id", "split")
    return hashlib.sha256(f"{SCHEMA_VERSION} {as_dict(context.config.regions)} {labels}".encode()).hexdigest()
