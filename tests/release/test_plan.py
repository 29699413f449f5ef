"""The content of files as git and LFS name it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sae_traits.errors import ReleaseError
from sae_traits.release.plan import fingerprints, plan_folder


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
