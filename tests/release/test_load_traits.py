"""Released datasets are loaded as they are now, whatever lies in the cache of the datasets library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from small_releases import FACTS, LATENTS, odd_photographs, release, traits_of

from sae_traits.config.release import ReleaseConfig
from sae_traits.errors import ReleaseError
from sae_traits.release.dataset import write_dataset
from sae_traits.release.dataset_card import write_dataset_card
from sae_traits.release.loading import load_traits

LOAD = """
import json, sys
from datasets import load_dataset
from sae_traits.release.loading import load_traits
for folder in map(json.loads, sys.stdin):
    own = load_traits(folder, split="train")
    plain = load_dataset(folder, split="train")
    assert own.features == plain.features, (own.features, plain.features)
    print(json.dumps([own["text"][0], plain["text"][0], own["sae"][0]]), flush=True)
"""


def said(traits, text: str):
    return [replace(trait, description=replace(trait.description, text=text)) for trait in traits]


def test_folders_of_one_name_and_a_folder_that_was_written_anew_are_told_apart(tmp_path: Path):
    """With the default layout of the cache, in which datasets 5.2 names an entry by name and front matter alone."""
    collection = odd_photographs(tmp_path / "collection", lambda name: None)
    traits = traits_of(collection, 1)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "home"),
        "HF_DATASETS_CACHE": str(tmp_path / "cache"),
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", LOAD], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout

    def loaded(folder: Path) -> list[str]:
        process.stdin.write(json.dumps(str(folder)) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    for run in ("a", "b"):  # texts of one length, so that the tables have one size
        release(tmp_path / run / "dataset", collection, said(traits, f"Area {run}."))
        assert loaded(tmp_path / run / "dataset")[:2] == [f"Area {run}."] * 2
    assert loaded(tmp_path / "a" / "dataset")[:2] == ["Area a."] * 2
    release(tmp_path / "a" / "dataset", collection, said(traits, "Area c."))
    assert loaded(tmp_path / "a" / "dataset")[:2] == ["Area c."] * 2
    release(tmp_path / "a" / "dataset", collection, said(traits, "Area d."), images="reference")
    assert loaded(tmp_path / "a" / "dataset")[:2] == ["Area d."] * 2
    release(tmp_path / "a" / "dataset", collection, said(traits, "Area e."), images="reference")
    assert loaded(tmp_path / "a" / "dataset")[:2] == ["Area e."] * 2
    process.stdin.close()
    assert process.wait(30) == 0


def test_a_run_is_loaded_by_its_folder_and_every_config_by_its_name(tmp_path: Path):
    collection = odd_photographs(tmp_path / "collection", lambda name: None)
    release(tmp_path / "run" / "dataset", collection, traits_of(collection, 2))
    (tmp_path / "run" / "config.yaml").touch()
    traits = load_traits(tmp_path / "run")
    assert {split: len(table) for split, table in traits.items()} == {"train": 8, "test": 2}
    images = load_traits(tmp_path / "run" / "dataset", split="train", config="images")
    assert len(images) == 5
    assert images[1]["image"].size == (80, 61)
    assert images["individual_id"] == images["image_id"], "each photograph is of an organism of its own"


def test_a_config_that_a_dataset_lacks_is_named_beside_those_that_it_has(tmp_path: Path):
    collection = odd_photographs(tmp_path / "collection", lambda name: None)
    folder, config = tmp_path / "dataset", ReleaseConfig(longest_side=256)
    summary = write_dataset(
        folder, collection, traits_of(collection, 1), LATENTS, sae=FACTS.sae, config=config, workers=1
    )
    write_dataset_card(folder, summary, FACTS)
    with pytest.raises(
        ReleaseError, match=r"has no config `captions`; it has default, .*`sae-traits caption RUN` writes"
    ):
        load_traits(folder, config="captions")


def test_what_cannot_be_loaded_is_one_line(tmp_path: Path):
    with pytest.raises(ReleaseError, match="has no config `default`; name RUN"):
        load_traits(tmp_path)
    with pytest.raises(ReleaseError, match="is a folder and has no revision v1"):
        load_traits(tmp_path, revision="v1")
    with pytest.raises(ReleaseError, match="cannot read the dataset no/such dataset") as caught:
        load_traits("no/such dataset")
    assert "there is no such folder, and from the Hub it cannot be had" in str(caught.value)
    assert "\n" not in str(caught.value)
