"""Publishing a folder on the Hugging Face Hub: one repository, one atomic commit, nothing half done.

The token is the one of the environment (HF_TOKEN) or of `hf auth login`; it is never printed or stored.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from sae_traits.errors import CheckpointError, ReleaseError
from sae_traits.sae.sweep_folder import SAE_FILE, SWEEP_FILE, WEIGHTS, read_sweep

if TYPE_CHECKING:
    from huggingface_hub import HfApi

RepoType = Literal["model", "dataset"]

HIDDEN_BUT_MEANT = (".gitattributes", ".eval_results")
"""Hidden names that the Hub itself reads."""
TEMPORARY = ("*.tmp", "*.part", "*.partial", "*.incomplete", "*.lock", "*.swp", "*~", "__pycache__", "Thumbs.db")


@dataclass(frozen=True)
class PlannedFile:
    """A file that would be in the repository."""

    path: str
    """In the repository, with forward slashes."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class Published:
    """A folder on the Hub."""

    repo_id: str
    revision: str
    """Commit that holds exactly what was published; pin it to get the same again."""
    url: str
    changed: bool
    """False where the repository held the same already, and no commit was added."""
    files: tuple[PlannedFile, ...]
    deleted: tuple[str, ...]
    """Files of an earlier release that this one no longer has."""


def plan_folder(folder: Path) -> list[PlannedFile]:
    """What of a folder would be published, sorted by path; reads no content and talks to no one.

    Raises:
        ReleaseError: the folder is missing or empty, or holds something that should not leave this machine: a hidden or
            temporary file, a link to something outside the folder, or what is not a file.
    """
    if not folder.is_dir():
        raise ReleaseError(f"{folder} is not a folder; run `sae-traits run` first, or name the folder it wrote")
    planned = []
    for parent, folders, names in os.walk(folder, onerror=_cannot_read):
        for name in folders + names:
            path = Path(parent, name)
            _refuse(path, folder)
            if name in names:
                planned.append(PlannedFile(path.relative_to(folder).as_posix(), path.stat().st_size))
    if not planned:
        raise ReleaseError(f"{folder} is empty: there is nothing to publish")
    return sorted(planned, key=lambda file: file.path)


def _cannot_read(error: OSError) -> None:
    raise ReleaseError(f"cannot read {error.filename}: {error.strerror}") from error


def _refuse(path: Path, folder: Path) -> None:
    """Raise for what should not be published."""
    name = PurePosixPath(path.name)
    if path.name.startswith(".") and path.name not in HIDDEN_BUT_MEANT:
        raise ReleaseError(f"{path} is hidden and would become public; remove it, then publish again")
    if any(name.match(pattern) for pattern in TEMPORARY):
        raise ReleaseError(f"{path} is a temporary file; remove it, or finish the step that wrote it")
    if path.is_symlink() and (path.is_dir() or not path.resolve().is_relative_to(folder.resolve())):
        raise ReleaseError(f"{path} is a link to {path.resolve()}; put a copy in its place, then publish again")
    if not path.is_file() and not path.is_dir():
        raise ReleaseError(f"{path} is neither a file nor a folder; remove it, then publish again")


def publish_folder(
    folder: Path,
    repo_id: str,
    *,
    repo_type: RepoType,
    private: bool,
    message: str,
    token: str | None = None,
    endpoint: str | None = None,
) -> Published:
    """Make a repository hold a folder, in one commit; create the repository if there is none.

    Files that others put into the repository stay. What an earlier release left goes: in the folders that the release
    writes to, files of the kinds that it writes there (`data/*.parquet`); an SAE's weights at the root; the SAEs that
    the repository's sweep.json names. The commit is made on the state that was looked at: if someone else commits in
    between, nothing changes.

    Args:
        folder: what to publish; see `plan_folder` for what is refused.
        repo_id: `NAME/REPOSITORY`, or only `REPOSITORY` in one's own namespace.
        repo_type: kind of repository.
        private: create it private; refused where it exists and is public. One that is private stays so.
        message: title of the commit.
        token: instead of the one of the environment or of `hf auth login`.
        endpoint: address of the Hub instead of HF_ENDPOINT or https://huggingface.co.

    Raises:
        ReleaseError: the folder or the repository cannot be used, or the Hub refuses or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.hf_api import RepoFile

    planned = plan_folder(folder)
    api = HfApi(endpoint=endpoint, token=token, library_name="sae-traits")
    with _errors_in_one_line(repo_id, api.endpoint):
        url = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
        repo_id = url.repo_id
        found = api.repo_info(repo_id, repo_type=repo_type)
        if private and not found.private:
            raise ReleaseError(
                f"{url} exists and is public; make it private in its settings, choose another name, "
                "or publish without --private"
            )
        entries = api.list_repo_tree(repo_id, recursive=True, revision=found.sha, repo_type=repo_type)
        remote = [entry.path for entry in entries if isinstance(entry, RepoFile)]
        swept = _former_sweep(api, repo_id, found.sha) if repo_type == "model" and SWEEP_FILE in remote else frozenset()
        deleted = _replaced(remote, planned, swept)
        commit = api.create_commit(
            repo_id,
            [CommitOperationDelete(path, is_folder=False) for path in deleted]
            + [CommitOperationAdd(file.path, folder / file.path) for file in planned],
            commit_message=message,
            repo_type=repo_type,
            parent_commit=found.sha,
        )
    return Published(repo_id, commit.oid, str(url), commit.oid != found.sha, tuple(planned), tuple(deleted))


def _former_sweep(api: HfApi, repo_id: str, revision: str | None) -> frozenset[str]:
    """Folders of the SAEs that a repository's sweep.json names; none where it is not one of ours."""
    with TemporaryDirectory(prefix="sae-traits-sweep-") as folder:
        api.hf_hub_download(repo_id, SWEEP_FILE, revision=revision, local_dir=folder)
        try:
            sweep = read_sweep(Path(folder))
        except CheckpointError:  # someone else's file of that name: what lies beside it is not ours to delete
            return frozenset()
        return frozenset(sae.folder for sae in sweep.saes) if sweep else frozenset()


def _replaced(remote: Iterable[str], planned: list[PlannedFile], swept: frozenset[str]) -> list[str]:
    """Remote files that an earlier release must have written and that are no longer there.

    They are of our kinds in our top folders; weights at the root where we write weights too, since a single file and
    shards cannot both be there; and the SAEs in the folders `swept` of an earlier sweep, with its sweep.json.
    """
    paths = {file.path for file in planned}
    ours = {_top_and_suffix(path) for path in paths if "/" in path}
    weights_at_root = any(WEIGHTS.fullmatch(path) for path in paths)

    def is_replaced(path: str) -> bool:
        folder, _, name = path.rpartition("/")
        if folder:
            return _top_and_suffix(path) in ours or (folder in swept and bool(SAE_FILE.fullmatch(name)))
        return (weights_at_root and bool(WEIGHTS.fullmatch(name))) or (bool(swept) and name == SWEEP_FILE)

    return [path for path in remote if path not in paths and is_replaced(path)]


def _top_and_suffix(path: str) -> tuple[str, str]:
    return PurePosixPath(path).parts[0], PurePosixPath(path).suffix


@contextmanager
def _errors_in_one_line(repo_id: str, endpoint: str) -> Iterator[None]:
    """Turn what the Hub's client raises into a ReleaseError of one line that says what to do."""
    from huggingface_hub.errors import (
        HFValidationError,
        HTTPError,  # pyright: ignore[reportPrivateImportUsage]  # of httpx or httpx2, as huggingface_hub is 1 or 2
    )

    try:
        yield
    except HFValidationError as error:
        raise ReleaseError(f"{repo_id!r} is not the name of a repository; write it as NAME/REPOSITORY") from error
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        # The client wraps what goes wrong while a large file is uploaded in a RuntimeError.
        reason = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        raise ReleaseError(_explain(reason, repo_id, endpoint)) from error


def _explain(error: BaseException, repo_id: str, endpoint: str) -> str:
    """What happened and what to do, in one line without a token."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    said = re.sub(r"\bhf_\w+", "hf_…", " ".join(str(error).split()))
    if isinstance(error, OfflineModeIsEnabled):
        return f"cannot publish {repo_id} offline; unset HF_HUB_OFFLINE and run the same command again"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        seconds = error.response.headers.get("Retry-After", "300")
        advice = {
            401: f"{endpoint} wants a valid token for {repo_id}; set HF_TOKEN or run `hf auth login`",
            403: f"your token may not write to {repo_id}; use one that may, or a name under your own account",
            404: f"{repo_id} does not exist on {endpoint}, or your token may not see it; check the name",
            412: f"{repo_id} changed meanwhile, so nothing was published; run the same command again",
            429: f"{endpoint} limits requests; run the same command again in {seconds} seconds",
        }
        return advice.get(status, f"{endpoint} refused to publish {repo_id} ({status}): {said}")
    if isinstance(error, OSError | ValueError | RuntimeError):
        return f"cannot publish {repo_id}: {said}"
    return f"cannot reach {endpoint} ({said}); check the connection and run the same command again"
