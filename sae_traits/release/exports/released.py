"""A released dataset, read row by row from a folder or from the Hub."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sae_traits.errors import ReleaseError
from sae_traits.release.local import local_dataset
from sae_traits.release.tables import ConfigName

Row = dict[str, Any]


@dataclass(frozen=True)
class Released:
    """A dataset that sae-traits released."""

    source: str
    """Folder or Hub id."""
    revision: str | None

    @classmethod
    def open(cls, source: str, revision: str | None = None) -> Released:
        """The dataset of a folder (or of a run's folder), or one on the Hub.

        Raises:
            ReleaseError: there is none, or it is not one of sae-traits.
        """
        from datasets import get_dataset_config_names

        source = str(local_dataset(source, revision) or source)
        with _errors_in_one_line(source):
            names = get_dataset_config_names(source, revision=revision)
        if missing := {"default", "images"} - set(names):
            raise ReleaseError(
                f"{source} is no dataset that sae-traits released: it lacks {', '.join(sorted(missing))}; "
                "name RUN/dataset or its repository on the Hub"
            )
        return cls(source, revision)

    def splits(self, config: ConfigName) -> list[str]:
        """Names of a config's splits."""
        return list(self._load(config))

    def rows(self, config: ConfigName, split: str, *, images: bool) -> Iterator[Row]:
        """The rows of a split in order; an image is None, or its encoded bytes under `image["bytes"]`.

        Args:
            config: which table.
            split: one of `splits`.
            images: whether the images are wanted; without them nothing of them is read.
        """
        from datasets import Image

        rows = self._load(config)[split]
        columns = list(rows.features or {})
        if "image" in columns and not images:
            rows = rows.select_columns([name for name in columns if name != "image"])
        elif "image" in columns:
            rows = rows.cast_column("image", Image(decode=False))
        with _errors_in_one_line(self.source):
            yield from rows

    def _load(self, config: ConfigName) -> Any:
        from datasets import load_dataset

        with _errors_in_one_line(self.source):
            return load_dataset(self.source, config, revision=self.revision, streaming=True)


@contextmanager
def _errors_in_one_line(source: str) -> Iterator[None]:
    """Turn what the clients of the Hub and of Parquet raise into a ReleaseError that says what to do."""
    import pyarrow as pa
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]  # of httpx or httpx2

    try:
        yield
    except (HTTPError, OSError, ValueError, RuntimeError, DatasetsError, pa.ArrowException) as error:
        said = re.sub(r"\bhf_\w+", "hf_…", " ".join(str(error).split()))
        raise ReleaseError(
            f"cannot read the dataset {source}: {said[:300]}; name RUN/dataset, or its repository on the Hub "
            "(HF_TOKEN where that is private)"
        ) from error


def image_bytes(row: Row) -> bytes | None:
    """The encoded image of a row; None where the dataset names its images instead of holding them."""
    image = row.get("image")
    return image["bytes"] if image else None


def image_size_and_suffix(content: bytes) -> tuple[tuple[int, int], str]:
    """(width, height) and the usual suffix of an encoded image, without decoding its pixels."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        return image.size, {"JPEG": "jpg"}.get(str(image.format), str(image.format).lower())
