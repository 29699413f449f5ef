"""Images with labels, as a source lists them: none is opened here, and a label may be any text.

A source is a table, a folder with a folder per class, a folder of Parquet files with images in them, or a dataset of
the Hub. Files, delimiters, encodings and spreadsheets are those of `sae_traits.images`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError
from sae_traits.evaluation.benchmarks.dataset_files import extract_images, has_images
from sae_traits.images.columns import COLUMN_NAMES, FILE_NAMES, SPECIES_NAMES, find_column, find_columns
from sae_traits.images.decode import IMAGE_SUFFIXES
from sae_traits.images.folder import list_folder
from sae_traits.images.hub import is_hub_source, list_hub
from sae_traits.images.listing import Row
from sae_traits.images.other_forms import shards_or_parquet
from sae_traits.images.splits import is_split_label, parse_split
from sae_traits.images.table_files import TABLE_SUFFIXES, Cells, can_read, open_table
from sae_traits.logging import warn
from sae_traits.schema import Problem
from sae_traits.vocabulary import RANKS, Split

LABEL_NAMES = ("label", "class_label", "class_name", "category", "labels", *SPECIES_NAMES)
"""Names of a column with the label, the surest first; `class` is one where no column is another rank."""
COMMON_NAMES = ("common_name", "vernacular_name", "common")
VARIANT_NAMES = ("variant", "sex", "life_stage")
_OTHER_FILE_NAMES = ("filename", "file_path", "filepath", "id", "uuid")
_TABLES = ("metadata", "labels")
"""Names of tables that are read of a folder."""
_EXPECTED = (
    f"name a folder with a folder of images per class, a table ({', '.join(TABLE_SUFFIXES)}) with the columns file and "
    "label, or hf://datasets/ORG/NAME"
)
IMAGES_FOLDER = "images"
"""Beside a table: its files may lie there, or beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRow:
    """One image and what its source says of it."""

    file: str
    """Relative to the root, with forward slashes; its id, where images are not at hand."""
    label: str
    where: str
    """Where the source says so, for messages."""
    individual: str | None = None
    split: Split | None = None
    source_sha256: str | None = None
    """Hash of the file that the image was made from, where a dataset has another encoding of it and says so."""
    variant: str | None = None
    """Sex, life stage or whatever else individuals of a class differ in."""
    question: str | None = None
    """Which of several binary questions the label answers (the column `task` of NeWT)."""
    taxon: Mapping[str, str] = field(default_factory=dict)
    """Ranks and `common_name`, as far as the source says them."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """The labelled images of a source, in its order, and what could not be used."""

    source: str
    root: Path
    rows: tuple[LabelledRow, ...]
    problems: tuple[Problem, ...] = ()

    def of_splits(self, names: Sequence[str]) -> Labelled:
        """Keep the images of some splits; all where none is asked for.

        Raises:
            CollectionError: a split is unknown, or no image is in it.
        """
        if not names:
            return self
        asked = {parse_split(name) for name in names}
        rows = tuple(row for row in self.rows if row.split in asked)
        if not rows:
            there = sorted({str(row.split) for row in self.rows if row.split}) or ["none"]
            raise CollectionError(f"{self.source} has no image of --split {','.join(names)}; it has {', '.join(there)}")
        return replace(self, rows=rows)

    def notes(self) -> list[str]:
        """Say what a reader of scores must know of the labels."""
        garbled = sorted({row.label for row in self.rows if _is_garbled(row.label)})
        if not garbled:
            return []
        return [
            f"labels have letters that were read in a wrong encoding before they came here ({len(garbled)}, such as "
            f"{garbled[0]!r}); the model reads them as they are"
        ]


def list_labelled(
    source: str,
    *,
    cache: Path,
    label_column: str | None = None,
    image_column: str | None = None,
    source_config: str | None = None,
    with_files: bool = True,
) -> Labelled:
    """List the labelled images of a source.

    Args:
        source: a table, a folder or hf://datasets/ORG/NAME.
        cache: folder for images that lie in Parquet files.
        label_column: the column with the label, where its name does not say so.
        image_column: the column with the image, where there are several.
        source_config: configuration of a dataset of the Hub.
        with_files: whether the images of a table must be there; ids are enough where embeddings are given.

    Raises:
        CollectionError: the source is missing, cannot be read, has no image with a label, or has no use for an
            option.
    """
    path = Path(source).expanduser().absolute()
    if is_hub_source(source):
        config = CollectionConfig(
            source=source, source_config=source_config, species_column=label_column, image_column=image_column
        )
        listing = list_hub(config)
        found = _from_rows(source, listing.root, listing.rows, listing.problems)
    elif (table := _table_of(path, label_column)) is not None:
        _refuse("a table", image_column=image_column, source_config=source_config)
        found = list_label_table(table, label_column=label_column)
        found = _with_files(found) if with_files else found
    elif path.is_dir() and has_images(path):
        _refuse("a folder of Parquet files", source_config=source_config)
        extracted, problems = extract_images(
            path, cache, label_names=LABEL_NAMES, label_column=label_column, image_column=image_column
        )
        rows = tuple(LabelledRow(**row) for row in extracted)
        found = Labelled(source=source, root=cache, rows=rows, problems=tuple(problems))
    elif path.is_dir():
        if not any(file.suffix.lower() in IMAGE_SUFFIXES for file in path.glob("*/**/*")):
            found = shards_or_parquet(path) or f"has no folder of images in it; {_EXPECTED}"
            raise CollectionError(f"{path} {found}")
        _refuse(
            "a folder with a folder per class",
            label_column=label_column,
            image_column=image_column,
            source_config=source_config,
        )
        listing = list_folder(CollectionConfig(source=str(path)))
        found = _from_rows(source, listing.root, listing.rows, listing.problems)
    else:
        what = "is neither a folder nor a table" if path.exists() else "does not exist"
        raise CollectionError(f"{path} {what}; {_EXPECTED}")
    if not found.rows:
        first = f": {found.problems[0].file}: {found.problems[0].reason}" if found.problems else ""
        raise CollectionError(f"no image of {source} can be used{first}")
    return replace(found, source=source)


def _refuse(kind: str, **options: str | None) -> None:
    """Raise a CollectionError where an option is given that a source of some kind has no use for."""
    for name, value in options.items():
        if value is not None:
            raise CollectionError(f"--{name.replace('_', '-')} {value} says nothing of {kind}; leave it out")


def list_label_table(path: Path, *, label_column: str | None = None) -> Labelled:
    """List the rows of a table with the columns `file` and `label`; no image is looked for.

    Where a column says the genus and the label is an epithet, the label is the binomial. Rows without file or label are
    reported, and of a file that is listed several times the first row is taken.

    Raises:
        CollectionError: the table cannot be read or lacks a column.
    """
    names, rows_of = open_table(path, header_has=(*FILE_NAMES, *_OTHER_FILE_NAMES))
    columns = _columns(path, names, label_column)
    rows: dict[str, LabelledRow] = {}
    problems: list[Problem] = []
    for number, cells in enumerate(rows_of(columns), start=1):
        where = f"row {number} below the header of {path.name}"
        try:
            row = _row(cells, where)
        except CollectionError as error:
            problems.append(Problem(cells["file"] or where, str(error)))
            continue
        if (first := rows.setdefault(row.file, row)) is not row:
            reason = f"{where} lists it again" + ("" if first.label == row.label else f", as {row.label!r}")
            problems.append(Problem(row.file, f"{reason}; {first.where} is taken"))
    return Labelled(source=str(path), root=path.parent, rows=tuple(rows.values()), problems=tuple(problems))


def _columns(path: Path, names: list[str], label_column: str | None) -> dict[str, str]:
    """Find the column for each thing that a row has."""
    ranks = find_columns(names, {rank: (rank,) for rank in RANKS})
    label = label_column or find_column(names, LABEL_NAMES)
    if label is None and not ranks.keys() - {"class"}:
        label = ranks.get("class")
    label = label or find_column(names, COMMON_NAMES)
    file = find_column([name for name in names if name != label], (*FILE_NAMES, *_OTHER_FILE_NAMES))
    there = f"its columns are {', '.join(names) or 'none'}"
    if label is None or label not in names:
        hint = f"no column {label_column!r}" if label_column else "no column `label`; name it with --label-column"
        raise CollectionError(f"{path} has {hint}; {there}")
    if file is None:
        raise CollectionError(f"{path} has no column `file`; {there}")
    others = {"common_name": COMMON_NAMES, "individual": COLUMN_NAMES["individual"], "variant": VARIANT_NAMES}
    others |= {"split": ("split",), "question": ("task",)}
    found = {what: column for what, column in find_columns(names, others).items() if column != file}
    return ranks | found | {"file": file, "label": label}


def _row(cells: Cells, where: str) -> LabelledRow:
    file, label, split = cells["file"], cells["label"], cells.get("split")
    if file is None:
        raise CollectionError(f"{where} names no file")
    if label is None:
        raise CollectionError(f"{where} has no label")
    taxon = {name: value for name in (*RANKS, "common_name") if (value := cells.get(name))}
    if (genus := taxon.get("genus")) and label.islower() and " " not in label and label == taxon.get("species", label):
        label = f"{genus} {label}"
    return LabelledRow(
        file=str(PurePosixPath(file.replace("\\", "/"))),
        label=" ".join(label.split()),
        where=where,
        individual=cells.get("individual"),
        split=parse_split(split) if split and is_split_label(split) else None,
        variant=cells.get("variant"),
        question=cells.get("question"),
        taxon=taxon,
    )


def _with_files(listed: Labelled) -> Labelled:
    """Keep the rows whose file is there: beside the table, or in the folder `images` beside it."""
    kept: list[LabelledRow] = []
    problems = list(listed.problems)
    real = os.path.realpath(listed.root)
    for row in listed.rows:
        for folder in ("", IMAGES_FOLDER):
            file = os.path.normpath(os.path.join(folder, row.file))
            inside = os.path.realpath(os.path.join(real, file)).startswith(os.path.join(real, ""))
            if inside and os.path.isfile(os.path.join(real, file)):
                kept.append(replace(row, file=PurePosixPath(file).as_posix()))
                break
        else:
            problems.append(Problem(row.file, f"{row.where} names it, and it is not in {listed.root}"))
    return replace(listed, rows=tuple(kept), problems=tuple(problems))


def _table_of(path: Path, label_column: str | None) -> Path | None:
    """Find the table that a path is, or that its folder has; one of a folder without its columns is passed over."""
    if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
        return path
    for file in (path / f"{stem}{suffix}" for stem in _TABLES for suffix in TABLE_SUFFIXES):
        if not (file.is_file() and can_read(file)):
            continue
        names, _ = open_table(file, header_has=(*FILE_NAMES, *_OTHER_FILE_NAMES))
        try:
            _columns(file, names, label_column)
        except CollectionError as error:
            warn(f"{file} is not read: {error}")
        else:
            return file
    return None


def _from_rows(source: str, root: Path, rows: Sequence[Row], problems: Sequence[Problem]) -> Labelled:
    """Take over rows that are listed as those of species are."""
    found = tuple(
        LabelledRow(
            file=row.file,
            label=" ".join(row.label.split()),
            where=row.file,
            individual=row.individual,
            split=row.split,
            taxon={name: value for name, value in row.ranks.to_dict().items() if value},
        )
        for row in rows
        if row.label and row.label.strip()
    )
    nameless = tuple(Problem(row.file, "it has no label") for row in rows if not (row.label and row.label.strip()))
    return Labelled(source=source, root=root, rows=found, problems=(*problems, *nameless))


def _is_garbled(label: str) -> bool:
    """Whether a label is UTF-8 that was read as Windows-1252 or Latin-1 (mojibake)."""
    for encoding in ("cp1252", "latin-1"):
        try:
            return not label.isascii() and label.encode(encoding).decode("utf-8") != label
        except UnicodeError:
            continue
    return False
