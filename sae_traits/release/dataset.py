"""Write a Hub dataset repository as a folder: README.md and data/{config}/{split}-00000-of-0000N.parquet."""

from __future__ import annotations

import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from sae_traits.errors import ReleaseError
from sae_traits.progress import track
from sae_traits.release import tables
from sae_traits.release.cards import dataset_card
from sae_traits.release.facts import DatasetFacts, DatasetSummary, Rights
from sae_traits.release.pictures import Picture, SourceImage
from sae_traits.release.shards import ShardWriter
from sae_traits.release.tables import CONFIG_NAMES, ConfigName, Row
from sae_traits.schema import SPLITS, ChosenLatent, Collection, Specimen, Trait

MAXIMUM_PREVIEWS = 200
SPECIMENS_A_WORKER = 2
"""Specimens in memory for each worker."""


def write_dataset(
    folder: Path,
    collection: Collection,
    traits: Iterable[Trait],
    latents: Sequence[ChosenLatent],
    *,
    sae: str,
    title: str,
    longest_side: int,
    facts: DatasetFacts,
    workers: int,
) -> DatasetSummary:
    """Write the dataset next to `folder`, and move it into place only when it is complete.

    The same input gives the same bytes. Memory is bounded by some specimens and by a group of rows for each split.

    Args:
        folder: a new folder, or an earlier dataset to replace.
        collection: every specimen becomes a row of `specimens`, with or without traits.
        traits: in the order of the collection's specimens; read once.
        latents: rows of the config `latents`.
        sae: the SAE, as repository@revision.
        title: of the card.
        longest_side: pixels of the images of `default`.
        facts: what the card says beside what the rows show.
        workers: threads that read, resize and encode images.

    Raises:
        ReleaseError: there is no trait, an image is missing or has changed, the folder holds other files, or the disk
            is full; what stood in `folder` is then still there.
    """
    _refuse_other_files(folder)
    partial = folder.with_name(f"{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        summary = _write_tables(partial / "data", collection, traits, latents, sae, longest_side, workers)
        if not summary.n_traits:
            raise ReleaseError(
                "no specimen has a trait, so there is no dataset to write; lower --firing-quantile or add specimens"
            )
        card = dataset_card(summary, facts, sae=sae, title=title, longest_side=longest_side, folder=folder.name)
        (partial / "README.md").write_text(card, encoding="utf-8")
        _move_into_place(partial, folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ReleaseError(
            f"cannot write {folder}: {reason}; make room or choose another folder, and run again"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return summary


def _refuse_other_files(folder: Path) -> None:
    """Raise where replacing the folder would delete what this module did not write."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ReleaseError(
            f"{folder} is a file; the dataset needs a folder: move the file away, or name another folder"
        )
    data = folder / "data"
    others = {p.name for p in folder.iterdir()} - {"README.md", "data"}
    others |= {p.name for p in data.iterdir()} - set(CONFIG_NAMES) if data.is_dir() else set()
    if others:
        raise ReleaseError(
            f"{folder} holds files that are not part of a dataset ({', '.join(sorted(others)[:3])}); "
            "move them away, or name another folder"
        )


def _move_into_place(partial: Path, folder: Path) -> None:
    old = folder.with_name(f"{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Work:
    """A specimen with what is to be made of it."""

    specimen: Specimen
    traits: tuple[Trait, ...]
    preview: Trait | None


@dataclass(frozen=True, slots=True)
class _Pictures:
    """The images of a specimen, as far as they are needed."""

    source: Picture
    reduced: Picture | None
    preview: Picture | None


class _Tables:
    """The open tables: one writer a config and split, made when its first row comes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[tuple[ConfigName, str], ShardWriter] = {}
        self._schemas = {config: tables.features(config).arrow_schema for config in CONFIG_NAMES}

    def add(self, config: ConfigName, split: str, row: Row, picture: Picture | None = None) -> None:
        if (config, split) not in self._writers:
            self._writers[config, split] = ShardWriter(self._folder / config, split, self._schemas[config])
        self._writers[config, split].add(row, len(picture.data) if picture else 0)

    def __enter__(self) -> _Tables:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        for writer in self._writers.values():
            if failure is None:
                writer.close()
            else:
                writer.abandon()

    def rows(self) -> dict[str, dict[str, int]]:
        """Config -> split -> rows, in the order of CONFIG_NAMES and SPLITS."""
        return {
            config: {s: self._writers[config, s].n_rows for s in SPLITS if (config, s) in self._writers}
            for config in CONFIG_NAMES
        }


@dataclass
class _Counts:
    """What the summary counts while rows go by."""

    n_described: int = 0
    n_significant: int = 0
    latents: set[int] = field(default_factory=set)
    reference_ranks: Counter[str] = field(default_factory=Counter)

    def add(self, traits: Sequence[Trait]) -> None:
        self.n_described += bool(traits)
        for trait in traits:
            self.n_significant += trait.candidate.contrast.significant
            self.latents.add(trait.candidate.latent)
            self.reference_ranks[trait.candidate.contrast.reference_rank] += 1


def _write_tables(
    folder: Path,
    collection: Collection,
    traits: Iterable[Trait],
    latents: Sequence[ChosenLatent],
    sae: str,
    longest_side: int,
    workers: int,
) -> DatasetSummary:
    counts = _Counts()

    def draw(work: _Work) -> _Pictures:
        return _draw(work, collection.path(work.specimen), longest_side)

    with _Tables(folder) as writers:
        for latent in latents:
            writers.add("latents", "train", tables.latent_row(latent, sae))  # chosen on the train split alone
        finished = _in_order(draw, _plan(collection, traits), workers)
        for work, pictures in track(finished, "dataset", len(collection.specimens)):
            counts.add(work.traits)
            _add_rows(writers, work, pictures, sae)
    rights = Counter((s.license, s.rights_holder) for s in collection.specimens)
    return DatasetSummary(
        rows=writers.rows(),
        n_traits=counts.reference_ranks.total(),
        n_specimens=len(collection.specimens),
        n_species=len({s.species for s in collection.specimens}),
        n_described=counts.n_described,
        n_significant=counts.n_significant,
        n_latents=len(counts.latents),
        reference_ranks=dict(counts.reference_ranks.most_common()),
        rights=tuple(Rights(*names, n) for names, n in rights.most_common()),
    )


def _add_rows(writers: _Tables, work: _Work, pictures: _Pictures, sae: str) -> None:
    specimen, split = work.specimen, work.specimen.split
    source = pictures.source
    writers.add("specimens", split, tables.specimen_row(specimen, work.traits, source.to_dict(), sae), source)
    if (reduced := pictures.reduced) is not None:
        for trait in work.traits:
            row = tables.default_row(specimen, trait, reduced.to_dict(), reduced.scale, sae)
            writers.add("default", split, row, reduced)
    if work.preview is not None and (preview := pictures.preview) is not None:
        writers.add("preview", split, tables.preview_row(specimen, work.preview, preview.to_dict()), preview)


def _plan(collection: Collection, traits: Iterable[Trait]) -> Iterator[_Work]:
    """Every specimen with its traits, and for some the trait to preview."""
    species = sorted({s.species for s in collection.specimens})
    previewed = species[:: -(-len(species) // MAXIMUM_PREVIEWS)] if species else []
    open_previews = dict.fromkeys(previewed, MAXIMUM_PREVIEWS // max(1, len(previewed)))
    groups = groupby(traits, key=lambda trait: trait.candidate.specimen)
    row, group = next(groups, (None, ()))
    for index, specimen in enumerate(collection.specimens):
        mine: tuple[Trait, ...] = ()
        if row == index:
            mine = tuple(group)
            row, group = next(groups, (None, ()))
        preview = None
        if mine and (left := open_previews.get(specimen.species, 0)):
            open_previews[specimen.species] = left - 1
            preview = mine[left % len(mine)]  # not always a specimen's first, strongest trait
        yield _Work(specimen, mine, preview)
    if row is not None:
        raise ValueError(f"the traits are not in the order of the specimens: specimen {row} comes too late")


def _draw(work: _Work, path: Path, longest_side: int) -> _Pictures:
    """Read the specimen's image, and encode what its rows need."""
    source = SourceImage(path, work.specimen)
    return _Pictures(
        source=source.at_source_size(),
        reduced=source.reduced(longest_side) if work.traits else None,
        preview=source.with_region(work.preview.region) if work.preview else None,
    )


def _in_order(
    draw: Callable[[_Work], _Pictures], works: Iterator[_Work], workers: int
) -> Iterator[tuple[_Work, _Pictures]]:
    """Draw in threads (Pillow lets go of the interpreter lock), a few specimens ahead, and yield in order."""
    with ThreadPoolExecutor(max(1, workers)) as pool:
        waiting: deque[tuple[_Work, Future[_Pictures]]] = deque()
        try:
            for work in works:
                waiting.append((work, pool.submit(draw, work)))
                if len(waiting) > SPECIMENS_A_WORKER * max(1, workers):
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
