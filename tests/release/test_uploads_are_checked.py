"""A Hub that keeps something else than what was uploaded is found out by the hashes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hub.answers import Hub
from hub.publisher import publish_folder

from sae_traits.errors import ReleaseError

SHARD = "data/train-00000-of-00001.parquet"
BRANCH, MAIN = 1, 2
"""Which commit of a release: first to a branch of its own, then to main."""


def damage(hub: Hub, commit: int) -> None:
    """Let a hub damage the shard of a commit as soon as it is made, counted from 1."""

    def listen(request: str) -> None:
        (repository,) = hub.store.repositories.values()
        made = [c for c in repository.commits.values() if SHARD in c.files]
        for newest in made[commit - 1 : commit]:
            damaged = replace(newest.files[SHARD], sha256="0" * 64, oid="0" * 40)
            repository.commits[newest.oid] = replace(newest, files={**newest.files, SHARD: damaged})

    hub.listeners.append(lambda request: listen(request) if hub.store.repositories else None)


@pytest.mark.parametrize("commit", [BRANCH, MAIN])
def test_a_file_that_the_hub_changed_is_an_error_and_gets_no_tag(hub: Hub, tmp_path: Path, commit: int):
    folder = tmp_path / "dataset"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Traits\n")
    (folder / SHARD).write_bytes(b"rows" * 100)
    damage(hub, commit)
    with pytest.raises(ReleaseError, match="does not hold what was uploaded: names or hashes of files differ"):
        publish_folder(
            folder, "museum/traits", repo_type="dataset",   token=hub.token,
            endpoint=hub.url,
        )  # fmt: skip
    (repository,) = hub.store.repositories.values()
    assert repository.tags == {}
    assert (SHARD in repository.find("main").files) == (commit == MAIN)
