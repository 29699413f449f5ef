"""What the loopback Hub remembers: repositories with commits, branches and tags, and the objects their files name.

Everything lies in one folder (`objects/<sha256>` and `repositories/<type>/<namespace>/<name>.json`), so that a Hub
started again on the same folder still knows what was pushed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal

RepoType = Literal["model", "dataset", "space"]

LFS_SUFFIXES = ("parquet", "safetensors", "arrow", "bin", "npy", "npz", "pt", "zip", "gz", "png", "jpg", "jpeg", "webp")
GITATTRIBUTES = "".join(f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()
"""The only file of a new repository; it says which files go the way of large files (LFS)."""


class HubError(Exception):
    """An answer other than success: HTTP status, message, and the Hub's own error code where it has one."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}) | dict(headers or {})
        self.body = {"error": message} | dict(body or {})


@dataclass(frozen=True)
class File:
    """One version of a file: its content is the object `sha256`."""

    sha256: str
    size: int
    oid: str
    """Git's hash: of the content, or of the pointer of an LFS file."""
    lfs: bool

    @property
    def pointer_size(self) -> int:
        """Bytes of the pointer that stands for an LFS file in git."""
        return len(_pointer(self.sha256, self.size))


@dataclass(frozen=True)
class Commit:
    """A state of a repository."""

    oid: str
    parent: str | None
    title: str
    message: str
    date: str
    author: str
    files: Mapping[str, File]
    """Path -> file, sorted by path."""


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


@dataclass
class Repository:
    """Commits by oid, and the branches and tags that point at them."""

    repo_type: RepoType
    repo_id: str
    private: bool
    created: str
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    gated: Literal["auto", "manual", False] = False
    """Whether readers have to ask for the files, and how they get them."""
    readers: list[str] = field(default_factory=list)
    """Accounts that were granted access."""

    def find(self, revision: str) -> Commit:
        """The commit of a branch, a tag or a full commit hash.

        Raises:
            HubError: 404 RevisionNotFound.
        """
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        oid = self.branches.get(name) or self.tags.get(name) or name
        if oid not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    def history(self, commit: Commit) -> Iterator[Commit]:
        """The commit and those before it, the newest first."""
        current: Commit | None = commit
        while current is not None:
            yield current
            current = self.commits[current.parent] if current.parent else None

    def last_change(self, commit: Commit, path: str) -> Commit:
        """The commit that gave a file or folder its present content."""
        present = _subtree(commit, path)
        last = commit
        for earlier in self.history(commit):
            if _subtree(earlier, path) != present:
                break
            last = earlier
        return last

    def add_commit(self, branch: str, title: str, message: str, author: str, files: Mapping[str, File]) -> Commit:
        """Put a new state on a branch, which may be new."""
        parent = self.branches.get(branch)
        date = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        # Unlike git's, the name does not depend on the date: equal histories are equal in name, whatever led to them.
        named = json.dumps([parent, title, message, author, sorted((p, f.oid) for p, f in files.items())])
        oid = hashlib.sha1(named.encode()).hexdigest()
        commit = Commit(oid, parent, title, message, date, author, dict(sorted(files.items())))
        self.commits[oid] = commit
        self.branches[branch] = oid
        return commit


@dataclass
class Collection:
    """Repositories that somebody put together."""

    slug: str
    title: str
    owner: str
    private: bool
    items: list[tuple[str, str]] = field(default_factory=list)
    """Type and id of each."""


def _subtree(commit: Commit, path: str) -> dict[str, str]:
    return {p: f.oid for p, f in commit.files.items() if p == path or p.startswith(f"{path}/")}


def folder_oid(commit: Commit, path: str) -> str:
    """A hash of what is below a folder; None is below a folder that does not exist."""
    return hashlib.sha1(json.dumps(_subtree(commit, path)).encode()).hexdigest()


def listing(commit: Commit, folder: str, recursive: bool) -> dict[str, File | None]:
    """Path -> file, or None for a folder: what lies in a folder (`""` is the root), sorted by path.

    Raises:
        HubError: 404 EntryNotFound, there is no such folder.
    """
    prefix = f"{folder}/" if folder else ""
    found: dict[str, File | None] = {}
    for path, file in commit.files.items():
        if not path.startswith(prefix):
            continue
        parts = path[len(prefix) :].split("/")
        depth = len(parts) if recursive else 1
        for length in range(1, depth + 1):
            found[prefix + "/".join(parts[:length])] = file if length == len(parts) else None
    if folder and not found:
        raise HubError(404, f"{folder} does not exist on {commit.oid}", "EntryNotFound")
    return dict(sorted(found.items()))


class Store:
    """Objects and repositories in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "objects").mkdir(parents=True, exist_ok=True)
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.collections: dict[str, Collection] = {}
        """By slug; unlike repositories they are not written down."""
        for path in sorted((folder / "repositories").glob("*/*/*.json")):
            repository = _read(path)
            self.repositories[repository.repo_type, repository.repo_id] = repository

    def object_path(self, sha256: str) -> Path:
        """Where the content with this hash lies, or would lie."""
        return self.folder / "objects" / sha256

    def add_object(self, content: BinaryIO) -> str:
        """Keep a content and return its sha256."""
        digest = hashlib.sha256()
        with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as copy:
            while block := content.read(1 << 20):
                digest.update(block)
                copy.write(block)
        shutil.move(copy.name, self.object_path(digest.hexdigest()))
        return digest.hexdigest()

    def regular_file(self, content: bytes) -> File:
        """A file that git keeps itself; its content becomes an object."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.object_path(sha256).write_bytes(content)
        return File(sha256, len(content), _git_hash(content), lfs=False)

    def lfs_file(self, sha256: str) -> File:
        """A file whose content was uploaded before.

        Raises:
            HubError: 400, no such content was uploaded.
        """
        if not self.object_path(sha256).is_file():
            raise HubError(400, f"the LFS object {sha256} was not uploaded")
        size = self.object_path(sha256).stat().st_size
        return File(sha256, size, _git_hash(_pointer(sha256, size)), lfs=True)

    def create(self, repo_type: RepoType, repo_id: str, private: bool, author: str) -> Repository:
        """A repository with one commit that holds .gitattributes."""
        created = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        repository = Repository(repo_type, repo_id, private, created)
        repository.add_commit(
            "main", "initial commit", "", author, {".gitattributes": self.regular_file(GITATTRIBUTES)}
        )
        self.repositories[repo_type, repo_id] = repository
        self.save(repository)
        return repository

    def delete(self, repository: Repository) -> None:
        """Forget a repository; objects stay."""
        del self.repositories[repository.repo_type, repository.repo_id]
        self._path(repository).unlink()

    def clear(self) -> None:
        """Forget everything, the objects too."""
        for repository in list(self.repositories.values()):
            self.delete(repository)
        self.collections.clear()
        for path in (self.folder / "objects").iterdir():
            path.unlink()

    def save(self, repository: Repository) -> None:
        """Write a repository down after a change."""
        path = self._path(repository)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(repository)))

    def _path(self, repository: Repository) -> Path:
        return self.folder / "repositories" / repository.repo_type / f"{repository.repo_id}.json"


def _read(path: Path) -> Repository:
    values = json.loads(path.read_text())
    for oid, commit in values["commits"].items():
        files = {name: File(**file) for name, file in commit.pop("files").items()}
        values["commits"][oid] = Commit(**commit, files=files)
    return Repository(**values)
