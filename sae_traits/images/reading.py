"""From a listing to a collection: labels placed, images examined, splits drawn, ids given."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import repeat
from pathlib import Path, PurePosixPath

from PIL import Image

from sae_traits.errors import CollectionError, ImageError
from sae_traits.images.decode import ImageFacts, examine_image, open_mask
from sae_traits.images.listing import Listing, Row
from sae_traits.images.names import ParsedName, parse_name
from sae_traits.images.near_identical import near_identical_groups
from sae_traits.images.splits import Member, split_members
from sae_traits.logging import say, track
from sae_traits.schema import ImageRecord, NearIdentical, Problem, Split, Taxon


@dataclass(frozen=True, slots=True)
class _Placed:
    """A row whose label names a species."""

    row: Row
    name: ParsedName


@dataclass(frozen=True, slots=True)
class _Examined:
    """A placed row whose image, and whose mask if it has one, can be opened."""

    placed: _Placed
    facts: ImageFacts


def read_records(
    listing: Listing,
    *,
    validation_share: float,
    test_share: float,
    split_seed: int,
    given_splits_stay: bool,
    workers: int,
) -> tuple[tuple[ImageRecord, ...], tuple[Problem, ...], tuple[NearIdentical, ...]]:
    """The images that can be used, sorted by file, and what could not be used, the listing's problems included.

    Near-identical images are on one side of the splits, but for splits of the source (where `given_splits_stay`). The
    last of the results are those that are not, and those of different species.
    """
    problems = list(listing.problems)
    placed = _place(listing.rows, problems)
    examined = sorted(_examine(listing.root, placed, problems, workers), key=lambda item: item.placed.row.file)
    groups = near_identical_groups([item.facts.perceptual_hash for item in examined]).tolist()
    members = [
        Member(_content_id(item), item.placed.name.species, group, item.placed.row.split)
        for item, group in zip(examined, groups, strict=True)
    ]
    splits = split_members(
        members,
        validation_share=validation_share,
        test_share=test_share,
        seed=split_seed,
        given_stays=given_splits_stay,
    )
    records = []
    for item, split in zip(examined, splits, strict=True):
        row, name = item.placed.row, item.placed.name
        taxon = replace(row.ranks, genus=name.genus, species=name.species)
        records.append(record_of(row, item.facts, taxon, split))
    problems.sort(key=lambda problem: (problem.file, problem.reason))
    return tuple(records), tuple(problems), _contradictions(records, groups)


def _contradictions(records: Sequence[ImageRecord], groups: Sequence[int]) -> tuple[NearIdentical, ...]:
    """Images that nearly equal one of another split, or of another species, each beside the first such one."""
    members: dict[int, list[ImageRecord]] = defaultdict(list)
    for record, group in zip(records, groups, strict=True):
        members[group].append(record)
    found = []
    for first, *others in members.values():
        for one in others:
            if one.split != first.split:
                found.append(NearIdentical(one.file, first.file, "split", (one.split, first.split)))
            if one.species != first.species:
                found.append(NearIdentical(one.file, first.file, "species", (one.species, first.species)))
    return tuple(sorted(found, key=lambda pair: (pair.file, pair.differ)))


def _content_id(item: _Examined) -> str:
    """Same for byte-identical images of a species; what the draw depends on, whatever the file is called."""
    return f"{item.facts.sha256} {item.placed.name.species}"


def record_of(row: Row, facts: ImageFacts, taxon: Taxon, split: Split) -> ImageRecord:
    """The image of a row whose image was examined."""
    return ImageRecord(
        image_id=image_id_of(row.file),
        file=row.file,
        taxon=taxon,
        split=split,
        width=facts.width,
        height=facts.height,
        sha256=facts.sha256,
        license=row.license,
        rights_holder=row.rights_holder,
        source_url=row.source_url,
        source_revision=row.source_revision,
        mm_per_pixel=row.mm_per_pixel,
        mask_file=row.mask_file,
    )


def image_id_of(file: str) -> str:
    """A stable id, safe in file names and URLs: a readable stem, and a hash of the whole relative path."""
    stem = re.sub(r"[^A-Za-z0-9_]+", "-", PurePosixPath(file).stem).strip("-")[:40]
    digest = sha256(file.encode()).hexdigest()[:16]
    return f"{stem}-{digest}" if stem else digest


def _place(rows: Sequence[Row], problems: list[Problem]) -> list[_Placed]:
    """Place every row at a species; what is left out of a label, or contradicts it, is told as a note."""
    placed: list[_Placed] = []
    for row in rows:
        try:
            placed.append(_Placed(row, parse_name(row.label)))
        except CollectionError as error:
            problems.append(Problem(row.file, str(error)))
    noted = [item for item in placed if item.name.note]
    if noted:
        label, name = noted[0].row.label, noted[0].name
        say(f"{len(noted)} labels are shortened to binomials, such as {label!r} to {name.species!r} ({name.note})")
    contradicted = [item for item in placed if item.row.ranks.genus not in (None, item.name.genus)]
    if contradicted:
        genus, name = contradicted[0].row.ranks.genus, contradicted[0].name
        say(
            f"{len(contradicted)} rows have a genus other than their binomial's, which is taken, "
            f"such as {genus!r} beside {name.species!r}"
        )
    return placed


def _examine(root: Path, placed: Sequence[_Placed], problems: list[Problem], workers: int) -> list[_Examined]:
    """Open every image and mask once, several at a time; Pillow releases the interpreter while it decodes."""
    examined: list[_Examined] = []
    # `open_image` refuses what Pillow warns of as a decompression bomb, so that its warning says nothing new.
    with warnings.catch_warnings(), ThreadPoolExecutor(max(1, workers)) as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        answers = pool.map(_examine_one, repeat(root), placed)
        for item, complaints in track(answers, "examining", total=len(placed)):
            problems += complaints
            if item is not None:
                examined.append(item)
    return examined


def _examine_one(root: Path, placed: _Placed) -> tuple[_Examined | None, list[Problem]]:
    row = placed.row
    try:
        facts = examine_image(root / row.file)
    except ImageError as error:
        return None, [Problem(row.file, str(error))]
    if row.mask_file is None:
        return _Examined(placed, facts), []
    try:
        mask = open_mask(root / row.mask_file)
        height, width = mask.shape
        if (width, height) != (facts.width, facts.height):
            raise ImageError(f"it is {width} x {height} pixels, the image {facts.width} x {facts.height}")
        if not mask.any():
            raise ImageError("it has no foreground, which is what lies above 127 of 255")
    except ImageError as error:
        without = replace(placed, row=replace(row, mask_file=None))
        complaint = f"mask {row.mask_file}: {error}; the image goes without it"
        return _Examined(without, facts), [Problem(row.file, complaint)]
    return _Examined(placed, facts), []
