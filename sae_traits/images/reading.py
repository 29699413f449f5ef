"""From a listing to a collection: labels placed, images examined, splits drawn, copies left out, ids given."""

import re
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError, ImageError
from sae_traits.images.boxes import box_in_image, out_of_image, warn_of_corners
from sae_traits.images.decode import ImageFacts, examine_image, open_mask
from sae_traits.images.listing import Listing, Row
from sae_traits.images.names import MAX_LENGTH, ParsedName, parse_name, rank_name, species_of
from sae_traits.images.near_identical import near_identical_groups
from sae_traits.images.note import read_note
from sae_traits.images.sources import list_source
from sae_traits.images.splits import Member, split_members, units
from sae_traits.images.workers import worker_pool
from sae_traits.logging import say, track
from sae_traits.schema import Collection, ImageRecord, NearIdentical, Problem, Taxon
from sae_traits.vocabulary import RANKS, Split

_REASONS_SHOWN = 3
_PROBLEMS_SAID = 5
_IMAGES_PER_TASK = 8
_MIN_IMAGES_FOR_PROCESSES = 1000
"""Fewer are examined before worker processes have started."""


@dataclass(frozen=True, slots=True)
class _Examined:
    """A row whose label names a species, or that needs none, and whose image and mask can be opened."""

    row: Row
    taxon: Taxon
    facts: ImageFacts


def read_collection(config: CollectionConfig, *, listing: Listing | None = None, workers: int = 2) -> Collection:
    """Read the images of `config.source`, and say which of its inputs could not be used.

    The source has one of the formats of `sources`. Every image is decoded once, exact copies of one are left out and
    reported. Labels become binomials; where a column `genus` contradicts the binomial, the binomial's genus is taken.
    Individuals without a given split are split by species; all images of an individual, and near-identical images,
    are in one split, unless the source parts them and `config.near_identical` is `keep`. Near-identical images of a
    species and split show one individual, where the source names none.

    Without `config.labels` the images have no names, and all are in the split `test`.

    Args:
        config: the source, and how to split it.
        listing: the source's, if `list_source` was called already.
        workers: processes that examine images.

    Raises:
        CollectionError: the source is missing, has none of the formats, or has no image that can be used.
    """
    listing = listing or list_source(config)
    problems = list(listing.problems)
    if config.labels:
        placed = _place(listing.rows, config.species_codes, problems)
    else:
        placed = [(replace(row, split=None, mask_file=None), Taxon()) for row in listing.rows]
    examined = sorted(_examine(listing.root, placed, problems, workers), key=lambda item: item.row.file)
    examined = _with_usable_boxes(examined, problems)
    problems.sort(key=lambda problem: (problem.file, problem.reason))
    if not examined:
        reasons = "; ".join(f"{problem.file}: {problem.reason}" for problem in problems[:_REASONS_SHOWN])
        more = f"; and {len(problems) - _REASONS_SHOWN} more" if len(problems) > _REASONS_SHOWN else ""
        raise CollectionError(f"no image of {config.source} can be used: {reasons}{more}")
    groups = near_identical_groups([item.facts.perceptual_hash for item in examined]).tolist()
    splits = _splits(examined, groups, config)
    records = _one_individual([_record(*item) for item in zip(examined, splits, strict=True)], groups)
    kept = _without_copies(records, problems)
    records, groups = [records[n] for n in kept], [groups[n] for n in kept]
    problems += _disagreements_of_individuals(records)
    problems.sort(key=lambda problem: (problem.file, problem.reason))
    return Collection(
        listing.root,
        tuple(records),
        tuple(problems),
        _contradictions(records, groups),
        note=read_note(listing.root),
        without_images=_labels_without_images(listing, records, config),
    )


def image_id_of(file: str) -> str:
    """Name an image by a readable stem and a hash of its whole relative path: stable, safe in file names and URLs."""
    stem = re.sub(r"[^A-Za-z0-9_]+", "-", PurePosixPath(file).stem).strip("-")[:40]
    digest = sha256(file.encode()).hexdigest()[:16]
    return f"{stem}-{digest}" if stem else digest


def say_problems(problems: Sequence[Problem], rest: str) -> None:
    """Say the first of what cannot be used, how many more there are, and of the rest where it is."""
    for problem in problems[:_PROBLEMS_SAID]:
        say(f"{problem.file}: {problem.reason}")
    if (n_more := len(problems) - _PROBLEMS_SAID) > 0:
        say(f"… and {n_more} more; {rest}")


def _place(rows: Sequence[Row], codes: bool, problems: list[Problem]) -> list[tuple[Row, Taxon]]:
    """Place every row at a species; what is left out of a label, or contradicts it, is told as a note."""
    placed: list[tuple[Row, ParsedName]] = []
    for row in rows:
        try:
            placed.append((row, parse_name(row.label, codes=codes, genus=row.ranks.genus)))
        except CollectionError as error:
            problems.append(Problem(row.file, str(error)))
    noted = [(row.label, name) for row, name in placed if name.note]
    if noted:
        label, name = noted[0]
        say(f"{len(noted)} labels are shortened to binomials, such as {label!r} to {name.species!r} ({name.note})")
    contradicted = [(row.ranks.genus, name) for row, name in placed if row.ranks.genus not in (None, name.genus)]
    if contradicted:
        genus, name = contradicted[0]
        example = f"such as {genus!r} beside {name.species!r}"
        say(f"{len(contradicted)} rows have a genus other than their binomial's, which is taken, {example}")
    taxa = [replace(_usable_ranks(row, problems), genus=name.genus, species=name.species) for row, name in placed]
    first_of: dict[str | None, tuple[Row, str]] = {}
    for (row, name), taxon in zip(placed, taxa, strict=True):
        if taxon.kingdom is not None:
            other, kingdom = first_of.setdefault(taxon.species, (row, taxon.kingdom))
            if kingdom != taxon.kingdom:
                reason = f"{name.species} is of the kingdom {taxon.kingdom} here and {kingdom} in {other.file}"
                problems.append(Problem(row.file, f"{reason}; both are used as one species"))
    return [(row, taxon) for (row, _), taxon in zip(placed, taxa, strict=True)]


def _usable_ranks(row: Row, problems: list[Problem]) -> Taxon:
    """Write the ranks above the genus as usual (NYMPHALIDAE is Nymphalidae), without what is no name."""
    ranks: dict[str, str | None] = {}
    for rank in RANKS[:-2]:
        name = rank_name(row.ranks.rank(rank) or "")
        if len(name) > MAX_LENGTH or not name.isprintable():
            problems.append(Problem(row.file, f"its {rank} is too long or has invisible characters, and is left out"))
        elif name:
            ranks[rank] = name
    return Taxon.from_dict(ranks)


def _examine(root: Path, placed: Sequence[tuple[Row, Taxon]], problems: list[Problem], workers: int) -> list[_Examined]:
    """Open every image and mask once, several at a time."""
    examined: list[_Examined] = []
    with worker_pool(workers if len(placed) >= _MIN_IMAGES_FOR_PROCESSES else 1) as pool:
        answers = pool.map(partial(_examine_row, root), placed, chunksize=_IMAGES_PER_TASK)
        try:
            for item, complaints in track(answers, "examining", total=len(placed)):
                problems += complaints
                if item is not None:
                    examined.append(item)
        except BrokenProcessPool as error:
            raise CollectionError(
                "a process that examines images ended; in a script, call this below `if __name__ == '__main__':`, and "
                "where memory is short, use fewer workers"
            ) from error
    return examined


def _examine_row(root: Path, placed: tuple[Row, Taxon]) -> tuple[_Examined | None, list[Problem]]:
    row, taxon = placed
    try:
        facts = examine_image(root / row.file)
    except ImageError as error:
        return None, [Problem(row.file, str(error))]
    if row.mask_file is None:
        return _Examined(row, taxon, facts), []
    try:
        mask = open_mask(root / row.mask_file)
        height, width = mask.shape
        if (width, height) != (facts.width, facts.height):
            raise ImageError(f"it is {width} x {height} pixels, the image {facts.width} x {facts.height}")
        if not mask.any():
            raise ImageError("it has no foreground, which is what lies above 127 of 255")
    except ImageError as error:
        complaint = f"mask {row.mask_file}: {error}; the image goes without it"
        return _Examined(replace(row, mask_file=None), taxon, facts), [Problem(row.file, complaint)]
    return _Examined(row, taxon, facts), []


def _with_usable_boxes(examined: Sequence[_Examined], problems: list[Problem]) -> list[_Examined]:
    """Cut the boxes to their images, and leave out those that reach far beyond."""
    placed: list[_Examined] = []
    n_boxes = n_outside = 0
    for item in examined:
        box, size = item.row.animal_box, (item.facts.width, item.facts.height)
        if box is not None:
            n_boxes += 1
            usable = box_in_image(box, size)
            if usable is None:
                n_outside += 1
                problems.append(Problem(item.row.file, f"{out_of_image(box, size)}; the image goes without it"))
            item = replace(item, row=replace(item.row, animal_box=usable))
        placed.append(item)
    warn_of_corners(n_outside, n_boxes)
    return placed


def _splits(examined: Sequence[_Examined], groups: Sequence[int], config: CollectionConfig) -> list[Split]:
    """Choose the split of every image; nothing is chosen or trained on images without labels."""
    if not config.labels:
        return ["test"] * len(examined)
    species = [item.taxon.species or "" for item in examined]
    together = units([item.row.individual for item in examined], groups)
    # Byte-identical images of a species have the same key, whatever their files are called.
    keys = [f"{item.row.individual or item.facts.sha256} {name}" for item, name in zip(examined, species, strict=True)]
    images = zip(keys, species, together, examined, strict=True)
    return split_members(
        [Member(key, name, unit, item.row.split) for key, name, unit, item in images],
        validation_share=config.validation_share,
        test_share=config.test_share,
        seed=config.split_seed,
        given_stays=config.near_identical == "keep",
    )


def _record(item: _Examined, split: Split) -> ImageRecord:
    row, facts = item.row, item.facts
    return ImageRecord(
        image_id=image_id_of(row.file),
        individual_id=row.individual or "",
        file=row.file,
        taxon=item.taxon,
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
        animal_box=row.animal_box,
    )


def _one_individual(records: Sequence[ImageRecord], groups: Sequence[int]) -> list[ImageRecord]:
    """The images, near-identical ones of a species and split of one individual: a copy is no further specimen."""
    first_of: dict[tuple[int, str | None, Split], ImageRecord] = {}
    shown = []
    for record, group in zip(records, groups, strict=True):
        first = first_of.setdefault((group, record.taxon.species, record.split), record)
        is_named = record.individual_id != record.image_id
        shown.append(record if is_named else replace(record, individual_id=first.individual_id))
    return shown


def _without_copies(records: Sequence[ImageRecord], problems: list[Problem]) -> list[int]:
    """Find the places of images that are no exact copies of earlier ones; report copies and what they contradict."""
    copies: dict[str, list[int]] = defaultdict(list)
    for place, record in enumerate(records):
        copies[record.sha256].append(place)
    for places in copies.values():
        first, *others = (records[place] for place in places)
        for copy in others:
            reason = f"exact copy of {first.file}, which is used instead"
            if copy.taxon.species != first.taxon.species:
                reason += f"; but its species is {copy.taxon.species}, there {first.taxon.species}"
                used = f"it is used as {first.taxon.species}, but its exact copy {copy.file} is labelled"
                problems.append(Problem(first.file, f"{used} {copy.taxon.species}"))
            if copy.split != first.split:
                reason += f"; its split is {copy.split}, there {first.split}"
            problems.append(Problem(copy.file, reason))
    return sorted(places[0] for places in copies.values())


def _labels_without_images(
    listing: Listing, records: Sequence[ImageRecord], config: CollectionConfig
) -> tuple[str, ...]:
    """Labels at whose species no image is left, of what was wanted, in the order of the alphabet."""
    if not config.labels:
        return ()
    named = dict.fromkeys((row.label, row.ranks.genus) for row in listing.rows)
    if not config.split and config.family is None:  # else nobody knows what was wanted of what could not be listed
        named |= dict.fromkeys(listing.named)
    left = {record.taxon.species for record in records}
    gone = (label for label, genus in named if species_of(label, codes=config.species_codes, genus=genus) not in left)
    return tuple(sorted({label for label in gone if label is not None}))


def _disagreements_of_individuals(records: Sequence[ImageRecord]) -> list[Problem]:
    """Report images whose species or split is not that of the first image of the same individual; all are used."""
    first_of: dict[str, ImageRecord] = {}
    problems = []
    for record in records:
        first = first_of.setdefault(record.individual_id, record)
        several = {"species": (first.taxon.species, record.taxon.species), "split": (first.split, record.split)}
        for what, (there, here) in several.items():
            if here != there:
                reason = f"its individual {record.individual_id} has the {what} {there} in {first.file} and {here} here"
                problems.append(Problem(record.file, f"{reason}; both images are used"))
    return problems


def _contradictions(records: Sequence[ImageRecord], groups: Sequence[int]) -> tuple[NearIdentical, ...]:
    """Find images that nearly equal one of another split, or of another species, each beside the first such one."""
    members: dict[int, list[ImageRecord]] = defaultdict(list)
    for record, group in zip(records, groups, strict=True):
        members[group].append(record)
    pairs = []
    for first, *others in members.values():
        for other in others:
            if other.split != first.split:
                pairs.append(NearIdentical(other.file, first.file, "split", (other.split, first.split)))
            if other.taxon.species != first.taxon.species:
                pairs.append(NearIdentical(other.file, first.file, "species", (other.species, first.species)))
    return tuple(sorted(pairs, key=lambda pair: (pair.file, pair.differ)))
