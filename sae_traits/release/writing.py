"""Write a dataset folder from rows: shards, card, and for a release by reference what `rehydrate` needs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sae_traits.errors import ReleaseError
from sae_traits.io import replacing, write_text
from sae_traits.logging import track
from sae_traits.release.cards import CARD, dataset_card
from sae_traits.release.facts import DatasetFacts, DatasetSummary, Rights
from sae_traits.release.merging import keep_own_parts
from sae_traits.release.rows import ImageRows
from sae_traits.release.shards import FIRST_SEGMENT, ShardWriter
from sae_traits.release.tables import CONFIG_NAMES, ConfigName, Images, Row, features
from sae_traits.schema import SPLITS

RELEASE_FILE = "release.json"
"""In a release by reference: the settings that its rows do not show."""


@dataclass(frozen=True, kw_only=True)
class ReleaseSettings:
    """What a release is made with, beside its rows."""

    images: Images
    longest_side: int
    """Pixels of the images of `default`, at most."""
    title: str
    """Of the card."""
    sae: str | None
    """As repository@revision, or the baseline in its place; None where regions have no latents."""
    facts: DatasetFacts

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        write_text(path, json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> ReleaseSettings:
        """Read what `save` wrote.

        Raises:
            ReleaseError: the file cannot be read, or is not of this version.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(cls).validate_python(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            first = error.errors()[0] if isinstance(error, ValidationError) else None
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
            raise ReleaseError(f"cannot read {path} ({reason}); fetch the dataset again") from error


def write_release(
    folder: Path, rows: Iterable[ImageRows], latents: Iterable[Row], settings: ReleaseSettings, *, n_images: int
) -> DatasetSummary:
    """Write the dataset next to `folder`, and move it into place only when it is complete.

    The same rows give the same bytes. Memory is bounded by a group of rows for each config and split.

    Args:
        folder: a new folder, or an earlier dataset to replace.
        rows: every image once; those of a segment one after the other.
        latents: rows of the config `latents`.
        settings: whether the rows hold images, and what the card says.
        n_images: how many there will be, for the progress.

    Raises:
        ReleaseError: there is no trait, an image is missing or has changed, the folder holds other files, or the disk
            is full; what stood in `folder` is then still there.
    """
    _refuse_other_files(folder)
    try:
        with replacing(folder) as partial:
            summary = _write_tables(partial / "data", rows, latents, settings.images, n_images)
            if not summary.n_traits:
                raise ReleaseError(
                    "no image has a trait, so there is no dataset to write; add images, or change "
                    "--firing-quantile: lower where latents seldom fire, higher where they fire nearly everywhere"
                )
            write_dataset_card(partial, summary, settings, former=folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ReleaseError(
            f"cannot write {folder}: {reason}; make room or choose another folder, and run again"
        ) from error
    return summary


def write_dataset_card(folder: Path, summary: DatasetSummary, settings: ReleaseSettings, *, former: Path) -> None:
    """Write README.md and, for a release by reference, its settings; what a person wrote into the former card stays.

    Args:
        folder: where to write.
        summary: of the tables.
        settings: what the card says.
        former: folder of the dataset that this is, or will be moved to; its card may be missing.

    Raises:
        ReleaseError: the former card cannot be read.
    """
    card = dataset_card(
        summary,
        settings.facts,
        sae=settings.sae,
        title=settings.title,
        longest_side=settings.longest_side,
        folder=former.name,
    )
    file = former / CARD
    existing = file.read_text(encoding="utf-8") if file.is_file() else None
    write_text(folder / CARD, keep_own_parts(card, existing, str(file)))
    if settings.images == "reference":
        settings.save(folder / RELEASE_FILE)


def _refuse_other_files(folder: Path) -> None:
    """Raise where replacing the folder would delete what this module did not write."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ReleaseError(
            f"{folder} is a file; the dataset needs a folder: move the file away, or name another folder"
        )
    data = folder / "data"
    others = {p.name for p in folder.iterdir()} - {CARD, RELEASE_FILE, "data"}
    others |= {p.name for p in data.iterdir()} - set(CONFIG_NAMES) if data.is_dir() else set()
    if others:
        raise ReleaseError(
            f"{folder} holds files that are not part of a dataset ({', '.join(sorted(others)[:3])}); "
            "move them away, or name another folder"
        )


class _Tables:
    """The open tables: one writer a config and split, made when its first row comes."""

    def __init__(self, folder: Path, images: Images) -> None:
        self._folder = folder
        self._writers: dict[tuple[ConfigName, str], ShardWriter] = {}
        self._schemas = {config: features(config, images).arrow_schema for config in CONFIG_NAMES}

    def add(self, config: ConfigName, split: str, row: Row, segment: str = FIRST_SEGMENT) -> None:
        if (config, split) not in self._writers:
            self._writers[config, split] = ShardWriter(self._folder / config, split, self._schemas[config])
        image = row.get("image")
        self._writers[config, split].add(row, segment, len(image["bytes"]) if image else 0)

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

    n_traits: int = 0
    n_images: int = 0
    n_described: int = 0
    n_significant: int = 0
    n_without_url: int = 0
    species: set[str] = field(default_factory=set)
    latents: set[int] = field(default_factory=set)
    reference_ranks: Counter[str] = field(default_factory=Counter)
    rights: Counter[tuple[str | None, str | None]] = field(default_factory=Counter)

    def add(self, record: Row) -> None:
        self.n_images += 1
        self.n_described += bool(record["traits"])
        self.n_without_url += record["source_url"] is None
        self.species |= {record["species"]} - {None}
        self.rights[record["license"], record["rights_holder"]] += 1
        for trait in record["traits"]:
            self.n_traits += 1
            self.n_significant += bool(trait["significant"])
            self.latents |= {trait["latent"]} - {None}
            if trait["reference_rank"] is not None:
                self.reference_ranks[trait["reference_rank"]] += 1


def _write_tables(
    folder: Path, rows: Iterable[ImageRows], latents: Iterable[Row], images: Images, n_images: int
) -> DatasetSummary:
    counts = _Counts()
    with _Tables(folder, images) as tables:
        for latent in latents:
            tables.add("latents", "train", latent)  # chosen on the train split alone
        for one in track(rows, "dataset", n_images):
            counts.add(one.record)
            tables.add("images", one.split, one.record, one.segment)
            for row in one.default:
                tables.add("default", one.split, row, one.segment)
            if one.preview is not None:
                tables.add("preview", one.split, one.preview, one.segment)
    return DatasetSummary(
        images=images,
        rows=tables.rows(),
        n_traits=counts.n_traits,
        n_images=counts.n_images,
        n_species=len(counts.species),
        n_described=counts.n_described,
        n_significant=counts.n_significant,
        n_latents=len(counts.latents),
        reference_ranks=dict(counts.reference_ranks.most_common()),
        rights=tuple(Rights(*names, n) for names, n in counts.rights.most_common()),
        n_without_url=counts.n_without_url,
    )
