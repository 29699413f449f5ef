"""The latents of a dataset that was made before, for images without labels: read, pinned, checked against the SAE.

They are in the dataset's config `latents`, on this machine or on the Hub.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from sae_traits.errors import CheckpointError, ConfigError, StoreError, one_line
from sae_traits.schema import ChosenLatent, Contrast
from sae_traits.traits.chosen import LatentsBySpecies, strongest_choices

CARD = "README.md"
CONFIG = "latents"
CONTRAST = tuple(Contrast.__dataclass_fields__)
"""Columns of a contrast."""
_PLAIN = tuple(name for name in ChosenLatent.__dataclass_fields__ if name != "contrast")
COLUMNS = (*_PLAIN, *CONTRAST, "sae")
_HELD_OUT = ("held_out_f_species", "held_out_f_reference")
_NEWER = ("background", "usual_x", "usual_y", "name", *_HELD_OUT)
"""Columns that datasets of earlier versions lack."""
_ROWS_AT_A_TIME = 2000
_HASH = "sha256:"
"""What stands in the place of a revision where an SAE is on no Hub."""


@dataclass(frozen=True, eq=False)
class DatasetLatents(LatentsBySpecies):
    """The latents of a dataset, each with the row of the species with the largest effect, and by these species."""

    name: str
    """The folder, or the Hub id with its commit, as ORG/NAME@COMMIT."""
    revision: str | None
    """The commit on the Hub; None for a folder."""
    sae: str
    """The SAE that they are latents of, as the dataset names it: repository@revision."""
    choices: Mapping[int, ChosenLatent]
    """By latent, ascending."""

    @cached_property
    def _by_species(self) -> dict[str, dict[int, ChosenLatent]]:
        by_species: dict[str, dict[int, ChosenLatent]] = {}
        for latent, choice in self.choices.items():
            by_species.setdefault(choice.species, {})[latent] = choice
        return dict(sorted(by_species.items()))

    def __getitem__(self, species: str) -> Mapping[int, ChosenLatent]:
        return self._by_species[species]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_species)

    def __len__(self) -> int:
        return len(self._by_species)

    @property
    def public_name(self) -> str:
        """The dataset and its commit on the Hub, or the name of a folder and a hash of what is used of it."""
        return self.name if self.revision is not None else f"{Path(self.name).name} (sha256:{self.digest[:16]})"

    def thresholds(self, n_latents: int) -> NDArray[np.float32]:
        """A latent fires above this activation; infinite for those that the dataset does not have `[n_latents]`.

        Raises:
            StoreError: the dataset has a latent beyond `n_latents`.
        """
        if (last := max(self.choices)) >= n_latents:
            raise StoreError(f"{self.name} has a latent {last}, but the SAE has latents 0 to {n_latents - 1} only")
        thresholds = np.full(n_latents, np.inf, dtype=np.float32)
        thresholds[list(self.choices)] = [choice.threshold for choice in self.choices.values()]
        return thresholds

    @property
    def repository_and_revision(self) -> tuple[str, str]:
        """Where the SAE is: on the Hub, or `local` with the hash of its weights, after `sha256:`.

        Raises:
            CheckpointError: the regions of the dataset are not those of an SAE.
        """
        repository, _, revision = self.sae.rpartition("@")
        is_sae = repository == "local" or "/" in repository
        if not is_sae or not revision:
            raise CheckpointError(
                f"the latents of {self.name} are those of {self.sae}, which is no SAE; give a dataset "
                "whose regions are of an SAE"
            )
        return repository, revision

    @cached_property
    def digest(self) -> str:
        """Hash of what is used of the dataset: neither names of latents nor shares of what was held out."""
        used = (replace(choice, name=None, **dict.fromkeys(_HELD_OUT)) for choice in self.choices.values())
        rows = repr([self.sae, *map(asdict, used)])
        return hashlib.sha256(rows.encode()).hexdigest()


def read_released_latents(source: str, *, revision: str | None = None) -> DatasetLatents:
    """Read the config `latents` of a dataset that sae-traits wrote.

    Args:
        source: the folder of a dataset, for example RUN/dataset, or a Hub id `org/name`.
        revision: branch, tag or commit on the Hub.

    Raises:
        StoreError: there is no such dataset, it has no config `latents`, or a row of it cannot be used.
    """
    if Path(source).exists():
        if revision is not None:
            raise StoreError(f"{source} is a folder on this machine, which has no revision; leave out the revision")
        folder, commit, name = Path(source), None, source
    else:
        folder = _download(source, [CARD], revision)
        commit = folder.name  # the Hub client keeps each commit in a folder of its own
        name = f"{source}@{commit}"
    if not (folder / CARD).is_file():
        hint = f"give {folder / 'dataset'}" if (folder / "dataset" / CARD).is_file() else "give the folder of a dataset"
        raise StoreError(f"{source} is not a dataset: it has no {CARD}; {hint}, or a Hub id such as org/name")
    patterns = _patterns(folder / CARD, name)
    if commit is not None:
        folder = _download(source, [CARD, *patterns], commit)
    saes: set[str] = set()
    choices = strongest_choices(_rows(_files(folder, patterns, name), name, saes))
    if not choices:
        raise StoreError(f"the config `{CONFIG}` of {name} has no rows, so there is nothing to describe with")
    if len(saes) > 1:
        raise StoreError(f"the latents of {name} are of several SAEs: {', '.join(sorted(saes))}; use a dataset of one")
    return DatasetLatents(name, commit, saes.pop(), dict(sorted(choices.items())))


def sae_to_adopt(
    released: DatasetLatents,
    dataset: str,
    given: str | None = None,
    revision: str | None = None,
    *,
    hash_of: Callable[[Path], str],
) -> tuple[str, str | None]:
    """Which SAE the latents of a dataset go with: the one that was given, or else the one that the dataset names.

    Args:
        dataset: its folder or Hub id; a run's SAE lies beside its dataset.
        hash_of: hash of the weights of the SAE in a folder.

    Returns:
        Name and revision.

    Raises:
        ConfigError: none was given, and that of the dataset is neither on the Hub nor beside the dataset.
        CheckpointError: the regions of the dataset are not those of an SAE, or the SAE beside it cannot be read.
    """
    repository, pinned = released.repository_and_revision
    if not pinned.startswith(_HASH) and given in (None, repository) and revision is None:
        return repository, pinned
    if given is not None:
        return given, revision
    beside = Path(dataset).resolve().with_name("sae")
    if not beside.is_dir():
        where = f"is not on the Hub, and {beside} is not there"
    elif _HASH + hash_of(beside) != pinned:
        where = f"is not on the Hub, and {beside} is another one"
    else:
        return str(beside), None
    raise ConfigError(
        f"the dataset {released.name} names its SAE as {released.sae}, which {where}; say with --sae where it is"
    )


def check_sae(released: DatasetLatents, name: str, sae_hash: str, hash_of: Callable[[str, str], str]) -> None:
    """Raise a CheckpointError when a dataset's latents are not those of an SAE.

    The weights are compared, so that a copy in another place is as good as the original.

    Args:
        sae_hash: of its weights.
        hash_of: hash of the weights of the SAE in a repository on the Hub, at a revision.
    """
    repository, revision = released.repository_and_revision
    expected = revision if revision.startswith(_HASH) else _HASH + hash_of(repository, revision)
    if _HASH + sae_hash != expected:
        raise CheckpointError(
            f"the latents of {released.name} are those of the SAE {released.sae}, not of {name} ({_HASH}{sae_hash}), "
            "in which the same numbers stand for other things; give --sae the SAE of the dataset"
        )


def _patterns(card: Path, name: str) -> list[str]:
    """Where the files of the config `latents` lie, as the front matter of the card says."""
    from huggingface_hub.repocard import metadata_load

    try:
        configs = (metadata_load(card) or {}).get("configs", [])
        splits = next((config["data_files"] for config in configs if config["config_name"] == CONFIG), None)
        if splits is not None:
            paths = [split["path"] for split in splits]
            return [path for some in paths for path in ([some] if isinstance(some, str) else some)]
    except (yaml.YAMLError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise StoreError(f"the front matter of the card of {name} cannot be read: {one_line(error)[:300]}") from error
    raise StoreError(
        f"{name} has no config `{CONFIG}`, which says by which latents species are told; give a dataset that "
        "sae-traits made"
    )


def _files(folder: Path, patterns: Sequence[str], name: str) -> list[Path]:
    """The files of a folder that fit the patterns, none from outside of it."""
    from huggingface_hub.utils import filter_repo_objects

    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))
    files = [folder / file for file in filter_repo_objects(names, allow_patterns=list(patterns))]
    if not files:
        raise StoreError(f"the config `{CONFIG}` of {name} has no files ({', '.join(patterns)}); get it again")
    return files


def _rows(files: Sequence[Path], name: str, saes: set[str]) -> Iterator[ChosenLatent]:
    """The rows of the files, some in memory at a time; the SAEs that they name are added to `saes`."""
    adapter = TypeAdapter(ChosenLatent)
    for file in files:
        try:
            with pq.ParquetFile(file) as parquet:
                columns = [column for column in COLUMNS if column in parquet.schema_arrow.names]
                if lacking := [column for column in COLUMNS if column not in (*columns, *_NEWER)]:
                    raise StoreError(f"the config `{CONFIG}` of {name} lacks {', '.join(lacking)}")
                for batch in parquet.iter_batches(batch_size=_ROWS_AT_A_TIME, columns=columns):
                    for row in batch.to_pylist():
                        if not isinstance(row["sae"], str):
                            raise ValueError(f"latent {row['latent']} is of no SAE: its `sae` is {row['sae']!r}")
                        saes.add(row["sae"])
                        plain = {column: row[column] for column in _PLAIN if column in row}
                        yield _checked(adapter.validate_python(plain | {"contrast": contrast_of(row)}))
        except (OSError, pa.ArrowException, ValidationError, ValueError) as error:
            raise StoreError(f"the config `{CONFIG}` of {name} cannot be used: {one_line(error)[:300]}") from error


def contrast_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the contrast in a row of a dataset, in which a q-value that is not a number is null."""
    return {column: row[column] for column in CONTRAST} | ({"q_value": math.nan} if row["q_value"] is None else {})


def _checked(choice: ChosenLatent) -> ChosenLatent:
    """The row, unless its numbers cannot be those of a latent."""
    usable = choice.latent >= 0 and math.isfinite(choice.contrast.effect)
    if not usable or not 0 <= choice.threshold < math.inf:
        raise ValueError(
            f"latent {choice.latent} has the threshold {choice.threshold} and the effect {choice.contrast.effect}"
        )
    place = choice.usual_place
    if place is not None and not all(0 <= side <= 1 for side in place):
        raise ValueError(f"latent {choice.latent} usually fires at {place}, which is outside of the box, 0 to 1")
    return choice


def _download(repo_id: str, patterns: Sequence[str], revision: str | None) -> Path:
    """The local snapshot of some files of a dataset on the Hub; what is here already is not fetched again."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(repo_id, repo_type="dataset", revision=revision, allow_patterns=list(patterns)))
    except HFValidationError as error:
        raise StoreError(f"{repo_id} is neither a folder here nor a Hub id such as org/name") from error
    except OSError as error:
        raise StoreError(
            f"there is no folder {repo_id} here, and from the Hub the dataset cannot be had ({one_line(error)}); check "
            "the path or the id, the revision, the network and, for a private repository, `hf auth login`"
        ) from error
