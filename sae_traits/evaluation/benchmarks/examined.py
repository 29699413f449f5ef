"""Labelled images that were opened once: which of them can be used, and which show the same photograph.

What was found of an image is kept beside the embeddings, by the name, size and time of its file, so that a benchmark
that goes on, or asks another question, opens none of them again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sae_traits.errors import CollectionError, ImageError
from sae_traits.evaluation.benchmarks.inputs import count
from sae_traits.evaluation.benchmarks.labels import Labelled
from sae_traits.images.decode import ImageFacts, examine_image
from sae_traits.images.near_identical import near_identical_groups
from sae_traits.images.note import read_note
from sae_traits.images.reading import image_id_of
from sae_traits.images.splits import units
from sae_traits.images.workers import worker_pool
from sae_traits.io import read_sealed, sealed_json, write_text
from sae_traits.logging import say, track
from sae_traits.schema import Collection, ImageRecord, Problem, Taxon

FACTS_FILE = "facts.json"
_IMAGES_PER_TASK = 8
_MIN_IMAGES_FOR_PROCESSES = 1000
_SECONDS_BETWEEN_WRITES = 60.0
"""What a killed command loses at most; more where a write takes long, which is of all images that are known."""


@dataclass(frozen=True, kw_only=True)
class Examined:
    """The images of a source that can be opened."""

    labelled: Labelled
    """Their rows, and all problems."""
    collection: Collection
    """The same images, in the same order, for embedding."""
    hashes: tuple[bytes, ...]
    """Perceptual hash of each."""

    @cached_property
    def groups(self) -> list[int]:
        """Of each image the first one that is near-identical to it."""
        return near_identical_groups(self.hashes).tolist()

    def units(self) -> NDArray[np.int64]:
        """Number what counts once in an interval: an individual, together with near-identical images `[n]`."""
        return np.array(units([row.individual for row in self.labelled.rows], self.groups), dtype=np.int64)

    def notes(self) -> list[str]:
        """Say what a reader of scores must know of the images."""
        notes = []
        if problems := self.labelled.problems:
            first = problems[0]
            left_out = count(len(problems), "row or image is", "rows or images are")
            notes.append(f"{left_out} not used, such as {first.file}: {first.reason}")
        labels = [row.label for row in self.labelled.rows]
        crossing = [(row, first) for row, first in enumerate(self.groups) if labels[row] != labels[first]]
        if crossing:
            row, first = crossing[0]
            here, there = self.labelled.rows[row], self.labelled.rows[first]
            notes.append(
                f"{count(len(crossing), 'image is', 'images are')} near-identical to one with another label, such as "
                f"{here.file} ({here.label}) to {there.file} ({there.label})"
            )
        return notes


def examine(labelled: Labelled, *, cache: Path, workers: int) -> Examined:
    """Open every image once, several at a time, and leave out what cannot be opened.

    Args:
        cache: folder of the facts that are known.
        workers: processes that open images.

    Raises:
        CollectionError: no image can be opened.
        StoreError: the cache cannot be written.
    """
    facts = _facts(labelled.root, [row.file for row in labelled.rows], cache, workers)
    problems = [*labelled.problems]
    rows, records, hashes = [], [], []
    for row in labelled.rows:
        found = facts[row.file]
        if isinstance(found, str):
            problems.append(Problem(row.file, found))
            continue
        rows.append(row)
        hashes.append(found.perceptual_hash)
        records.append(
            ImageRecord(
                image_id=image_id_of(row.file),
                individual_id=row.individual or "",
                file=row.file,
                taxon=Taxon(),
                split=row.split or "test",
                width=found.width,
                height=found.height,
                sha256=found.sha256,
            )
        )
    if not rows:
        raise CollectionError(f"no image of {labelled.source} can be opened: {problems[0].file}: {problems[0].reason}")
    used = replace(labelled, rows=tuple(rows), problems=tuple(problems))
    note = read_note(labelled.root) or read_note(labelled.root.parent)
    return Examined(
        labelled=used, collection=Collection(labelled.root, tuple(records), note=note), hashes=tuple(hashes)
    )


def _facts(root: Path, files: Sequence[str], cache: Path, workers: int) -> dict[str, ImageFacts | str]:
    """What is known of every file, or why it cannot be used."""
    store = cache / FACTS_FILE
    known: dict[str, dict] = (read_sealed(store) or {}) if store.is_file() else {}
    keys = {file: _key(root, file) for file in files}
    missing = [file for file in files if keys[file] not in known]
    if missing and len(missing) < len(files):
        say(f"examining: {len(files) - len(missing):,} of {len(files):,} images are known")
    cache.mkdir(parents=True, exist_ok=True)
    next_write = time.monotonic() + _SECONDS_BETWEEN_WRITES
    for done, (file, found) in enumerate(_examine(root, missing, workers), start=1):
        known[keys[file]] = found
        if (began := time.monotonic()) > next_write or done == len(missing):
            write_text(store, sealed_json(known))
            ended = time.monotonic()
            next_write = ended + max(_SECONDS_BETWEEN_WRITES, 10 * (ended - began))
    return {file: _facts_of(known[keys[file]]) for file in files}


def _examine(root: Path, files: Sequence[str], workers: int) -> Iterator[tuple[str, dict]]:
    if not files:
        return
    with worker_pool(workers if len(files) >= _MIN_IMAGES_FOR_PROCESSES else 1) as pool:
        found = pool.map(partial(_examine_file, root), files, chunksize=_IMAGES_PER_TASK)
        yield from zip(files, track(found, "examining", len(files)), strict=True)


def _examine_file(root: Path, file: str) -> dict:
    try:
        facts = examine_image(root / file)
    except ImageError as error:
        return {"reason": str(error)}
    return {"size": [facts.width, facts.height], "sha256": facts.sha256, "hash": facts.perceptual_hash.hex()}


def _facts_of(known: dict) -> ImageFacts | str:
    if "reason" in known:
        return known["reason"]
    width, height = known["size"]
    return ImageFacts(width, height, known["sha256"], bytes.fromhex(known["hash"]))


def _key(root: Path, file: str) -> str:
    status = os.stat(root / file)
    return f"{os.path.realpath(root / file)} {status.st_size} {status.st_mtime_ns}"
