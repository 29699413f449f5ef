import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from pydantic import TypeAdapter

from sae_traits.errors import CollectionError, ConfigError
from sae_traits.geometry import Framing
from sae_traits.schema import (
    Attribute,
    BackboneInfo,
    Candidate,
    Collection,
    Contrast,
    Description,
    ImageRecord,
    Measurement,
    Region,
    Taxon,
    Trait,
)
from sae_traits.testbench.drawn import Truth
from sae_traits.testbench.drawn.world import NOTE, TrueSpecies, TrueTrait
from sae_traits.testbench.truth import DrawnScore, DrawnTruth, score

SIDE = 40
"""Pictures of 4 x 4 patches of 10 pixels."""
PATCHES = np.arange(16).reshape(4, 4)
ELYTRA, HEAD = 1, 2


@pytest.fixture
def info():
    framing = Framing(mode="squash", size=(SIDE, SIDE))
    ones = (1.0, 1.0, 1.0)
    return BackboneInfo(
        backbone="texture",
        revision="0",
        layer=0,
        d_model=3,
        rows=4,
        columns=4,
        patch=10,
        framing=framing,
        mean=ones,
        std=ones,
    )


def species(name, alone, *traits):
    return TrueSpecies(
        species=name,
        genus=name.split()[0],
        family="Testidae",
        order="Testoptera",
        alone_in_genus=alone,
        traits=tuple(TrueTrait(*trait) for trait in traits),
    )


TRUTH = Truth(
    parts=("background", "elytra", "head"),
    species=(
        species("Aus bus", False, ("elytra", "colour", "red", True), ("elytra", "pattern", "plain", False),
                ("head", "colour", "black", True)),
        species("Cus dus", True, ("elytra", "colour", "blue", True), ("elytra", "pattern", "banded", False)),
    ),
)  # fmt: skip


def blocks(elytra: ArrayLike = PATCHES[:2, :2], head: ArrayLike = PATCHES[3:, 3:]) -> NDArray[np.uint8]:
    """A label map in which whole patches are a part."""
    labels = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for part, patches in ((ELYTRA, elytra), (HEAD, head)):
        for patch in np.ravel(patches):
            row, column = divmod(int(patch), 4)
            labels[row * 10 : row * 10 + 10, column * 10 : column * 10 + 10] = part
    return labels


def make_collection(folder, *records):
    """A collection of (species, split, label map)."""
    TRUTH.save(folder)
    (folder / "parts" / "x").mkdir(parents=True)
    made = []
    for number, (name, split, labels) in enumerate(records):
        file = f"images/x/{number}.png"
        Image.fromarray(labels).save(folder / "parts" / "x" / f"{number}.png")
        made.append(
            ImageRecord(
                image_id=str(number),
                file=file,
                taxon=Taxon(species=name),
                split=split,
                width=SIDE,
                height=SIDE,
                sha256="",
            )
        )
    return Collection(folder, tuple(made))


def square(patch):
    """The outline of a patch."""
    top, left = (10.0 * place for place in divmod(patch, 4))
    return (left, top, left + 10, top, left + 10, top + 10, left, top + 10)


def make_trait(record, patches, **attributes):
    patches = tuple(int(p) for p in np.ravel(patches))
    contrast = Contrast(f_species=1, f_reference=0, effect=1, q_value=0, significant=True, reference_rank="genus")
    return Trait(
        trait_id=f"{record}-{patches}",
        candidate=Candidate(image=record, latent=0, patches=patches, peak=1, contrast=contrast),
        region=Region(box=(0, 0, 1, 1), polygons=tuple(map(square, patches)), patches=patches, area_fraction=0),
        description=Description(text="", attributes=tuple(Attribute(k, v) for k, v in attributes.items())),
        measurement=Measurement(
            length_px=1, width_px=1, elongation=1, texture_contrast=0, color_lab=(0, 0, 0), color_name="red"
        ),
        describer="measured",
        describer_model="m",
        prompt="p",
    )


def recall_of(scored, group):
    return next(recall for recall in scored.recall if recall.group == group)


def test_a_trait_is_found_where_half_of_a_region_lies_on_its_part(tmp_path, info):
    collection = make_collection(tmp_path, ("Aus bus", "train", blocks()), ("Cus dus", "test", blocks()))
    traits = [
        make_trait(0, PATCHES[:2, :2]),  # on the elytra
        make_trait(1, PATCHES[0, :4]),  # two of four patches on the elytra: exactly half
    ]
    scored = score(collection, traits, info)
    everything = recall_of(scored, "all species")
    assert (everything.n_images, everything.n_pairs) == (2, 3)
    assert everything.regions.mean == pytest.approx(2 / 3)  # the head of the first was not found
    assert recall_of(scored, "species with congeners").regions.mean == 0.5
    assert recall_of(scored, "alone in their genus").regions.mean == 1.0
    assert recall_of(scored, "all, test split only").n_images == 1
    assert scored.n_hidden == 0


def test_a_region_that_lies_less_than_half_on_a_part_does_not_count(tmp_path, info):
    labels = blocks()
    labels[0, 0] = 0  # one pixel of the elytra is hidden
    collection = make_collection(tmp_path, ("Cus dus", "train", labels))
    scored = score(collection, [make_trait(0, PATCHES[0, :4])], info)
    assert recall_of(scored, "all species").regions.mean == 0


def test_images_without_a_trait_count_as_missed_and_hidden_parts_do_not_count(tmp_path, info):
    speck = blocks(head=[])
    speck[35:40, 35:40] = HEAD  # a quarter of a patch in sight
    collection = make_collection(
        tmp_path, ("Aus bus", "train", blocks(head=[])), ("Aus bus", "train", speck), ("Aus bus", "train", blocks())
    )
    scored = score(collection, [make_trait(0, PATCHES[:2, :2])], info)
    everything = recall_of(scored, "all species")
    assert everything.n_pairs == 4
    assert everything.regions.mean == 0.25
    assert scored.n_hidden == 2


def test_random_regions_hit_as_often_as_their_shape_fits(tmp_path, info):
    n_images = 60
    collection = make_collection(tmp_path, *[("Cus dus", "train", blocks())] * n_images)
    traits = [make_trait(i, [5]) for i in range(n_images)]
    scored = score(collection, traits, info)
    assert recall_of(scored, "all species").regions.mean == 1
    # One patch of sixteen places, four of them elytra.
    assert recall_of(scored, "all species").random.mean == pytest.approx(4 / 16, abs=0.03)
    on = {row.where: row for row in scored.location}
    assert on["on a diagnostic part"].random.mean == pytest.approx(4 / 16, abs=0.03)
    assert on["on any one part"].random.mean == pytest.approx(5 / 16, abs=0.03)
    assert on["on the background"].random.mean == pytest.approx(11 / 16, abs=0.03)
    assert score(collection, traits, info) == scored


def test_where_regions_lie_counts_diagnostic_parts_other_parts_and_background(tmp_path, info):
    collection = make_collection(tmp_path, ("Cus dus", "train", blocks()))
    traits = [make_trait(0, [0, 1]), make_trait(0, [15]), make_trait(0, [2, 3]), make_trait(0, [8, 9])]
    scored = score(collection, traits, info)
    assert scored.n_regions == 4
    assert [row.regions.mean for row in scored.location] == [0.25, 0.5, 0.5]


def test_the_describer_is_scored_on_regions_of_one_part_against_the_commonest_value(tmp_path, info):
    collection = make_collection(tmp_path, ("Aus bus", "train", blocks()), ("Cus dus", "train", blocks()))
    traits = [
        make_trait(0, [0], colour="red", pattern="spotted"),
        make_trait(0, [1], colour="orange", pattern="plain", shape="rounded"),
        make_trait(0, [15], colour="black"),
        make_trait(0, [10], colour="green"),  # background: not asked
        make_trait(1, [4], colour="blue"),
    ]
    colour, pattern, shape, *_ = score(collection, traits, info).naming
    assert (colour.attribute, colour.n_named, colour.n_rows) == ("colour", 4, 4)
    assert colour.accuracy.mean == 0.75
    assert (colour.majority_value, colour.majority_accuracy) == ("red", 0.5)
    # The head has no true pattern; the row of the second image names none.
    assert (pattern.n_named, pattern.n_rows, pattern.accuracy.mean) == (2, 3, 0.5)
    assert (pattern.majority_value, pattern.majority_accuracy) == ("plain", 1.0)
    assert (shape.n_named, shape.n_rows, shape.majority_value) == (0, 0, None)


def test_the_place_that_is_said_is_compared_with_that_of_the_part_and_of_the_region(tmp_path, info):
    bar = blocks(elytra=PATCHES[1], head=[])  # four patches from side to side
    collection = make_collection(tmp_path, ("Aus bus", "train", bar))
    traits = [
        make_trait(0, [4], place="halfway to an end"),  # the first of the four, 15 of 23 pixels from the middle
        make_trait(0, [5], place="halfway to an end"),  # truly in the centre
        make_trait(0, [6]),
        make_trait(0, [15], place="end"),  # background: not asked
    ]
    *_, part, region = score(collection, traits, info).naming
    assert (part.attribute, part.n_named, part.n_rows, part.accuracy.mean) == ("place of the part", 2, 3, 0.0)
    assert part.majority_value == "most of the organism"
    assert (region.attribute, region.n_named, region.n_rows, region.accuracy.mean) == ("place of the region", 2, 3, 0.5)


def test_the_score_can_be_written_as_json_and_read_by_people(tmp_path, info):
    collection = make_collection(tmp_path, ("Aus bus", "train", blocks()))
    scored = score(collection, [make_trait(0, [0], colour="red")], info)
    values = json.loads(TypeAdapter(DrawnScore).dump_json(scored))
    assert values["recall"][0]["regions"]["mean"] == 0.5
    assert values["note"] == NOTE
    lines = DrawnTruth().lines(scored)
    text = "\n".join(lines)
    for words in ("invented species", "shares its vocabulary", "alone in their genus", "always the commonest"):
        assert words in text
    assert max(map(len, lines)) <= 120


def test_a_run_without_any_trait_is_scored_as_nothing_found(tmp_path, info):
    collection = make_collection(tmp_path, ("Aus bus", "train", blocks()))
    scored = score(collection, [], info)
    assert recall_of(scored, "all species").regions.mean == 0
    assert scored.n_regions == 0
    assert "none" in "\n".join(DrawnTruth().lines(scored))


def test_what_does_not_fit_is_said(tmp_path, info):
    with pytest.raises(CollectionError, match="only drawn collections"):
        score(Collection(tmp_path, ()), [], info)
    collection = make_collection(tmp_path, ("Aus bus", "train", blocks()))
    with pytest.raises(ConfigError, match="same backbone"):
        score(collection, [make_trait(0, [99])], info)
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / "parts" / "x" / "0.png")
    with pytest.raises(CollectionError, match="no part label map"):
        score(collection, [], info)
    (tmp_path / "parts" / "x" / "0.png").unlink()
    with pytest.raises(CollectionError, match="cannot be read"):
        score(collection, [], info)


def test_as_a_task_it_scores_labelled_drawings_and_nothing_else(tmp_path, info):
    collection = replace(make_collection(tmp_path, ("Aus bus", "train", blocks())), note=NOTE)
    traits = [make_trait(0, [0])]

    def run(collection):
        return DrawnTruth().run(SimpleNamespace(collection=collection, traits=traits, backbone=info))

    assert run(collection) == score(collection, traits, info)
    unlabelled = replace(collection, images=tuple(replace(record, taxon=Taxon()) for record in collection.images))
    assert run(unlabelled) is None
    assert run(replace(collection, note=None)) is None, "a truth.json of other images says nothing to us"
    (tmp_path / "truth.json").unlink()
    assert run(collection) is None
