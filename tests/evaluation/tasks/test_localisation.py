import dataclasses
import math

import numpy as np
import pytest
from PIL import Image

from sae_traits.errors import CollectionError
from sae_traits.evaluation.evidence import Evidence
from sae_traits.evaluation.tasks import Localisation
from sae_traits.geometry import Framing
from sae_traits.schema import (
    BackboneInfo,
    Candidate,
    Collection,
    Contrast,
    Description,
    ImageRecord,
    Measurement,
    Taxon,
    Trait,
)
from sae_traits.traits.regions import make_region, region_of_outlines

INFO = BackboneInfo(
    backbone="texture", revision="1", layer=0, d_model=4, rows=4, columns=4, patch=16.0,
    framing=Framing(mode="squash", size=(64, 64)), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
)  # fmt: skip
SIZE = (80, 40)


def score_on_masks(collection, traits):
    options = {"backbone": INFO, "region_source": "sae", "annotation": {}, "open_picture": None}
    evidence = Evidence(collection=collection, traits=traits, **options)
    return Localisation().run(evidence)


def trait(row, *patches):
    contrast = Contrast(f_species=1, f_reference=0, effect=1, q_value=0.01, significant=True, reference_rank="genus")
    measured = Measurement(
        length_px=1, width_px=1, elongation=1, texture_contrast=0, color_lab=(0, 0, 0), color_name="red"
    )
    return Trait(
        trait_id=f"{row}-{patches}",
        candidate=Candidate(image=row, latent=0, patches=patches, peak=1.0, contrast=contrast),
        region=make_region(patches, INFO.grid(SIZE)),
        description=Description(text=""), measurement=measured, n_images=1,
        describer="d", describer_model="m", prompt="p",
    )  # fmt: skip


@pytest.fixture
def collection(tmp_path):
    """Three images whose animal is the left half of the image; the third has no mask."""
    mask = np.zeros((SIZE[1], SIZE[0]), dtype=np.uint8)
    mask[:, : SIZE[0] // 2] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    records = [
        ImageRecord(
            image_id=str(row), file=f"{row}.png", taxon=Taxon(species=f"Fictus {'ab'[row % 2]}us", genus="Fictus"),
            split="train", width=SIZE[0], height=SIZE[1], sha256="", mask_file=None if row == 2 else "mask.png",
        )
        for row in range(3)
    ]  # fmt: skip
    return Collection(tmp_path, tuple(records))


def test_the_share_on_the_animal_is_that_of_the_area(collection):
    # 4 x 4 patches: columns 0 and 1 lie on the animal.
    score = score_on_masks(collection, [trait(0, 0), trait(0, 1, 2), trait(1, 3), trait(1, 4, 5)])
    assert score is not None
    assert score.on_animal.mean == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert score.by_species == {"Fictus aus": pytest.approx(0.75), "Fictus bus": pytest.approx(0.5)}
    assert score.by_latent == {"Fictus aus": {"0": pytest.approx(0.75)}, "Fictus bus": {"0": pytest.approx(0.5)}}
    assert (score.n_traits, score.n_images) == (4, 2)
    assert score.gain.mean == pytest.approx(score.on_animal.mean - score.random.mean)


def test_random_places_hit_the_animal_by_its_share_of_the_image(collection):
    score = score_on_masks(collection, [trait(row, 5) for row in (0, 1)])
    assert score is not None
    assert score.random.mean == pytest.approx(0.5)
    assert score.random.n_groups == 2


def test_an_outline_that_follows_the_image_is_scored_as_it_is_released(collection):
    of_patch = trait(0, 1, 2)  # half on the animal
    outlined = region_of_outlines([np.array([(22.0, 2.0), (38, 2), (38, 8), (22, 8)])], (1, 2), SIZE)
    score = score_on_masks(collection, [dataclasses.replace(of_patch, region=outlined)])
    assert score is not None
    assert score.on_animal.mean == 1


def test_the_terminal_says_which_species_has_the_least_on_the_animal(collection):
    traits = [trait(0, 0), trait(1, 3)]
    score = score_on_masks(collection, traits)
    assert score is not None
    assert Localisation().lines(score) == [
        f"regions   {score.on_animal} of their area on the organism, against {score.random} at random places",
        f"          the least in Fictus bus: 0.000 ({score.chance_by_species['Fictus bus']:.3f} at random places); "
        "1 of 2 species below chance: Fictus bus",
    ]
    of_one = score_on_masks(collection, traits[:1])
    assert of_one is not None
    assert len(Localisation().lines(of_one)) == 1


def test_images_of_an_individual_are_one_observation(collection):
    same = [dataclasses.replace(record, individual_id="beetle") for record in collection.images]
    traits = [trait(0, 0), trait(1, 3)]
    score = score_on_masks(dataclasses.replace(collection, images=tuple(same)), traits)
    assert score is not None
    assert (score.n_images, score.n_individuals, score.on_animal.n_groups) == (2, 1, 1)
    assert math.isnan(score.on_animal.low), "there is nothing to resample"
    apart = score_on_masks(collection, traits)
    assert apart is not None
    assert (apart.n_individuals, apart.on_animal.low, apart.on_animal.high) == (2, 0, 1)


def test_photographs_without_labels_are_scored_but_of_no_species(collection):
    nameless = [dataclasses.replace(record, taxon=Taxon()) for record in collection.images]
    score = score_on_masks(dataclasses.replace(collection, images=tuple(nameless)), [trait(0, 0)])
    assert score is not None
    assert (score.on_animal.mean, score.by_species) == (1, {})


def test_a_box_stands_for_the_mask_of_an_image_without_one(collection):
    boxed = [dataclasses.replace(record, animal_box=(0.0, 0.0, 20.0, 40.0)) for record in collection.images]
    score = score_on_masks(dataclasses.replace(collection, images=tuple(boxed)), [trait(2, 0), trait(2, 1)])
    assert score is not None
    assert score.on_animal.mean == 0.5
    score = score_on_masks(dataclasses.replace(collection, images=tuple(boxed)), [trait(0, 1)])
    assert score is not None
    assert score.on_animal.mean == 1, "the mask is twice as wide"


def test_images_without_a_mask_are_not_scored(collection):
    assert score_on_masks(collection, [trait(2, 0)]) is None
    assert score_on_masks(collection, []) is None


def test_a_mask_that_cannot_be_read_is_named(collection):
    (collection.root / "mask.png").write_bytes(b"no picture")
    with pytest.raises(CollectionError, match=r"mask .*mask\.png: "):
        score_on_masks(collection, [trait(0, 0)])
