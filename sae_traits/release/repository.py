"""A repository on the Hub: what it holds, and its branches and tags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sae_traits.errors import ReleaseError

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

RepoType = Literal["model", "dataset"]
Gating = Literal["auto", "manual"]
Tree = dict[str, str]
"""Path -> the Hub's hash of the file: sha256 of a large one, git's hash of any other; folders are left out."""


@dataclass(frozen=True)
class Repository:
    """A repository that exists, and a client that may write to it."""

    api: HfApi
    repo_id: str
    repo_type: RepoType
    url: str

    def commit_of(self, revision: str) -> str:
        """The commit that a branch or tag points at."""
        info = self.api.repo_info(self.repo_id, repo_type=self.repo_type, revision=revision)
        assert info.sha is not None
        return info.sha

    def tree(self, revision: str) -> Tree:
        """Every file at a branch, tag or commit."""
        from huggingface_hub.hf_api import RepoFile

        entries = self.api.list_repo_tree(self.repo_id, recursive=True, revision=revision, repo_type=self.repo_type)
        return {e.path: e.lfs.sha256 if e.lfs else e.blob_id for e in entries if isinstance(e, RepoFile)}

    def branches_and_tags(self) -> tuple[list[str], list[str]]:
        """Their names."""
        refs = self.api.list_repo_refs(self.repo_id, repo_type=self.repo_type)
        return [branch.name for branch in refs.branches], [tag.name for tag in refs.tags]

    def commit(
        self,
        operations: list[CommitOperationAdd | CommitOperationDelete],
        *,
        message: str,
        parent: str,
        branch: str = "main",
    ) -> str:
        """One atomic commit on a branch that still points at `parent`, or else an error 412; its id."""
        return self.api.create_commit(
            self.repo_id,
            operations,
            commit_message=message,
            repo_type=self.repo_type,
            revision=branch,
            parent_commit=parent,
        ).oid

    def create_branch(self, name: str, commit: str) -> None:
        """Make a branch that points at a commit."""
        self.api.create_branch(self.repo_id, branch=name, revision=commit, repo_type=self.repo_type)

    def delete_branch(self, name: str) -> None:
        """Forget a branch."""
        self.api.delete_branch(self.repo_id, branch=name, repo_type=self.repo_type)

    def create_tag(self, name: str, commit: str) -> None:
        """Make a tag that points at a commit."""
        # Not exist_ok: the Hub also answers "conflict" when it is busy, and then there would be no tag.
        self.api.create_tag(self.repo_id, tag=name, revision=commit, repo_type=self.repo_type)


def open_repository(
    api: HfApi, repo_id: str, repo_type: RepoType, *, private: bool, gated: Gating | None
) -> Repository:
    """A repository, created where there is none, with its settings made before anything is in it.

    Args:
        api: client of the Hub.
        repo_id: `NAME/REPOSITORY`, or only `REPOSITORY` in one's own namespace.
        repo_type: kind of repository.
        private: create it private; refused where it exists and is public. One that is private stays so.
        gated: readers have to ask for access: granted at once, or by hand. None leaves that as it is.

    Raises:
        ReleaseError: it was to be private and is public.
    """
    url = api.create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True)
    repository = Repository(api, url.repo_id, repo_type, str(url))
    found = api.repo_info(repository.repo_id, repo_type=repo_type)
    if private and not found.private:
        raise ReleaseError(
            f"{url} exists and is public; make it private in its settings, choose another name, "
            "or publish without --private"
        )
    if gated is not None and found.gated != gated:
        api.update_repo_settings(repository.repo_id, repo_type=repo_type, gated=gated)
    return repository
