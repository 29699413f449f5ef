"""BIOSCAN-5M as its authors hand it out: one metadata table of 5,150,850 rows and four packages of images.

Gharaee et al. 2024, "BIOSCAN-5M: A Multimodal Dataset for Insect Biodiversity". The table is read in blocks and only in
the columns that are needed; rows become objects after they are chosen.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError, one_line
from sae_traits.images.listing import Format, Listing, Row, inside_check, one_row_per_file
from sae_traits.images.selection import draw_per_species
from sae_traits.logging import say
from sae_traits.schema import Problem, Taxon
from sae_traits.vocabulary import RANKS, Split

if TYPE_CHECKING:
    import pyarrow as pa

METADATA_FILE = "metadata/csv/BIOSCAN_5M_Insect_Dataset_metadata.csv"
LICENSE = "CC BY 3.0"
RIGHTS_HOLDER = "CBG Photography Group"
RECORD_URL = "https://portal.boldsystems.org/record/"
"""With a process id: the image's page at the Barcode of Life Data System."""

PARTITIONS: dict[str, Split | None] = {
    "pretrain": None,
    "train": "train",
    "val": "validation",
    "test": "test",
    "key_unseen": None,
    "val_unseen": None,
    "test_unseen": None,
    "other_heldout": None,
}
"""The dataset's partitions, and the split that each becomes. Those without one have no species to learn: `pretrain` is
unlabelled, and the species names of the others are placeholders such as "Megaselia sp. 3YDA"."""
_NAMED = [name for name, split in PARTITIONS.items() if split is not None]
_ALIASES = {"validation": "val"}

_COLUMNS = ("processid", "sampleid", "chunk", "split", "inferred_ranks", *RANKS[1:])
"""The table has no kingdom: all of it is animals."""
_KINGDOM = "Animalia"
_PROCESS_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BLOCK = 16 * 2**20
"""Bytes of the table that are read at a time."""


def find_bioscan(source: Path) -> Path | None:
    """Find the folder bioscan5m, which a source is or holds."""
    return next((root for root in (source, source / "bioscan5m") if (root / METADATA_FILE).is_file()), None)


def list_bioscan(root: Path, config: CollectionConfig) -> Listing:
    """List the images of one package that have the scientific name of a species.

    Unlabelled rows and rows with placeholder names are left out, each kind reported with its number, and images that
    are not on this disk, each by itself. Images are drawn (`per_species`) among the images that are there.

    Of `config`, `split` are names of PARTITIONS and `image_package` is the folder below `images`; without `labels` rows
    of all partitions are taken, with or without a species.

    Raises:
        CollectionError: the table cannot be read, the package is not there, or no row is of the wanted family.
    """
    images = root / "images" / config.image_package
    if not images.is_dir():
        there = sorted(path.name for path in images.parent.glob("*") if path.is_dir())
        raise CollectionError(
            f"{root} has no images/{config.image_package}; choose --image-package among {', '.join(there) or 'none'}, "
            "or unpack the package there"
        )
    rows, problems = _read(root / METADATA_FILE, config)
    check_inside = inside_check(images)
    there = []
    for row in one_row_per_file(rows, problems, codes=config.species_codes):
        try:
            check_inside(row.file)
            there.append(row)
        except CollectionError as error:
            problems.append(Problem(row.file, str(error)))
    chosen = tuple(draw_per_species(there, config))
    named = dict.fromkeys((row.label, row.ranks.genus) for row in rows)
    return Listing(root=images, rows=chosen, problems=tuple(problems), named=tuple(named))


def _recognise(config: CollectionConfig) -> Callable[[], Listing] | None:
    root = find_bioscan(config.path)
    return None if root is None else partial(list_bioscan, root, config)


FORMAT = Format(name="BIOSCAN-5M", options=("image_package",), recognise=_recognise)


def _read(path: Path, config: CollectionConfig) -> tuple[list[Row], list[Problem]]:
    """Read the wanted rows of the table in one pass; what is left out is counted by its reason."""
    import pyarrow as pa

    pc = _compute()
    partitions = _partitions(config.split)
    rows: list[Row] = []
    problems: list[Problem] = []
    left_out: Counter[str] = Counter()
    n_wanted = n_inferred = 0
    for batch in _batches(path, problems):
        # Partitions that are not known are counted, unless others are asked for by name.
        wanted = pc.is_in(batch["split"], pa.array(partitions)) if config.split else pc.is_valid(batch["split"])
        if config.family is not None:
            wanted = pc.and_(wanted, pc.equal(pc.utf8_lower(batch["family"]), config.family.lower()))
        batch = batch.filter(wanted)
        n_wanted += len(batch)
        if config.labels:
            has_name = pc.and_(pc.is_valid(batch["species"]), pc.is_in(batch["split"], pa.array(_NAMED)))
            left_out += _reasons(batch.filter(pc.invert(has_name)))
            batch = batch.filter(has_name)
        n_inferred += pc.sum(pc.not_equal(batch["inferred_ranks"], "0")).as_py() or 0
        for cells in batch.to_pylist():
            try:
                rows.append(_row(cells, config.labels))
            except CollectionError as error:
                problems.append(Problem(METADATA_FILE, str(error)))
    if config.family is not None and not n_wanted:
        raise CollectionError(f"{path} has no row of --family {config.family} in these partitions")
    if n_inferred:
        say(f"{n_inferred:,} rows have names that the dataset's authors inferred (inferred_ranks); all are taken")
    problems += [Problem(METADATA_FILE, f"{n:,} rows {reason}") for reason, n in sorted(left_out.items())]
    return rows, problems


def _reasons(batch: pa.RecordBatch) -> Counter[str]:
    """Count why rows are left out."""
    pc = _compute()
    reasons: Counter[str] = Counter()
    is_named = pc.is_valid(batch["species"])
    for count in pc.value_counts(batch.filter(pc.invert(is_named))["split"]).to_pylist():
        reasons[f"of the partition {count['values']} have no species"] += count["counts"]
    for count in pc.value_counts(batch.filter(is_named)["split"]).to_pylist():
        name = count["values"]
        known = f"of the partition {name} have placeholders for species names"
        reasons[known if name in PARTITIONS else f"are of {name!r}, a partition that is not known"] += count["counts"]
    return reasons


def _partitions(wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Look up partitions by their own names; all when none is named."""
    names = tuple(_ALIASES.get(name, name) for name in wanted)
    if unknown := [name for name in names if name not in PARTITIONS]:
        raise CollectionError(f"BIOSCAN-5M has no partition {unknown[0]!r}; --split knows {', '.join(PARTITIONS)}")
    return names or tuple(PARTITIONS)


def _row(cells: dict[str, Any], labelled: bool) -> Row:
    """Make the row of an image; its file is `{partition}/[chunk/]{processid}.jpg`."""
    process_id, chunk, partition = cells["processid"], cells["chunk"], cells["split"]
    for name, part in (("processid", process_id or ""), ("chunk", chunk or "00"), ("split", partition or "")):
        if not _PROCESS_ID.fullmatch(part):
            raise CollectionError(
                f"the {name} {cells[name]!r} of {process_id!r} cannot be a file name, so the row is left out"
            )
    return Row(
        file="/".join(part for part in (partition, chunk, f"{process_id}.jpg") if part),
        label=cells["species"] if labelled else None,
        individual=cells["sampleid"] or process_id,
        ranks=Taxon.from_dict({"kingdom": _KINGDOM} | {rank: _name(cells[rank]) for rank in RANKS[1:]}),
        split=PARTITIONS[partition] if labelled else None,
        license=LICENSE,
        rights_holder=RIGHTS_HOLDER,
        source_url=RECORD_URL + process_id,
    )


def _name(cell: str | None) -> str | None:
    """Keep the name of a taxon; those that begin with a small letter are fillers such as "unassigned Phoridae"."""
    return None if cell is None or cell[:1].islower() else cell


def _compute() -> Any:
    """Import pyarrow.compute; its functions are made when it is imported, so type checkers know none."""
    import pyarrow.compute

    return pyarrow.compute


def _batches(path: Path, refused: list[Problem]) -> Iterator[pa.RecordBatch]:
    """Yield the table in blocks of rows, all columns as text; rows of a wrong length are refused singly."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    def refuse(row: pa_csv.InvalidRow) -> str:
        start = " ".join(str(row.text).split())[:60]
        reason = f"the row {start!r} has {row.actual_columns} cells, not {row.expected_columns}"
        refused.append(Problem(METADATA_FILE, reason))
        return "skip"

    reading, parsing = pa_csv.ReadOptions(block_size=_BLOCK), pa_csv.ParseOptions(invalid_row_handler=refuse)
    converting = pa_csv.ConvertOptions(
        include_columns=list(_COLUMNS),
        column_types=dict.fromkeys(_COLUMNS, pa.string()),  # a chunk is "00" or "1e", never a number
        strings_can_be_null=True,
        null_values=["", "nan", "NaN", "None", "no_data"],
    )
    try:
        with pa_csv.open_csv(path, reading, parsing, converting) as reader:
            yield from reader
    except KeyError as error:
        raise CollectionError(f"{path} lacks a column of BIOSCAN-5M: {error.args[0]}") from error
    except (OSError, pa.ArrowException) as error:
        raise CollectionError(f"{path} cannot be read to its end: {one_line(error)}") from error
