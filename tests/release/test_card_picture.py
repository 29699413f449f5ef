"""The picture with which the card of a dataset opens: of every species its best trait, and none where it may not be."""

from __future__ import annotations

from collections.abc import Sequence
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
from sae_traits.schema import Attribute, ChosenLatent, Collection, Trait

CHOSEN = tuple(
    ChosenLatent(
        species=species, latent=latent, threshold=0.4, contrast=LATENTS[0].contrast, n_fired=3, n_individuals=4
    )
    for species in ("Aus aus", "Aus bus", "Aus cus", "Bus aus")
    for latent in (0, 1)
)
GREY = (128, 128, 128)
COLORS = {"Aus aus": (200, 30, 30), "Aus bus": (30, 160, 30), "Aus cus": (40, 60, 210)}


def drawn(folder: Path, collection: Collection, traits: Sequence[Trait], latents: Sequence[ChosenLatent] = CHOSEN):
    """The pixels of the picture of a dataset."""
    summary = write_dataset(
        folder, collection, traits, latents, sae="org/sae", config=ReleaseConfig(longest_side=256), workers=1
    )
    assert draw_card_picture(folder, summary) is not None
    with Image.open(folder / CARD_PICTURE) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def share_of(color: tuple[int, int, int], pixels: np.ndarray) -> float:
    return float((np.abs(pixels - color).max(axis=2) < 12).mean())


def coloured(root: Path, n: int = 1) -> tuple[Collection, list[Trait]]:
    """Per species `n` grey photographs, and as many of its own colour, whose latent has the better evidence."""
    records = []
    for species, color in COLORS.items():
        for number, filling in enumerate([(128, 128, 128), color] * n):
            path = root / species.replace(" ", "_") / f"{species[4]}{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (300, 240), filling).save(path)
            records.append(record_of(path, root, "train", None))
    collection = Collection(root, tuple(records))
    traits = [
        replace(trait, candidate=replace(trait.candidate, latent=row % 2, contrast=contrast_of(row % 2 == 1)))
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


def test_every_species_is_shown_by_the_latent_with_the_best_evidence(tmp_path: Path):
    pixels = drawn(tmp_path / "dataset", *coloured(tmp_path / "photographs"))
    for color in COLORS.values():
        assert share_of(color, pixels) > 0.1, color
    assert share_of(GREY, pixels) < 0.05


def test_a_latent_that_held_out_individuals_do_not_bear_out_is_not_shown(tmp_path: Path):
    refuted = [
        replace(one, held_out_f_species=0.1, held_out_f_reference=0.1) if one.latent == 1 else one for one in CHOSEN
    ]
    collection, traits = coloured(tmp_path / "photographs", 5)
    weaker = replace(contrast_of(True), f_species=0.6)
    traits = [
        replace(trait, candidate=replace(trait.candidate, background=0.1, **({} if row % 2 else {"contrast": weaker})))
        for row, trait in enumerate(traits)
    ]
    pixels = drawn(tmp_path / "dataset", collection, traits, refuted)
    assert share_of(GREY, pixels) > 0.3
    for color in COLORS.values():
        assert share_of(color, pixels) < 0.05, color


def test_a_latent_of_another_species_is_no_evidence_for_the_images_own(tmp_path: Path):
    of_others = [one for one in CHOSEN if one.latent == 0]
    assert share_of(GREY, drawn(tmp_path / "dataset", *coloured(tmp_path / "photographs"), of_others)) > 0.3


def test_the_region_of_a_latent_is_one_of_which_is_said_what_most_of_its_regions_share(tmp_path: Path):
    """The grey photograph of each species fires more strongly; of it is said what of no other individual is."""
    collection, traits = coloured(tmp_path / "photographs")
    records, described = list(collection.images), []
    for row, trait in enumerate(traits):
        color = "blue" if row % 2 else "grey"
        description = replace(trait.description, attributes=(Attribute("colour", color),))
        candidate = replace(trait.candidate, latent=1, contrast=contrast_of(True), peak=1.0 if row % 2 else 9.0)
        described.append(replace(trait, candidate=candidate, description=description))
        if row % 2:
            records.append(replace(records[row], image_id=f"again-{row}", individual_id=f"again-{row}"))
            described.append(
                replace(
                    described[-1],
                    trait_id=f"again-{row}",
                    candidate=replace(candidate, image=len(records) - 1, peak=0.5),
                )
            )
    described.sort(key=lambda trait: trait.candidate.image)
    pixels = drawn(tmp_path / "dataset", replace(collection, images=tuple(records)), described)
    for color in COLORS.values():
        assert share_of(color, pixels) > 0.1, color
    assert share_of(GREY, pixels) < 0.05


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
