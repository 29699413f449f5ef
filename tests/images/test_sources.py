"""Which source a name stands for, and how a run names it."""

from __future__ import annotations

import re
import zipfile

import pytest
from tiny_archive import write_archive
from tiny_bioscan import small

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError, ConfigError
from sae_traits.images import list_source


def test_a_folder_of_images_may_hold_bioscan_files_elsewhere(images):
    root = images(["Danaus_plexippus/1.png"])
    small(root / "other" / "bioscan5m")
    assert next(row.file for row in list_source(CollectionConfig(source=str(root))).rows) == "Danaus_plexippus/1.png"


def test_a_zip_file_that_is_no_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "photographs.zip", "w") as archive:
        archive.writestr("1.jpg", "x")
    with pytest.raises(CollectionError, match=r"neither a folder nor a table .* nor a Darwin Core archive"):
        list_source(CollectionConfig(source=str(tmp_path / "photographs.zip")))


def test_an_archive_of_nothing_is_refused(tmp_path):
    source = write_archive(tmp_path / "empty.zip", [], [])
    with pytest.raises(CollectionError, match=r"empty.zip has no occurrences"):
        list_source(CollectionConfig(source=str(source), image_cache=str(tmp_path / "cache")))


@pytest.mark.parametrize("repo", ["../../etc", "a/b/c", "", "a b/c", "a/b@", "-"])
def test_an_address_that_names_no_dataset_is_refused(repo):
    source = f"hf://datasets/{repo}"
    with pytest.raises(CollectionError, match=re.escape(source)):
        list_source(CollectionConfig(source=source, image_cache="/nowhere"))


@pytest.mark.parametrize(
    ("option", "value", "owner"),
    [
        ("image_package", "original_full", "BIOSCAN-5M"),
        ("source_config", "x", "a dataset of the Hub"),
        ("species_column", "x", "a dataset of the Hub"),
        ("image_column", "x", "a dataset of the Hub"),
    ],
)
def test_an_option_for_other_sources_is_refused(images, option, value, owner):
    source = str(images(["Danaus_plexippus/1.png"]))
    assert len(list_source(CollectionConfig(source=source)).rows) == 1
    with pytest.raises(
        ConfigError, match=f"--{option.replace('_', '-')} is for {owner}, and .* is a folder of images on this"
    ):
        list_source(CollectionConfig(source=source, **{option: value}))
