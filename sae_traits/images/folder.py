"""A folder of images, one folder per species: Genus_species/…, or train/Genus_species/… where it is split already."""

import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError
from sae_traits.images.decode import IMAGE_SUFFIXES, UNREAD_SUFFIXES, VIDEO_SUFFIXES, begins_as_image
from sae_traits.images.listing import Format, Listing, Row, inside_check
from sae_traits.images.names import species_of
from sae_traits.images.other_forms import shards_or_parquet
from sae_traits.images.selection import select
from sae_traits.images.splits import is_split_label, parse_split
from sae_traits.schema import Problem, Taxon
from sae_traits.vocabulary import Split

_PACKED_SUFFIXES = frozenset({".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"})
_WITH_RANKS = re.compile(
    r"\d+_(?P<kingdom>[A-Z][a-z]+)_(?P<phylum>[A-Z][a-z]+)_(?P<class_>[A-Z][a-z]+)_(?P<order>[A-Z][a-z]+)"
    r"_(?P<family>[A-Z][a-z]+)_(?P<label>[A-Z][a-z-]+_[a-z-]+)"
)
"""Folders as iNaturalist's competition of 2021 has them: 06372_Animalia_Arthropoda_…_Noctuidae_Noctua_pronuba."""
_LAYOUT = "Genus_species/…jpg"


def list_folder(config: CollectionConfig) -> Listing:
    """List the wanted images under a folder, labelled with the folder below the root.

    A folder named as a split may lie above those of the species, and deeper folders only sort the images of one.
    Without labels the images may lie flat or in folders of any name, which say nothing. Hidden files and files that are
    no images are passed over; images that cannot be used, links to folders and links that lead out are reported.

    Raises:
        CollectionError: there is no image at all, the folder cannot be listed, or those of species lie a level deeper.
    """
    root = config.path
    check_inside = inside_check(root)
    rows: list[Row] = []
    problems: list[Problem] = []
    named: dict[tuple[str | None, None], None] = {}
    for file, reason in _walk(root, ""):
        is_folder = reason is not None and (root / file).is_dir()
        _, label, _ = _split_label_and_ranks(PurePosixPath(file).parts[: None if is_folder else -1])
        named[label, None] = None
        try:
            if reason is not None:
                raise CollectionError(reason)
            check_inside(file)
            rows.append(_row(file) if config.labels else Row(file=file, label=None))
        except CollectionError as error:
            problems.append(Problem(file, str(error)))
    if not rows and not problems:
        if found := shards_or_parquet(root):
            raise CollectionError(f"{root} {found}")
        labelled = f"{_LAYOUT}, or a metadata.csv with the columns file and species"
        raise CollectionError(f"no image in {root}; expected {labelled if config.labels else 'photographs in it'}")
    if config.labels:
        _refuse_folder_above(root, rows, problems, config)
    return Listing(root=root, rows=tuple(select(rows, config)), problems=tuple(problems), named=tuple(named))


FORMAT = Format(
    name="a folder of images on this machine",
    recognise=lambda config: partial(list_folder, config) if config.path.is_dir() else None,
)


def _refuse_folder_above(
    root: Path, rows: Sequence[Row], problems: Sequence[Problem], config: CollectionConfig
) -> None:
    """Raise a CollectionError where no folder names a species, and folders inside them do."""
    if any(species_of(row.label, codes=config.species_codes) for row in rows):
        return
    inner = {PurePosixPath(row.file).parent for row in rows}
    named = sorted(folder for folder in inner if species_of(folder.name) and len(folder.parts) > 1)
    lie_in_root = any(file.suffix.lower() in IMAGE_SUFFIXES for file in (PurePosixPath(p.file) for p in problems))
    if not rows and lie_in_root and species_of(root.name):
        raise CollectionError(f"the images lie in {root} itself, not in folders of species; give {root.parent} instead")
    if named:
        folders = sorted({root.joinpath(*folder.parts[:-1]) for folder in named})
        advice = f"give {folders[0]} as the source" if len(folders) == 1 else "put these side by side, or make a table"
        raise CollectionError(
            f"the folders of {root} name no species, but those inside them do, such as {named[0]}; {advice}"
        )


def _row(file: str) -> Row:
    """Make the row of an image file, or raise a CollectionError with the reason why there is none."""
    split, label, ranks = _split_label_and_ranks(PurePosixPath(file).parts[:-1])
    if label is None:
        raise CollectionError(f"it lies in no species folder; expected {_LAYOUT}")
    return Row(file=file, label=label, ranks=ranks, split=split)


def _split_label_and_ranks(folders: Sequence[str]) -> tuple[Split | None, str | None, Taxon]:
    """What the folders that a file lies in, from the root on, say of it."""
    split = None
    if folders and is_split_label(folders[0]):
        split, folders = parse_split(folders[0]), folders[1:]
    label = folders[0] if folders else None
    if (told := _WITH_RANKS.fullmatch(label or "")) is None:
        return split, label, Taxon()
    ranks = told.groupdict()
    return split, ranks.pop("label"), Taxon(**ranks)


def _walk(root: Path, folder: str) -> Iterator[tuple[str, str | None]]:
    """Yield the pictures under a folder, relative to the root, each with the reason why it is not listed, or None."""
    try:
        with os.scandir(root / folder) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
    except OSError as error:
        yield folder or ".", f"the folder cannot be read: {error.strerror}"
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        path = f"{folder}/{entry.name}" if folder else entry.name
        printable = path.encode("utf-8", "backslashreplace").decode()
        suffix = os.path.splitext(entry.name)[1].lower()
        if path != printable:
            yield printable, "its name is not UTF-8; rename it"
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk(root, path)
        elif os.path.isdir(root / path):
            yield path, "it is a symbolic link to a folder, which is not followed; put the folder itself there"
        elif suffix in IMAGE_SUFFIXES:
            yield path, None
        elif suffix in UNREAD_SUFFIXES:
            yield path, f"{suffix} files are not read; convert it to JPEG or PNG"
        elif suffix in VIDEO_SUFFIXES:
            yield path, "videos are not read; save the frames that show the animal as JPEG or PNG"
        elif folder and suffix in _PACKED_SUFFIXES:
            yield path, "packed files are not read; unpack it"
        elif entry.is_file() and begins_as_image(root / path):
            yield path, "it is a picture, but its name does not end as one; rename it, or convert it to JPEG or PNG"
