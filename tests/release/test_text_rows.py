"""The texts of any dataset, and its images as those of a benchmark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_releases import odd_photographs, release, traits_of

from sae_traits.errors import ReleaseError
from sae_traits.evaluation.benchmarks.labels import list_labelled
from sae_traits.evaluation.benchmarks.trait_texts import rank_texts, trait_columns
from sae_traits.release.loading import load_traits, text_rows


def columns(names: list[str]) -> dict[str, str]:
    return trait_columns(names, "x")


def test_of_a_released_dataset_texts_of_training_images_come_with_the_files_they_are_of(tmp_path: Path):
    collection = odd_photographs(tmp_path / "collection", lambda name: None)
    traits = []
    for trait in traits_of(collection, 1):
        text = f"Of {collection.images[trait.candidate.image].split}."
        traits.append(replace(trait, description=replace(trait.description, text=text)))
    release(tmp_path / "dataset", collection, traits)
    rows = list(text_rows(tmp_path / "dataset", columns))
    assert {row["split"] for row in rows} == {"train", "test"}
    texts = rank_texts("x", rows)
    assert {text for ranked in texts.ranked.values() for text in ranked} == {"of train"}
    of_training = {image.sha256 for image in collection.images if image.split == "train"}
    assert texts.described <= of_training
    assert texts.described

    listed = list_labelled(str(tmp_path / "dataset"), cache=tmp_path / "out")
    assert sorted(row.label for row in listed.rows) == sorted(image.species for image in collection.images)
    assert {row.split for row in listed.rows} == {"train", "test"}
    assert {row.source_sha256 for row in listed.rows} == {image.sha256 for image in collection.images}


def test_a_folder_of_others_has_any_columns_and_one_without_text_says_which_it_has(tmp_path: Path):
    table = pa.table({"species": ["Apis mellifera"], "trait_description": ["hairy"]})
    pq.write_table(table, tmp_path / "train.parquet")
    assert list(text_rows(tmp_path, columns)) == [{"split": "train", "species": "Apis mellifera", "text": "hairy"}]
    card = "---\nconfigs:\n- config_name: default\n  {}\n---\nOf somebody else.\n"
    for where in ("data_files: train.parquet", "data_files: [train.parquet]", "data_dir: .", "default: true"):
        (tmp_path / "README.md").write_text(card.format(where))
        assert [row["text"] for row in text_rows(tmp_path, columns)] == ["hairy"], where
        with pytest.raises(ReleaseError, match="has no config `default`; name RUN"):
            load_traits(tmp_path)
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "a.csv").write_text("species,trait_description\nApis mellifera,hairy\n")
    (tmp_path / "table" / "README.md").write_text(card.format("data_files: [{split: test, path: a.csv}]"))
    assert [row["split"] for row in text_rows(tmp_path / "table", columns)] == ["test"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReleaseError, match="cannot read the dataset"):
        list(text_rows(tmp_path / "empty", columns))
