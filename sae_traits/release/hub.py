"""Publishing a folder on the Hugging Face Hub in an order that survives a failure at any point.

A branch is made and filled, loaded back and compared; then main moves in one atomic commit, is tagged, and the branch
goes. Every step is found done by the next attempt, so that the same command ends in the same state.

The token is the one of the environment (HF_TOKEN) or of `hf auth login`; it is never printed or stored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Literal

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.hf_api import RepoFile

from sae_traits.errors import CheckpointError, ReleaseError
from sae_traits.logging import say
from sae_traits.models.clip.heads import HEADS_FILE
from sae_traits.models.clip.saving import TOKENIZER_FILES
from sae_traits.release.card_picture import CARD_PICTURE
from sae_traits.release.cards import CARD, keep_section, read_card
from sae_traits.release.facts import RELEASE_FILE
from sae_traits.release.folder_plan import (
    Fingerprint,
    Sizes,
    fingerprints,
    highest_version,
    next_version,
    plan_folder,
    refuse_secrets,
)
from sae_traits.release.gallery import PICTURE
from sae_traits.release.model_card import EVAL_RESULTS_FILE
from sae_traits.sae.sweep_folder import SAE_FILE, SWEEP_FILE, WEIGHTS, Sweep

RepoType = Literal["model", "dataset", "space"]
Gating = Literal["auto", "manual"]
Tree = dict[str, str]
"""Path -> the Hub's hash of the file: sha256 of a large one, git's hash of any other; folders are left out."""
LoadBack = Callable[[Path, str, str], None]
"""Of folder, repository and commit: raises ReleaseError where the two differ."""
EVAL_RESULTS_FOLDER = EVAL_RESULTS_FILE.partition("/")[0]
SOMETIMES_OURS = (PICTURE, CARD_PICTURE, EVAL_RESULTS_FILE, HEADS_FILE)
"""Files that one release has and the next may not: they go with it, even where nothing of their kind is left."""
BRANCH_PREFIX = "sae-traits-release-"
"""Of the branches that releases are uploaded to; when main moves, all of them go."""


@dataclass(frozen=True)
class Published:
    """A folder on the Hub."""

    repo_id: str
    revision: str
    """Commit that holds exactly what was published; pin it to get the same again."""
    tag: str
    """The version that points at it."""
    url: str
    changed: bool
    """False where the repository held the same already, and no commit was added."""
    deleted: tuple[str, ...]
    """Files of an earlier release that this one no longer has."""

    def line(self) -> str:
        """What happened, for the terminal."""
        return f"{'published' if self.changed else 'unchanged'} {self.url} at {self.revision}, tagged {self.tag}"


@dataclass(frozen=True)
class Repository:
    """A repository that exists, and a client that may write to it."""

    api: HfApi
    repo_id: str
    repo_type: RepoType
    url: str

    @property
    def which(self) -> dict[str, Any]:
        """The two arguments of every call of the client."""
        return {"repo_id": self.repo_id, "repo_type": self.repo_type}

    def commit_of(self, revision: str) -> str:
        """The commit that a branch or tag points at."""
        info = self.api.repo_info(**self.which, revision=revision)
        assert info.sha is not None
        return info.sha

    def tree(self, revision: str) -> Tree:
        """Every file at a branch, tag or commit."""
        entries = self.api.list_repo_tree(**self.which, recursive=True, revision=revision)
        return {e.path: e.lfs.sha256 if e.lfs else e.blob_id for e in entries if isinstance(e, RepoFile)}

    def branches_and_tags(self) -> tuple[list[str], list[str]]:
        """Their names."""
        refs = self.api.list_repo_refs(**self.which)
        return [branch.name for branch in refs.branches], [tag.name for tag in refs.tags]

    def text_of(self, path: str, revision: str) -> str:
        """The content of a text file, without a cache."""
        with TemporaryDirectory(prefix="sae-traits-file-") as folder:
            file = self.api.hf_hub_download(**self.which, filename=path, revision=revision, local_dir=folder)
            return Path(file).read_text(encoding="utf-8")


def open_repository(
    api: HfApi, repo_id: str, repo_type: RepoType, *, private: bool, gated: Gating | None
) -> Repository:
    """A repository, created where there is none, with its settings made before anything is in it.

    Args:
        private: create it private; refused where it exists and is public. One that is private stays so.
        gated: readers have to ask for access: granted at once, or by hand. None leaves that as it is.

    Raises:
        ReleaseError: it was to be private and is public.
    """
    sdk = "static" if repo_type == "space" else None
    url = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True, space_sdk=sdk)
    repository = Repository(api, url.repo_id, repo_type, str(url))
    info = api.repo_info(**repository.which)
    if private and not info.private:
        raise ReleaseError(
            f"{url} exists and is public; make it private in its settings, choose another name, "
            "or publish without --private"
        )
    if gated is not None and info.gated != gated:
        api.update_repo_settings(**repository.which, gated=gated)
    return repository


@dataclass(frozen=True)
class Release:
    """A folder laid over what its repository holds: what `carry_out` has to do."""

    repository: Repository
    folder: Path
    planned: Sizes
    content: dict[str, Fingerprint]
    head: str
    """Commit of main that all this was compared with."""
    held: Tree
    """What main holds."""
    deleted: tuple[str, ...]
    branches: tuple[str, ...]
    tag: str
    tagged: str | None
    """Commit that the tag points at; None where it is to be made."""

    @property
    def changed(self) -> bool:
        """Whether main is to be moved."""
        return not self.is_in(self.held)

    @property
    def branch(self) -> str:
        """Named after the content, so that another attempt finds what this one uploaded."""
        digest = hashlib.sha256()
        for path, content in sorted(self.content.items()):
            digest.update(f"{path}\0{content.sha256}\0".encode())
        return BRANCH_PREFIX + digest.hexdigest()[:12]

    def is_in(self, tree: Tree) -> bool:
        """Whether a tree is that of main with this release in it, the files of others included."""
        others = {path: held for path, held in self.held.items() if path not in {*self.content, *self.deleted}}
        return {path: held for path, held in tree.items() if path not in self.content} == others and all(
            content.matches(tree.get(path)) for path, content in self.content.items()
        )

    def commit(self, message: str, branch: str) -> str:
        """Turn main's tree into this release in one atomic commit on a branch, and check it by its hashes.

        The branch must still point at the commit that all was compared with, or else the Hub answers 412.
        """
        changed = [path for path, content in self.content.items() if not content.matches(self.held.get(path))]
        done = self.repository.api.create_commit(
            **self.repository.which,
            operations=[
                *(CommitOperationDelete(path, is_folder=False) for path in self.deleted),
                *(CommitOperationAdd(path, self.folder / path) for path in changed),
            ],
            commit_message=message,
            revision=branch,
            parent_commit=self.head,
        )
        if not self.is_in(self.repository.tree(done.oid)):
            raise ReleaseError(
                f"{self.repository.repo_id} at {done.oid} does not hold what was uploaded: names or hashes of files "
                "differ. Run the same command again; if that does not help, do not use this release"
            )
        return done.oid


def prepare(repository: Repository, folder: Path, tag: str | None) -> Release:
    """Compare a folder with what its repository holds; changes nothing on the Hub.

    What a person wrote into its section of the repository's card goes into the card of the folder.

    Raises:
        ReleaseError: the folder cannot be published, the repository's card cannot be used, or the tag is taken.
    """
    head = repository.commit_of("main")
    held = repository.tree(head)
    card = read_card(folder)
    if card is not None and CARD in held:
        kept = keep_section(card, repository.text_of(CARD, head), repository.url)
        if kept != card:
            (folder / CARD).write_text(kept, encoding="utf-8")
    planned = plan_folder(folder)
    refuse_secrets(folder, planned)
    content = fingerprints(folder, planned)
    swept = _former_sweep(repository, head) if repository.repo_type == "model" and SWEEP_FILE in held else frozenset()
    deleted = _replaced(held, planned, swept)
    branches, tags = repository.branches_and_tags()
    unchanged = not deleted and all(file.matches(held.get(path)) for path, file in content.items())
    tag, tagged = _choose_tag(repository, tags, tag, content if unchanged else None, held)
    return Release(repository, folder, planned, content, head, held, tuple(deleted), tuple(branches), tag, tagged)


def _choose_tag(
    repository: Repository, tags: list[str], wanted: str | None, content: dict[str, Fingerprint] | None, held: Tree
) -> tuple[str, str | None]:
    """The version, and the commit that it points at where it exists and holds this release."""
    present = highest_version(tags) if wanted is None else wanted if wanted in tags else None
    if present is not None and content is not None:
        commit = repository.commit_of(present)
        tree = repository.tree(commit)
        if tree.keys() <= held.keys() and all(file.matches(tree.get(path)) for path, file in content.items()):
            return present, commit
    if wanted is not None and present is not None:
        raise tag_taken(repository, wanted)
    return wanted or next_version(tags), None


def tag_taken(repository: Repository, tag: str) -> ReleaseError:
    """The error of a tag that points at something else; tags are cited, so they are never moved."""
    return ReleaseError(
        f"{repository.repo_id} has a {tag} already, and it is not this release; nothing was uploaded. "
        "Choose a higher --tag, or leave it out for the next patch version"
    )


def carry_out(release: Release, *, message: str, load_back: LoadBack) -> Published:
    """Upload a release, prove it, move main, tag.

    Raises:
        ReleaseError: what was uploaded is not what came back.
        HTTPError, OSError, ValueError, RuntimeError, DatasetsError: the Hub refuses or cannot be reached.
    """
    repository = release.repository
    revision = release.tagged or release.head
    branches = {name for name in release.branches if name.startswith(BRANCH_PREFIX)}
    if release.changed:
        uploaded = _upload(release, message)
        branches.add(release.branch)
        say(f"{repository.repo_id}: loading it back")
        load_back(release.folder, repository.repo_id, uploaded)
        revision = release.commit(message, "main")
    for name in sorted(branches):
        repository.api.delete_branch(**repository.which, branch=name)
    if release.tagged is None:
        # Not exist_ok: the Hub also answers "conflict" when it is busy, and then there would be no tag.
        repository.api.create_tag(**repository.which, tag=release.tag, revision=revision)
    return Published(repository.repo_id, revision, release.tag, repository.url, release.changed, release.deleted)


def _upload(release: Release, message: str) -> str:
    """Make a branch hold the release, unless an earlier attempt has; its commit."""
    repository, branch = release.repository, release.branch
    if branch in release.branches:
        if release.is_in(repository.tree(branch)):
            say(f"{repository.repo_id}: was uploaded before, to the branch {branch}")
            return repository.commit_of(branch)
        repository.api.delete_branch(**repository.which, branch=branch)
    say(
        f"{repository.repo_id}: uploading what differs of {len(release.planned)} files, "
        f"{sum(release.planned.values()):,} bytes, to the branch {branch}"
    )
    repository.api.create_branch(**repository.which, branch=branch, revision=release.head)
    return release.commit(f"{message} (to be checked)", branch)


def _former_sweep(repository: Repository, revision: str) -> frozenset[str]:
    """Folders of the SAEs that a repository's sweep.json names; none where it is not one of ours."""
    try:
        sweep = Sweep.from_dict(json.loads(repository.text_of(SWEEP_FILE, revision)))
    except (CheckpointError, ValueError):  # someone else's file of that name: what lies beside it is not ours to delete
        return frozenset()
    return frozenset(sae.folder for sae in sweep.saes)


def _replaced(remote: Iterable[str], paths: Collection[str], swept: frozenset[str]) -> list[str]:
    """Remote files that an earlier release must have written and that are not among the planned `paths`."""
    ours = {_top_and_suffix(path) for path in paths if "/" in path}
    # A single file of weights and shards of them cannot both be there.
    weights_at_root = any(WEIGHTS.fullmatch(path) for path in paths)
    is_clip = "preprocessor_config.json" in paths  # whose tokenizer must be its own alone
    pages_at_root = any("/" not in path and path.endswith(".html") for path in paths)

    def is_replaced(path: str) -> bool:
        folder, _, name = path.rpartition("/")
        if any(fnmatch(path, pattern) for pattern in SOMETIMES_OURS):
            return True
        if is_clip and path in TOKENIZER_FILES:
            return True
        if path == RELEASE_FILE:  # of a release by reference, where images have come into the tables
            return ("data", ".parquet") in ours
        if folder == EVAL_RESULTS_FOLDER:
            return False
        if folder == "" and pages_at_root and path.endswith(".html"):
            return True
        if folder:
            return _top_and_suffix(path) in ours or (folder in swept and bool(SAE_FILE.fullmatch(name)))
        return (weights_at_root and bool(WEIGHTS.fullmatch(name))) or (bool(swept) and name == SWEEP_FILE)

    return [path for path in remote if path not in paths and is_replaced(path)]


def _top_and_suffix(path: str) -> tuple[str, str]:
    return PurePosixPath(path).parts[0], PurePosixPath(path).suffix
