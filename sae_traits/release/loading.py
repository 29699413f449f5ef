"""Released datasets, on this machine or on the Hub: loaded with the datasets library, or read row by row."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import datasets
import pyarrow as pa
from datasets import Dataset, DatasetDict, get_dataset_config_names, load_dataset
from datasets.exceptions import DatasetsError
from huggingface_hub import DatasetCard, snapshot_download
from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]  # of httpx or httpx2
from PIL import Image

from sae_traits.errors import ReleaseError, one_line
from sae_traits.release.cards import CARD
from sae_traits.release.tables import ConfigName, Row
from sae_traits.rendering import listed


@overload
def load_traits(
    path_or_id: str | Path, revision: str | None = None, split: None = None, *, config: ConfigName = "default"
) -> DatasetDict: ...
@overload
def load_traits(
    path_or_id: str | Path, revision: str | None = None, *, split: str, config: ConfigName = "default"
) -> Dataset: ...
def load_traits(
    path_or_id: str | Path, revision: str | None = None, split: str | None = None, *, config: ConfigName = "default"
) -> DatasetDict | Dataset:
    """Load a released dataset.

    Unlike `datasets.load_dataset`, this never takes a folder for another one of the same name, or for what it held
    before: what it caches is named by path and time of every file.

    Args:
        path_or_id: folder of a run or of a dataset, or Hub id.
        revision: branch, tag or commit on the Hub.
        split: train, validation or test; None loads all.
        config: default (one row per image-trait pair), traits (the same without images), images, captions, latents or
            preview.

    Returns:
        A `DatasetDict`, or the `Dataset` of the split.

    Raises:
        ReleaseError: there is no such dataset, config or split, or it cannot be reached.
    """
    folder = local_dataset(str(path_or_id), revision)
    with reader_errors_in_one_line(str(path_or_id)):
        if folder is None:
            return load_dataset(str(path_or_id), config, revision=revision, split=split)  # pyright: ignore[reportReturnType]
        files = data_files(folder, config)
        return load_dataset("parquet", data_files=files, split=split)  # pyright: ignore[reportReturnType]


def text_rows(path_or_id: str | Path, columns_of: Callable[[list[str]], dict[str, str]]) -> Iterator[Row]:
    """Yield some columns of the rows of any dataset with text, without opening its images; `split` is added.

    Args:
        path_or_id: folder of a run or of a dataset, or Hub id; one that sae-traits released, or any other.
        columns_of: chooses among the names of the columns: what a row has -> column.

    Raises:
        ReleaseError: there is no such dataset, or it cannot be reached.
    """
    name = str(path_or_id)
    folder = local_dataset(name, None)
    with reader_errors_in_one_line(name):
        if folder is None:
            # says at once that the Hub cannot be reached; datasets tries for half a minute
            snapshot_download(name, repo_type="dataset", allow_patterns=[CARD])
        splits: Any = load_dataset(str(folder or name), streaming=True)  # which caches nothing
        for split, examples in splits.items():
            # Of a stream of CSV nothing is known before it is read.
            columns = columns_of(list(examples.features or next(iter(examples), {})))
            for example in examples.select_columns(list(dict.fromkeys(columns.values()))):
                yield {"split": split} | {what: example[column] for what, column in columns.items()}


def local_dataset(name: str, revision: str | None) -> Path | None:
    """The folder of a dataset, or that of the run which made it; None where the name is no folder, but one on the Hub.

    Raises:
        ReleaseError: there is a folder, and a revision of it is asked for.
    """
    folder = Path(name)
    if not folder.is_dir():
        return None
    if revision is not None:
        raise ReleaseError(f"{folder} is a folder and has no revision {revision}; leave out --revision")
    is_run = (folder / "config.yaml").is_file() and (folder / "dataset").is_dir()
    return folder / "dataset" if is_run else folder


def dataset_folder(name: str, revision: str | None, *, files: list[str] | None = None) -> Path:
    """The folder of a dataset or of the run that made it, or the files of one on the Hub, fetched into its cache.

    Of one on the Hub, `files` are patterns of those that are needed; None fetches all.
    """
    if (folder := local_dataset(name, revision)) is not None:
        return folder
    with reader_errors_in_one_line(name):
        return Path(snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=files))


@contextmanager
def unreplaced(folder: Path) -> Iterator[None]:
    """Make sure that a dataset on this machine is the same one at the end of the block as at its beginning.

    Raises:
        ReleaseError: a command has put another in its place meanwhile.
    """
    before = folder.stat().st_ino if folder.is_dir() else None
    yield
    if before != (folder.stat().st_ino if folder.is_dir() else None):
        raise ReleaseError(f"{folder} was replaced while it was read; give the same command again")


def data_files(folder: Path, config: ConfigName, *, missing_ok: bool = False) -> dict[str, list[str]]:
    """Split -> patterns of the files of a config, as our cards say them; empty where there is none and `missing_ok`."""
    card = DatasetCard.load(folder / CARD).data.to_dict() if (folder / CARD).is_file() else {}
    for entry in card.get("configs", []):
        # Other cards may name a file, a list of them, or a folder.
        splits = [split for split in entry.get("data_files") or () if isinstance(split, dict)]
        if entry.get("config_name") == config and splits:
            paths = {split["split"]: split["path"] for split in splits}
            return {
                split: [str(folder.resolve() / path) for path in ([some] if isinstance(some, str) else some)]
                for split, some in paths.items()
            }
    if missing_ok:
        return {}
    configs = [str(entry["config_name"]) for entry in card.get("configs", []) if entry.get("config_name")]
    if config in configs or not configs:  # whose card is none of ours
        raise ReleaseError(f"{folder} has no config `{config}`; name RUN, RUN/dataset or a dataset on the Hub")
    made_by = "; `sae-traits caption RUN` writes captions" if config == "captions" else ""
    raise ReleaseError(f"{folder} has no config `{config}`; it has {listed(configs)}{made_by}")


@dataclass(frozen=True)
class Released:
    """A dataset that sae-traits released."""

    source: str
    """Folder or Hub id."""
    revision: str | None
    configs: frozenset[str]
    """Names of what it holds."""

    @classmethod
    def open(cls, source: str, revision: str | None = None) -> Released:
        """The dataset of a folder (or of a run's folder), or one on the Hub.

        Raises:
            ReleaseError: there is none, or it is not one of sae-traits.
        """
        local = local_dataset(source, revision)
        source = str(local or source)
        with reader_errors_in_one_line(source):
            if local is None:  # says at once that the Hub cannot be reached; datasets tries for half a minute
                snapshot_download(source, repo_type="dataset", revision=revision, allow_patterns=[CARD])
            configs = frozenset(get_dataset_config_names(source, revision=revision))
        if missing := {"default", "images"} - configs:
            raise ReleaseError(
                f"{source} is no dataset that sae-traits released: it lacks {', '.join(sorted(missing))}; "
                "name RUN/dataset or its repository on the Hub"
            )
        return cls(source, revision, configs)

    def splits(self, config: ConfigName) -> list[str]:
        """Names of a config's splits."""
        return list(self._load(config))

    def rows(self, config: ConfigName, split: str, *, images: bool) -> Iterator[Row]:
        """The rows of a split in order; an image is None, or its encoded bytes under `image["bytes"]`."""
        rows = self._load(config)[split]
        columns = list(rows.features or {})
        if "image" in columns and not images:
            rows = self._load(config, [name for name in columns if name != "image"])[split]
        elif "image" in columns:
            rows = rows.cast_column("image", datasets.Image(decode=False))
        with reader_errors_in_one_line(self.source):
            yield from rows

    def all_rows(self, config: ConfigName) -> Iterator[Row]:
        """The rows of all splits, without images."""
        for split in self.splits(config):
            yield from self.rows(config, split, images=False)

    def captions(self, split: str) -> dict[str, str]:
        """The captions of a split by `image_id`; none where the dataset has none."""
        if "captions" not in self.configs or split not in self.splits("captions"):
            return {}
        return {row["image_id"]: row["caption"] for row in self.rows("captions", split, images=False)}

    def _load(self, config: ConfigName, columns: list[str] | None = None) -> Any:
        """All splits; only what is among `columns` is fetched, where they are given."""
        only: dict[str, Any] = {} if columns is None else {"columns": columns}
        with reader_errors_in_one_line(self.source):
            return load_dataset(self.source, config, revision=self.revision, streaming=True, **only)

    def image_of(self, row: Row) -> tuple[bytes, tuple[int, int], str]:
        """The file of a row's image, its width and height, and the usual suffix of its format, without a dot.

        Raises:
            ReleaseError: the dataset names its images instead of holding them.
        """
        if not row.get("image"):
            raise ReleaseError(
                f"{self.source} names its images instead of holding them; fetch them with `sae-traits rehydrate` first"
            )
        data = row["image"]["bytes"]
        with Image.open(io.BytesIO(data)) as image:
            return data, image.size, str(image.format).lower().replace("jpeg", "jpg")


def web_address(row: Row) -> str | None:
    """The address of a row's photograph, where it is one of the web: portals make it a link."""
    url = row["source_url"]
    return url if url and url.lower().startswith(("http://", "https://")) else None


@contextmanager
def reader_errors_in_one_line(source: str) -> Iterator[None]:
    """Turn what the clients of the Hub and of Parquet raise into a ReleaseError that says what to do."""
    try:
        yield
    except (HTTPError, OSError, ValueError, RuntimeError, DatasetsError, pa.ArrowException) as error:
        reason = re.sub(r"\bhf_\w+", "hf_…", one_line(error, max_length=300))
        if not Path(source).exists() and "://" not in source:
            reason = f"there is no such folder, and from the Hub it cannot be had ({reason})"
        raise ReleaseError(
            f"cannot read the dataset {source}: {reason}; name RUN/dataset, or its repository on the Hub "
            "(HF_TOKEN where that is private)"
        ) from error
