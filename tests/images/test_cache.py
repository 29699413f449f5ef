"""The cache of fetched images: names from elsewhere never lead out of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis.strategies import text

from sae_traits.errors import CollectionError
from sae_traits.images.cache import cache_folder, safe_name


@given(text())
def test_any_name_becomes_one_plain_part_of_a_path(name):
    safe = safe_name(name)
    assert Path(safe).name == safe
    assert safe not in ("", ".", "..")
    assert safe.isprintable()
    assert safe.isascii()
    assert len(safe) <= 80


@given(text(), text())
def test_different_names_stay_different(first, second):
    assert (safe_name(first) == safe_name(second)) == (first == second)


def test_plain_names_stay_as_they_are():
    assert [safe_name(name) for name in ("train", "imageomics--fish", "v1.0_a")] == [
        "train",
        "imageomics--fish",
        "v1.0_a",
    ]


def test_the_folder_is_made_inside_the_cache(tmp_path):
    folder = cache_folder(str(tmp_path), "hub", "../../escape", "/etc", "")
    assert folder.is_dir()
    assert folder.resolve().is_relative_to(tmp_path.resolve())
    assert len(folder.relative_to(tmp_path).parts) == 4


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CollectionError, match="choose another --image-cache"):
        cache_folder(str(tmp_path / "file"), "hub")
