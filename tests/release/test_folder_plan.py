"""What a release consists of: the content of files as git and LFS name it, and versions as tags."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis.strategies import integers, lists, sampled_from, tuples

from sae_traits.errors import ConfigError, ReleaseError
from sae_traits.release.folder_plan import (
    FIRST_VERSION,
    check_version,
    fingerprints,
    highest_version,
    next_version,
    plan_folder,
)

NUMBERS = tuples(integers(0, 30), integers(0, 30), integers(0, 30))
OTHER_TAGS = sampled_from(["latest", "v1", "v1.2", "1.2.3", "v1.2.3-rc1", "v01.2.3", "v99.99.99.99"])


def test_hashes_are_those_of_git_and_sha256sum(tmp_path: Path):
    (tmp_path / "data").mkdir()
    for name, content in (("empty", b""), ("data/table.parquet", bytes(range(256)) * 9000), ("café.md", b"# Moths\n")):
        (tmp_path / name).write_bytes(content)
    found = fingerprints(tmp_path, plan_folder(tmp_path))
    assert list(found) == ["café.md", "data/table.parquet", "empty"]
    for path, content in found.items():
        for command, expected in ((["git", "hash-object"], content.git), (["sha256sum"], content.sha256)):
            said = subprocess.run([*command, path], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
            assert said.split()[0] == expected
        assert content.matches(content.git)
        assert content.matches(content.sha256)
        assert not content.matches(None)


def test_a_file_that_is_gone_is_one_line(tmp_path: Path):
    (tmp_path / "README.md").write_text("# Moths\n")
    planned = plan_folder(tmp_path)
    (tmp_path / "README.md").unlink()
    with pytest.raises(ReleaseError, match=r"cannot read .*README\.md: No such file"):
        fingerprints(tmp_path, planned)


@given(versions=lists(NUMBERS, min_size=1), others=lists(OTHER_TAGS))
def test_the_next_version_is_higher_than_all_and_a_version_itself(versions, others):
    tags = [*others, *(f"v{major}.{minor}.{patch}" for major, minor, patch in versions)]
    major, minor, patch = max(versions)
    assert highest_version(tags) == f"v{major}.{minor}.{patch}"
    assert next_version(tags) == f"v{major}.{minor}.{patch + 1}"
    check_version(next_version(tags))


@given(others=lists(OTHER_TAGS))
def test_without_a_version_the_next_one_is_the_first(others):
    assert highest_version(others) is None
    assert next_version(others) == FIRST_VERSION


@pytest.mark.parametrize("tag", ["", "1.0.0", "v1.0", "v1.0.0 ", "v01.0.0", "v1.0.0-rc1", "latest", "v1.0.٣"])
def test_a_tag_that_is_no_version_is_refused(tag):
    with pytest.raises(ConfigError, match=r"write it as vX\.Y\.Z"):
        check_version(tag)
