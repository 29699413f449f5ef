"""Publishing a folder on the Hugging Face Hub in an order that survives a failure at any point.

A branch is made and filled, loaded back and compared; then main moves in one atomic commit, is tagged, and the branch
goes. Every step is found done by the next attempt, so that the same command ends in the same state.

The token is the one of the environment (HF_TOKEN) or of `hf auth login`; it is never printed or stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from sae_traits.errors import CheckpointError, ReleaseError
from sae_traits.logging import say
from sae_traits.release.cards import CARD
from sae_traits.release.evaluation_entries import EVAL_RESULTS_FILE
from sae_traits.release.gallery import PICTURE
from sae_traits.release.hub_errors import errors_in_one_line
from sae_traits.release.load_back import LoadBack
from sae_traits.release.merging import keep_own_parts
from sae_traits.release.plan import Fingerprint, PlannedFile, fingerprints, plan_folder
from sae_traits.release.repository import Gating, Repository, RepoType, Tree, open_repository
from sae_traits.release.versions import highest_version, next_version
from sae_traits.release.writing import RELEASE_FILE
from sae_traits.sae.sweep_folder import SAE_FILE, SWEEP_FILE, WEIGHTS, read_sweep

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

EVAL_RESULTS_FOLDER = EVAL_RESULTS_FILE.partition("/")[0]
SOMETIMES_OURS = (PICTURE, EVAL_RESULTS_FILE)
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
    files: tuple[PlannedFile, ...]
    deleted: tuple[str, ...]
    """Files of an earlier release that this one no longer has."""


@dataclass(frozen=True)
class Release:
    """A folder laid over what its repository holds: what `carry_out` has to do."""

    repository: Repository
    folder: Path
    planned: tuple[PlannedFile, ...]
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

    def operations(self) -> list[CommitOperationAdd | CommitOperationDelete]:
        """What turns main's tree into this release, only of what differs."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        added = [path for path, content in self.content.items() if not content.matches(self.held.get(path))]
        return [CommitOperationDelete(path, is_folder=False) for path in self.deleted] + [
            CommitOperationAdd(path, self.folder / path) for path in added
        ]


def publish_folder(
    folder: Path,
    repo_id: str,
    *,
    repo_type: RepoType,
    private: bool,
    message: str,
    gated: Gating | None = None,
    tag: str | None = None,
    load_back: LoadBack | None = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> Published:
    """Make main of a repository hold a folder, in one commit, and tag it; create the repository if there is none.

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
        gated: who reads it has to ask for access.
        tag: version of the release; by default that of the same content, or else the next patch version.
        load_back: loads it from its branch and compares it, beyond the hashes that are always compared.
        token: instead of the one of the environment or of `hf auth login`.
        endpoint: address of the Hub instead of HF_ENDPOINT or https://huggingface.co.

    Raises:
        ReleaseError: the folder or the repository cannot be used, the tag is taken, what was uploaded is not what came
            back, or the Hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    plan_folder(folder)
    api = HfApi(endpoint=endpoint, token=token, library_name="sae-traits")
    with errors_in_one_line(repo_id, api.endpoint, token):
        repository = open_repository(api, repo_id, repo_type, private=private, gated=gated)
        return carry_out(prepare(repository, folder, tag), message=message, load_back=load_back)


def prepare(repository: Repository, folder: Path, tag: str | None) -> Release:
    """Compare a folder with what its repository holds; changes nothing on the Hub.

    What a person wrote into the repository's card goes into that of the folder.

    Raises:
        ReleaseError: the folder cannot be published, the repository's card cannot be read, or the tag is taken.
    """
    head = repository.commit_of("main")
    held = repository.tree(head)
    _merge_card(repository, head, held, folder)
    planned = plan_folder(folder)
    content = fingerprints(folder, planned)
    swept = _former_sweep(repository, head) if repository.repo_type == "model" and SWEEP_FILE in held else frozenset()
    deleted = _replaced(held, planned, swept)
    branches, tags = repository.branches_and_tags()
    unchanged = not deleted and all(file.matches(held.get(path)) for path, file in content.items())
    tag, tagged = _choose_tag(repository, tags, tag, content if unchanged else None, held)
    return Release(
        repository, folder, tuple(planned), content, head, held, tuple(deleted), tuple(branches), tag, tagged
    )


def _merge_card(repository: Repository, head: str, held: Tree, folder: Path) -> None:
    """Put what a person wrote into the repository's card into that of the folder, unless the two are the same."""
    card = PlannedFile(CARD, (folder / CARD).stat().st_size) if (folder / CARD).is_file() else None
    if card is None or CARD not in held or fingerprints(folder, [card])[CARD].matches(held[CARD]):
        return
    with TemporaryDirectory(prefix="sae-traits-card-") as temporary:
        path = repository.api.hf_hub_download(
            repository.repo_id, CARD, repo_type=repository.repo_type, revision=head, local_dir=temporary
        )
        existing = Path(path).read_text(encoding="utf-8")
    text = (folder / CARD).read_text(encoding="utf-8")
    (folder / CARD).write_text(keep_own_parts(text, existing, repository.url), encoding="utf-8")


def _choose_tag(
    repository: Repository, tags: list[str], wanted: str | None, content: dict[str, Fingerprint] | None, held: Tree
) -> tuple[str, str | None]:
    """The version, and the commit that it points at where it exists and holds this release.

    Args:
        repository: whose tags these are.
        tags: all there are.
        wanted: by the user.
        content: of the release; None where main does not hold it, so that no tag of it can be there.
        held: what main holds; others may have added to it after the tag was made.
    """
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


def carry_out(release: Release, *, message: str, load_back: LoadBack | None) -> Published:
    """Upload a release, prove it, move main, tag.

    Args:
        release: what `prepare` found to be done.
        message: title of the commit.
        load_back: loads the release from its branch, and compares it with the folder.

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
        if load_back is not None:
            say(f"{repository.repo_id}: loading it back")
            load_back(release.folder, repository.repo_id, uploaded)
        revision = repository.commit(release.operations(), message=message, parent=release.head)
        _check_hashes(release, revision)
    for name in sorted(branches):
        repository.delete_branch(name)
    if release.tagged is None:
        repository.create_tag(release.tag, revision)
    return Published(
        repository.repo_id,
        revision,
        release.tag,
        repository.url,
        release.changed,
        release.planned,
        release.deleted,
    )


def _upload(release: Release, message: str) -> str:
    """Make a branch hold the release, unless an earlier attempt has; its commit."""
    repository, branch = release.repository, release.branch
    if branch in release.branches:
        if release.is_in(repository.tree(branch)):
            say(f"{repository.repo_id}: was uploaded before, to the branch {branch}")
            return repository.commit_of(branch)
        repository.delete_branch(branch)
    say(
        f"{repository.repo_id}: uploading what differs of {len(release.planned)} files, "
        f"{sum(file.size for file in release.planned):,} bytes, to the branch {branch}"
    )
    repository.create_branch(branch, release.head)
    to_check = f"{message} (to be checked)"
    commit = repository.commit(release.operations(), message=to_check, parent=release.head, branch=branch)
    _check_hashes(release, commit)
    return commit


def _check_hashes(release: Release, revision: str) -> None:
    if not release.is_in(release.repository.tree(revision)):
        raise ReleaseError(
            f"{release.repository.repo_id} at {revision} does not hold what was uploaded: names or hashes of files "
            "differ. Run the same command again; if that does not help, do not use this release"
        )


def _former_sweep(repository: Repository, revision: str) -> frozenset[str]:
    """Folders of the SAEs that a repository's sweep.json names; none where it is not one of ours."""
    with TemporaryDirectory(prefix="sae-traits-sweep-") as folder:
        repository.api.hf_hub_download(repository.repo_id, SWEEP_FILE, revision=revision, local_dir=folder)
        try:
            sweep = read_sweep(Path(folder))
        except CheckpointError:  # someone else's file of that name: what lies beside it is not ours to delete
            return frozenset()
        return frozenset(sae.folder for sae in sweep.saes) if sweep else frozenset()


def _replaced(remote: Iterable[str], planned: list[PlannedFile], swept: frozenset[str]) -> list[str]:
    """Remote files that an earlier release must have written and that are no longer there.

    They are of our kinds in our top folders, but for other people's `.eval_results`; what only some releases have
    (SOMETIMES_OURS); weights at the root where we write weights too, since a single file and shards cannot both be
    there; and the SAEs in the folders `swept` of an earlier sweep, with its sweep.json.
    """
    paths = {file.path for file in planned}
    ours = {_top_and_suffix(path) for path in paths if "/" in path}
    weights_at_root = any(WEIGHTS.fullmatch(path) for path in paths)

    def is_replaced(path: str) -> bool:
        folder, _, name = path.rpartition("/")
        if any(fnmatch(path, pattern) for pattern in SOMETIMES_OURS):
            return True
        if path == RELEASE_FILE:  # of a release by reference, where images have come into the tables
            return ("data", ".parquet") in ours
        if folder == EVAL_RESULTS_FOLDER:
            return False
        if folder:
            return _top_and_suffix(path) in ours or (folder in swept and bool(SAE_FILE.fullmatch(name)))
        return (weights_at_root and bool(WEIGHTS.fullmatch(name))) or (bool(swept) and name == SWEEP_FILE)

    return [path for path in remote if path not in paths and is_replaced(path)]


def _top_and_suffix(path: str) -> tuple[str, str]:
    return PurePosixPath(path).parts[0], PurePosixPath(path).suffix
