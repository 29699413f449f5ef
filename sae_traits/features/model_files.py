"""Where a vision model's files are: a local folder, or a repository on the Hub pinned to one commit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_traits.errors import BackboneError, one_line
from sae_traits.io import IS_LFS_POINTER, hash_of_file, is_lfs_pointer

if TYPE_CHECKING:
    import torch

WITHOUT_NETWORK = "give a local folder"
_OF_FOLDER = "sha256:"
"""Begins the revision of a local folder."""
_ELSEWHERE = "put the right weights there, or say where they are: --backbone FOLDER (in Python backbone=)"


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model, always of the same revision."""

    name: str
    """Hub id, or the absolute path of a local folder."""
    revision: str
    """Commit on the Hub; of a local folder "sha256:" and the start of the hash of its weights, also where a record has
    that and the model with these weights is on the Hub."""
    commit: str | None
    """On the Hub; None for a local folder."""
    config: str = "config.json"
    """The configuration file that it has."""

    @classmethod
    def find(cls, name: str, revision: str | None = None, *, configs: tuple[str, ...] = ("config.json",)) -> ModelFiles:
        """The files of a local folder if there is one of that name, else of a repository on the Hub.

        `revision` is a branch, tag or commit there. Of the configuration files the first that is there counts.

        Raises:
            BackboneError: there is no such model, or the Hub cannot be reached.
        """
        folder = Path(name).expanduser()
        if folder.is_dir():
            if revision is not None:
                raise BackboneError(f"{folder} is a folder and has no revision {revision}; leave out --revision")
            for config in configs:
                if (folder / config).is_file():
                    return cls(str(folder.resolve()), f"{_OF_FOLDER}{_hash_of_weights(folder)}", None, config)
        elif folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
            raise BackboneError(f"the model folder {folder} does not exist")
        else:
            for config in configs:
                if (path := _download(name, config, revision)) is not None:
                    commit = path.parent.name  # the Hub cache keeps files as snapshots/<commit>/<file>
                    return cls(name, commit, commit, config)
        lacks = ("neither " if len(configs) > 1 else "no ") + " nor ".join(configs)
        raise BackboneError(f"{name} has {lacks}; give the folder of a model, or its id on the Hub")

    @classmethod
    def recorded(cls, name: str, revision: str) -> ModelFiles:
        """The files that some features were made with; a BackboneError where they are gone, or others."""
        folder, is_of_folder = Path(name).expanduser(), revision.startswith(_OF_FOLDER)
        if is_of_folder and not folder.is_dir():
            if name.count("/") == 1 and name[0] not in "./~":
                return cls._of_weights(name, revision)
            raise BackboneError(
                f"the model folder {folder} does not exist, and its weights ({revision}) made these features; "
                f"{_ELSEWHERE}"
            )
        if folder.is_dir() and not is_of_folder:
            raise BackboneError(
                f"{folder} is a folder, and these features were made with the commit {revision} of a model on the Hub, "
                "with which a folder cannot be compared; give the model's id, where no folder has that name"
            )
        files = cls.find(name, None if is_of_folder else revision)
        if files.revision != revision:
            raise BackboneError(
                f"{files.name} has revision {files.revision}, not {revision}, which made these features; {_ELSEWHERE}, "
                "or extract and train again"
            )
        return files

    @classmethod
    def _of_weights(cls, name: str, revision: str) -> ModelFiles:
        """A model on the Hub with the weights that were in a folder; a BackboneError where it has others."""
        files = cls.find(name)
        path = files.path("model.safetensors")
        if path is None or f"{_OF_FOLDER}{hash_of_file(path)[:16]}" != revision:
            raise BackboneError(
                f"the model.safetensors of {name}@{files.revision} is not the weights {revision}, which made these "
                f"features; {_ELSEWHERE}"
            )
        return cls(name, revision, files.commit)

    def path(self, *files: str) -> Path | None:
        """The first of these files that the model has, on this machine; None where it has none of them."""
        for file in files:
            path = Path(self.name) / file if self.commit is None else _download(self.name, file, self.commit)
            if path is not None and path.is_file():
                return path
        return None

    def read_json(self, file: str) -> dict[str, Any] | None:
        """The object in one of the model's JSON files, None where it has none; a BackboneError where it is damaged."""
        if (path := self.path(file)) is None:
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BackboneError(f"{path} is not JSON: {error}; get the file again") from error
        if not isinstance(values, dict):
            raise BackboneError(f"{path} is not a JSON object; get the file again")
        return values

    def read_config(self) -> Any:
        """The model's configuration in transformers, without weights; a BackboneError where it does not know such."""
        from huggingface_hub.errors import StrictDataclassError
        from transformers import AutoConfig

        try:
            with quiet_transformers():
                return AutoConfig.from_pretrained(self.name, revision=self.commit, trust_remote_code=False)
        except (StrictDataclassError, ImportError, OSError, ValueError, KeyError, TypeError) as error:
            raise BackboneError(
                f"the config.json of {self.name} is not of a model that transformers knows: {one_line(error)}"
            ) from error

    def load_model(self, dtype: torch.dtype, auto_class: Any = None) -> tuple[Any, dict[str, set[str]]]:
        """The whole model of transformers, frozen, in eval mode, by AutoModel (without a head) or another auto class.

        Also the names of tensors that its weights lack (`missing_keys`) or have left over (`unexpected_keys`).

        Raises:
            BackboneError: the weights cannot be read, or are of other shapes than the config says.
        """
        from pickle import UnpicklingError

        from safetensors import SafetensorError
        from transformers import AutoModel

        try:
            with quiet_transformers():
                model, loading = (auto_class or AutoModel).from_pretrained(
                    self.name,
                    revision=self.commit,
                    trust_remote_code=False,
                    weights_only=True,  # where there is no safetensors file: tensors from a pickle, never code
                    dtype=dtype,  # and not `.to(dtype)` later, which would also round tables of positions
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # the message below names them, that of transformers does not
                )
        except (ImportError, OSError, ValueError, RuntimeError, SafetensorError, UnpicklingError) as error:
            raise BackboneError(f"cannot load the weights of {self.name}: {one_line(error)}") from error
        for name, shape, expected in sorted(loading["mismatched_keys"]):
            raise BackboneError(
                f"the weights of {self.name} do not match its config: {name} is {list(shape)}, and config.json says "
                f"{list(expected)}; they must be of the same model"
            )
        names = {kind: set(loading[kind]) for kind in ("missing_keys", "unexpected_keys")}
        return model.eval().requires_grad_(False), names


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bar and no report of odd tensors: whoever loads a model checks them and says so in one line."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def _hash_of_weights(folder: Path) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a folder's weight files, in the order of their names."""
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    if not files:
        raise BackboneError(f"{folder} has a config.json but no weights (*.safetensors); copy the whole model there")
    if pointers := [file for file in files if is_lfs_pointer(file)]:
        raise BackboneError(f"{pointers[0]} holds no weights: {IS_LFS_POINTER}")
    return hash_of_file(*files)[:16]


def _download(name: str, file: str, revision: str | None) -> Path | None:
    """Fetch one file of a repository, from the cache where it is there; None where the repository has no such file."""
    from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        is_here = isinstance(try_to_load_from_cache(name, file, revision=revision), str)
        only_here = not is_here and not _hub_answers()
        return Path(hf_hub_download(name, file, revision=revision, local_files_only=only_here))
    except RemoteEntryNotFoundError:
        return None
    except GatedRepoError as error:
        raise BackboneError(
            f"{name} is gated: accept its terms on its page on the Hub, run `hf auth login`, and try again"
        ) from error
    except RepositoryNotFoundError as error:
        raise BackboneError(
            f"there is no folder {name}, and no model {name} on the Hub (or it is private: run `hf auth login`)"
        ) from error
    except RevisionNotFoundError as error:
        raise BackboneError(f"{name} has no revision {revision!r} on the Hub") from error
    except LocalEntryNotFoundError as error:
        if try_to_load_from_cache(name, file, revision=revision) is _CACHED_NO_EXIST:
            return None
        raise BackboneError(
            f"{name} is neither a folder nor in the Hub cache, and the Hub cannot be reached; {WITHOUT_NETWORK}"
        ) from error
    except HFValidationError as error:
        raise BackboneError(f"{name!r} is neither a folder nor a Hub id; {WITHOUT_NETWORK}") from error
    except (HfHubHTTPError, OSError) as error:
        raise BackboneError(
            f"there is no folder {name} here, and from the Hub its {file} cannot be had ({one_line(error)}); "
            f"{WITHOUT_NETWORK}"
        ) from error


def _hub_answers() -> bool:
    """Whether the Hub can be reached at all; huggingface_hub would try for half a minute, with a line each time."""
    from huggingface_hub import constants, get_session
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled  # pyright: ignore[reportPrivateImportUsage]

    try:
        get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (HTTPError, OfflineModeIsEnabled):
        return False
    return True
