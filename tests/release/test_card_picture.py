"""The picture with which the card of a dataset opens: of every species its best trait, and none where it may not be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import DatasetCard
from PIL import Image
from small_releases import LATENTS, odd_photographs, record_of, release, traits_of

from sae_traits.config.release import ReleaseConfig
from sae_traits.release.card_picture import CARD_PICTURE, draw_card_picture
from sae_traits.release.dataset import write_dataset
from sae_traits.schema import Collection, Trait

COLORS = {"Aus aus": (200, 30, 30), "Aus bus": (30, 160, 30), "Aus cus": (40, 60, 210)}


def coloured(root: Path) -> tuple[Collection, list[Trait]]:
    """Per species a grey photograph, and one of its own colour, whose trait has the better evidence."""
    records = []
    for species, color in COLORS.items():
        for number, filling in enumerate([(128, 128, 128), color]):
            path = root / species.replace(" ", "_") / f"{species[4]}{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (300, 240), filling).save(path)
            records.append(record_of(path, root, "train", None))
    collection = Collection(root, tuple(records))
    traits = [
        replace(trait, candidate=replace(trait.candidate, contrast=contrast_of(row % 2 == 1)))
        for row, trait in enumerate(traits_of_all(collection))
    ]
    return collection, traits


def traits_of_all(collection: Collection) -> list[Trait]:
    """One trait per image."""
    pattern = traits_of(collection, 1)[0]
    return [
        replace(pattern, trait_id=f"{record.image_id}-0", candidate=replace(pattern.candidate, image=row))
        for row, record in enumerate(collection.images)
    ]


def contrast_of(good: bool):
    return replace(LATENTS[0].contrast, f_species=0.9 if good else 0.6, f_reference=0.05 if good else 0.4)


def test_every_species_is_shown_by_the_trait_with_the_best_evidence(tmp_path: Path):
    release(tmp_path / "dataset", *coloured(tmp_path / "photographs"))
    with Image.open(tmp_path / "dataset" / CARD_PICTURE) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    for color in COLORS.values():
        assert (np.abs(pixels - color).max(axis=2) < 12).mean() > 0.1, color
    assert (np.abs(pixels - 128).max(axis=2) < 5).mean() < 0.05


def test_the_card_opens_with_the_picture_and_says_whose_the_images_are(tmp_path: Path):
    release(tmp_path / "dataset", *coloured(tmp_path / "photographs"))
    text = DatasetCard.load(tmp_path / "dataset" / "README.md").text
    before = text[: text.index(f"]({CARD_PICTURE})")]
    assert before.count("\n## ") == 0
    assert "Images: A. Naturalist (CC BY-NC-ND 4.0).*" in text


def test_the_same_release_has_the_same_picture(tmp_path: Path):
    for name in ("a", "b"):
        release(tmp_path / name, *coloured(tmp_path / "photographs"))
    assert (tmp_path / "a" / CARD_PICTURE).read_bytes() == (tmp_path / "b" / CARD_PICTURE).read_bytes()


@pytest.mark.parametrize("n_traits", [1, 3])
def test_photographs_of_every_kind_make_a_picture(tmp_path: Path, n_traits: int):
    collection = odd_photographs(tmp_path / "photographs", lambda name: None)
    summary = release(tmp_path / "dataset", collection, traits_of(collection, n_traits))
    found = draw_card_picture(tmp_path / "dataset", summary)
    assert found is not None
    n_species = len({record.species for row, record in enumerate(collection.images) if row % 5})
    assert sum(rights.n_images for rights in found) == n_species


def test_a_release_by_reference_has_no_picture_also_where_an_earlier_one_had(tmp_path: Path):
    collection, traits = coloured(tmp_path / "photographs")
    for images in ("embed", "reference"):
        release(tmp_path / "dataset", collection, traits, images=images)
        is_there = images == "embed"
        assert (tmp_path / "dataset" / CARD_PICTURE).is_file() == is_there
        assert (CARD_PICTURE in (tmp_path / "dataset" / "README.md").read_text()) == is_there


def test_photographs_without_labels_are_shown_one_by_one(tmp_path: Path):
    collection, traits = coloured(tmp_path / "photographs")
    unlabelled = [
        replace(record, taxon=replace(record.taxon, genus=None, species=None), split="test")
        for record in collection.images
    ]
    folder, config = tmp_path / "dataset", ReleaseConfig(longest_side=256)
    collection = replace(collection, images=tuple(unlabelled))
    summary = write_dataset(folder, collection, traits, (), sae=None, config=config, workers=1)
    found = draw_card_picture(folder, summary)
    assert found is not None
    assert sum(rights.n_images for rights in found) == len(unlabelled)
