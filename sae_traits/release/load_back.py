"""Load what was uploaded as its readers will, and compare it with the folder that it came from.

The real clients are used (`load_dataset`, `SAE.from_pretrained`, transformers), with the token and the Hub of the
environment. Nothing of it comes from or stays in a cache, but for the dataset's card.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import pyarrow as pa
from datasets import IterableDataset, get_dataset_config_names, load_dataset
from huggingface_hub import hf_hub_download, snapshot_download

from sae_traits.errors import BackboneError, CheckpointError, ReleaseError
from sae_traits.models.clip.model import read_clip
from sae_traits.sae.model import SAE
from sae_traits.sae.sweep_folder import read_sweep

ROWS = 100
"""Rows that are compared at a time."""
_TEXTS = ("a photo of Apis mellifera.", "A Bee, don’t “touch” it: 3 mm — très long  antennæ.")
"""Whose tokens are compared."""


def load_back_dataset(folder: Path, repo_id: str, revision: str) -> None:
    """Stream every config and split, and compare columns, types and each row with the folder's."""
    configs = get_dataset_config_names(str(folder))
    _same(get_dataset_config_names(repo_id, revision=revision), configs, repo_id, "its configs")
    with TemporaryDirectory(prefix="sae-traits-load-back-") as cache:
        for config in configs:
            expected = load_dataset(str(folder), config, streaming=True, cache_dir=cache)
            found = load_dataset(repo_id, config, revision=revision, streaming=True, cache_dir=cache)
            _same(list(found), list(expected), repo_id, f"the splits of the config {config!r}")
            for split, table in expected.items():
                what = f"{config}/{split}"
                _same(found[split].features, table.features, repo_id, f"the columns and types of {what}")
                for rows in zip_longest(_rows(found[split]), _rows(table)):
                    _same(*rows, repo_id, f"the rows of {what}")


def _rows(split: IterableDataset) -> Iterator[str]:
    """Yield rows as text, in which NaN equals NaN."""
    for table in cast("Iterator[pa.Table]", split.with_format("arrow").iter(batch_size=ROWS)):
        yield repr(table.to_pylist())


def load_back_saes(folder: Path, repo_id: str, revision: str) -> None:
    """Load the SAE at the root, and those of a sweep, and compare configuration and every weight with the folder's."""
    sweep = read_sweep(folder)
    for subfolder in ["", *(sae.folder for sae in sweep.saes)] if sweep else [""]:
        what = f"the SAE in {subfolder!r}" if subfolder else "the SAE"
        with TemporaryDirectory(prefix="sae-traits-load-back-") as cache:
            try:
                found = SAE.from_pretrained(repo_id, subfolder=subfolder, revision=revision, cache_dir=cache)
            except CheckpointError as error:
                raise ReleaseError(
                    f"{repo_id}: {what} was uploaded and does not load back; main was left as it was. "
                    f"Run the same command again ({error})"
                ) from error
        expected = SAE.from_pretrained(folder, subfolder=subfolder)
        _same(found.config, expected.config, repo_id, f"the configuration of {what}")
        weights = expected.state_dict()
        _same(list(found.state_dict()), list(weights), repo_id, f"the weights of {what}")
        for name, value in found.state_dict().items():
            _same(value.equal(weights[name]), True, repo_id, f"{name} of {what}")


def load_back_clip(folder: Path, repo_id: str, revision: str) -> None:
    """Read the repository as a CLIP, and compare configuration, weights, preprocessing and tokens with the folder's."""
    with TemporaryDirectory(prefix="sae-traits-load-back-") as temporary:
        snapshot_download(repo_id, revision=revision, local_dir=temporary)
        try:
            found = read_clip(temporary)
        except BackboneError as error:
            raise ReleaseError(
                f"{repo_id}: the CLIP was uploaded and does not load back; main was left as it was. "
                f"Run the same command again ({error})"
            ) from error
        expected = read_clip(folder)
        config, of_folder = (parts.model.config.to_diff_dict() | {"_name_or_path": None} for parts in (found, expected))
        _same(config, of_folder, repo_id, "the configuration of the CLIP")
        _same(found.preprocessing, expected.preprocessing, repo_id, "how the CLIP prepares images")
        ids, ids_of_folder = (parts.tokenizer.ids(_TEXTS).tolist() for parts in (found, expected))
        _same(ids, ids_of_folder, repo_id, "the tokens of the CLIP")
        weights, tensors = (parts.model.state_dict() | parts.others for parts in (expected, found))
        _same(list(tensors), list(weights), repo_id, "the weights of the CLIP")
        for name, value in tensors.items():
            _same(value.equal(weights[name]), True, repo_id, f"{name} of the CLIP")


def load_back_site(folder: Path, repo_id: str, revision: str) -> None:
    """Fetch what the first page of a static Space and its search need, and compare it with the folder's."""
    for path in sorted([*folder.glob("*.*"), *folder.glob("data/*.js")]):
        name = path.relative_to(folder).as_posix()
        with TemporaryDirectory(prefix="sae-traits-load-back-") as temporary:
            found = hf_hub_download(repo_id, name, repo_type="space", revision=revision, local_dir=temporary)
            _same(Path(found).read_bytes(), path.read_bytes(), repo_id, name)


def _same(found: object, expected: object, repo_id: str, what: str) -> None:
    if found != expected:
        raise ReleaseError(
            f"{repo_id}: {what} came back from the Hub different from what was uploaded; main was left as it was. "
            "Run the same command again"
        )
