"""Where a vision model's files are: a local folder, or a repository on the Hub pinned to one commit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_traits.errors import BackboneError, one_line
from sae_traits.io import hash_of_file

WITHOUT_NETWORK = "give a local folder, or use --backbone texture, which needs no weights"


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model, always of the same revision."""

    name: str
    """Hub id, or the absolute path of a local folder."""
    revision: str
    """Commit on the Hub; of a local folder "sha256:" and the start of the hash of its weights."""
    commit: str | None
    """The same commit, or None for a local folder."""

    @classmethod
    def find(cls, name: str, revision: str | None = None) -> ModelFiles:
        """The files of a local folder if there is one of that name, else of a repository on the Hub.

        Args:
            name: local folder or Hub id.
            revision: branch, tag or commit on the Hub; a local folder has none.

        Raises:
            BackboneError: there is no such model, or the Hub cannot be reached.
        """
        folder = Path(name).expanduser()
        if folder.is_dir():
            if not (folder / "config.json").is_file():
                raise BackboneError(f"{folder} has no config.json; give the folder of a transformers vision model")
            return cls(str(folder.resolve()), f"sha256:{_hash_of_weights(folder)}", None)
        if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
            raise BackboneError(f"the backbone folder {folder} does not exist")
        config = _download(name, "config.json", revision)
        if config is None:
            raise BackboneError(f"{name} on the Hub has no config.json; choose a transformers vision model")
        commit = config.parent.name  # the Hub cache keeps files as snapshots/<commit>/<file>
        return cls(name, commit, commit)

    @classmethod
    def recorded(cls, name: str, revision: str) -> ModelFiles:
        """The files that some features were made with, from what was recorded of them.

        Raises:
            BackboneError: the model is gone, or its weights are others.
        """
        files = cls.find(name, None if revision.startswith("sha256:") else revision)
        if files.revision != revision:
            raise BackboneError(
                f"{files.name} has revision {files.revision}, not {revision}, which made these features; "
                "put the right weights there, or extract and train again"
            )
        return files

    def read_json(self, file: str) -> dict[str, Any] | None:
        """The content of one of the model's JSON files, or None where it has no such file.

        Raises:
            BackboneError: the file is not JSON, or cannot be fetched.
        """
        path = Path(self.name) / file if self.commit is None else _download(self.name, file, self.commit)
        if path is None or not path.is_file():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BackboneError(f"{path} is not JSON: {error}") from error


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
    return hash_of_file(*files)[:16]


def _download(name: str, file: str, revision: str | None) -> Path | None:
    """One file of a repository, from the cache where it is there; None where the repository has no such file."""
    from huggingface_hub import hf_hub_download
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
        return Path(hf_hub_download(name, file, revision=revision))
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
        raise BackboneError(
            f"{name} is neither a folder nor in the Hub cache, and the Hub cannot be reached; {WITHOUT_NETWORK}"
        ) from error
    except HFValidationError as error:
        raise BackboneError(f"{name!r} is neither a folder nor a Hub id; {WITHOUT_NETWORK}") from error
    except (HfHubHTTPError, OSError) as error:
        raise BackboneError(
            f"cannot fetch {file} of {name} from the Hub ({one_line(error)}); {WITHOUT_NETWORK}"
        ) from error
