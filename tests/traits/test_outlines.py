"""Outlines that follow the image, on pictures whose parts are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import shapely
from describer_server.many import Chosen
from grids import square_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from made_traits import record_of
from PIL import Image, ImageDraw
from skimage.color import rgb2lab

from sae_traits.config.regions import PaperContrast, SAERegions
from sae_traits.describers.measured import MeasuredDescriber
from sae_traits.geometry import Framing
from sae_traits.io import hash_of_file
from sae_traits.schema import BackboneInfo, Candidate, Collection, Region
from sae_traits.traits.annotate import describe_candidates, export_traits
from sae_traits.traits.asking import prepare_calls
from sae_traits.traits.calls import planned_calls, region_key
from sae_traits.traits.ledger import Ledger
from sae_traits.traits.outlines import OutlineOfImage, Outlines, organism_color_odds, with_outline
from sae_traits.traits.plan import Plan, plan_regions
from sae_traits.traits.regions import make_region
from sae_traits.traits.table import read_traits

INFO = BackboneInfo(
    backbone="texture", revision="1", layer=0, d_model=4, rows=8, columns=8, patch=8.0,
    framing=Framing(mode="squash", size=(64, 64)), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
)  # fmt: skip
SIZE = (320, 240)
GRID = square_grid("squash", source=SIZE, size=64, patch=8)  # 8 x 8 patches of 40 x 30 pixels
LEAF, GROUND, SPOT = (60, 130, 50), (190, 180, 160), (200, 40, 40)
RIGHT = bytes(8 * [0, 0, 0, 0, 255, 255, 255, 0])
"""What the patches of GRID say of an organism in the right half of the photograph."""


def picture(*shapes, noise=6):
    """Ellipses (colour, box) on a plain ground, with a little noise `[240, 320, 3]`."""
    image = Image.new("RGB", SIZE, GROUND)
    for color, box in shapes:
        ImageDraw.Draw(image).ellipse(box, fill=color)
    grain = np.random.default_rng(0).normal(0, noise, (SIZE[1], SIZE[0], 3))
    return np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)


def shape_of(region: Region) -> shapely.Geometry:
    return shapely.union_all([shapely.Polygon(np.reshape(ring, (-1, 2))) for ring in region.polygons])


def ellipse(box) -> shapely.Geometry:
    left, top, right, bottom = box
    circle = shapely.Point(0, 0).buffer(1, quad_segs=64)
    scaled = shapely.transform(circle, lambda xy: xy * [(right - left) / 2, (bottom - top) / 2])
    return shapely.transform(scaled, lambda xy: np.add(xy, [(left + right) / 2, (top + bottom) / 2]))


def iou(first, second):
    return shapely.intersection(first, second).area / shapely.union(first, second).area


def test_an_outline_is_that_of_the_part_not_of_the_patch_on_it():
    box = (130, 85, 210, 155)
    image, region = picture((LEAF, box)), make_region([27], GRID)  # 120 to 160, 90 to 120
    outlined = OutlineOfImage(GRID)(image, region)
    assert iou(shape_of(region), ellipse(box)) < 0.35
    assert iou(shape_of(outlined), ellipse(box)) > 0.9
    assert outlined.patches == region.patches
    assert outlined.box == pytest.approx((130, 85, 80, 70), abs=5)
    assert outlined.area_fraction == pytest.approx(ellipse(box).area / (320 * 240), rel=0.1)


def test_what_lies_beyond_the_border_of_the_animal_is_left_out():
    box = (-200, -100, 153, 400)  # the leaf ends within the patch
    outlined = OutlineOfImage(GRID)(picture((LEAF, box)), make_region([35], GRID))
    assert shapely.intersection(shape_of(outlined), ellipse(box)).area > 0.95 * shape_of(outlined).area


def test_a_patch_that_is_mostly_beside_the_organism_is_outlined_on_it():
    leaf = (145, 20, 285, 220)  # the patch, 120 to 160, has more of the background
    image, beside = picture((LEAF, leaf)), make_region([27], GRID)
    on_leaf = [
        shapely.intersection(shape_of(outlined), ellipse(leaf)).area / shape_of(outlined).area
        for outlined in (OutlineOfImage(GRID)(image, region) for region in (beside, replace(beside, organism=RIGHT)))
    ]
    assert on_leaf[0] < 0.5
    assert on_leaf[1] > 0.9


def test_colours_of_the_organism_are_told_from_those_of_the_rest_of_its_photograph():
    image = picture((LEAF, (145, 20, 285, 220)))
    odds = organism_color_odds(image, GRID, RIGHT, rgb2lab(image))
    assert odds[120, 215] > 2
    assert odds[120, 40] < -1
    large = np.repeat(np.repeat(image, 4, axis=0), 4, axis=1)
    grid = square_grid("squash", source=(1280, 960), size=64, patch=8)
    assert organism_color_odds(large, grid, RIGHT, rgb2lab(image)) == pytest.approx(odds, abs=0.5)


def test_patches_between_organism_and_surroundings_count_as_both():
    image = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
    image[:, : SIZE[0] // 2] = LEAF
    for sure, least, most in ((0.4, -7, -2.5), (0.5, -2.5, -0.5), (0.6, -0.1, 0.1), (0.7, 0.5, 2.5), (0.8, 2.5, 7)):
        organism = bytes(8 * [*[round(255 * sure)] * 4, *[round(255 * (1.2 - sure))] * 4])
        odds = organism_color_odds(image, GRID, organism, rgb2lab(image))
        assert least < odds[120, 40] < most
        assert odds[120, 280] == pytest.approx(-odds[120, 40], abs=0.25)


def test_what_a_crop_leaves_out_of_a_photograph_has_no_say_in_the_colours_of_its_organism():
    grid = square_grid("crop", source=(640, 240), size=64, patch=8, resize=64)  # the middle 240 of 640 pixels
    image = np.full((240, 640, 3), GROUND, np.uint8)
    image[:, 200:260] = LEAF  # to the left edge of the crop
    organism = bytes(8 * [*[255] * 2, *[0] * 6])
    odds = organism_color_odds(image, grid, organism, rgb2lab(image))
    assert odds[120, 230] > 2
    assert odds[120, 400] < -2.5
    assert odds[120, 50] == odds[120, 400]


def test_a_spot_is_told_from_the_wing_around_it():
    wing, spot = (20, 20, 300, 220), (122, 91, 158, 121)
    outlined = OutlineOfImage(GRID)(picture((LEAF, wing), (SPOT, spot)), make_region([27], GRID))
    assert iou(shape_of(outlined), ellipse(spot)) > 0.8


def test_where_colours_do_not_tell_the_outline_is_about_that_of_the_patches():
    region = make_region([27, 28], GRID)
    outlined = OutlineOfImage(GRID)(picture(noise=0), region)
    assert iou(shape_of(outlined), shape_of(region)) > 0.85


def test_an_outline_reaches_no_farther_than_two_patches():
    outlined = OutlineOfImage(GRID)(picture((LEAF, (-100, 60, 500, 150))), make_region([27], GRID))
    assert shape_of(outlined).within(shapely.box(40, 30, 240, 180))


@pytest.mark.parametrize(("patch", "reach"), [(8, 80), (2, 50), (1, 45)])  # 2 of 8 patches, 5 of 32, 9 of 64
def test_of_many_patches_an_outline_reaches_a_seventh_of_the_side(patch, reach):
    grid = square_grid("squash", source=SIZE, size=64, patch=patch)
    region = make_region([grid.n_patches // 2 + grid.columns // 2], grid)
    _, top, _, height = region.box
    band = (-2000, top - height / 4, 2000, top + height * 5 / 4)
    outlined = OutlineOfImage(grid)(picture((LEAF, band)), region)
    left, right = (shapely.bounds(shape_of(outlined))[[0, 2]] - shapely.bounds(shape_of(region))[[0, 2]]).tolist()
    assert (-left, right) == pytest.approx((reach, reach), abs=2)


def test_a_margin_widens_the_box_around_the_outline():
    image, region = picture((LEAF, (130, 85, 210, 155))), make_region([27], GRID)
    tight, wide = OutlineOfImage(GRID)(image, region), OutlineOfImage(GRID, 0.5)(image, region)
    (left, top, width, height), side = tight.box, max(tight.box[2:])
    assert wide.polygons == tight.polygons
    assert wide.box == pytest.approx((left - side / 2, top - side / 2, width + side, height + side), abs=0.01)


@given(
    size=st.tuples(st.integers(15, 400), st.integers(15, 400)),
    patches=st.sets(st.integers(0, 15), min_size=1),
    framing=st.sampled_from(["squash", "crop", "letterbox"]),
    kind=st.sampled_from(["noise", "plain", "halves"]),
    known=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_every_region_gets_a_valid_outline_within_the_image(size, patches, framing, kind, known, seed):
    grid = square_grid(framing, source=size, size=64, patch=16, resize=70 if framing == "crop" else 0)
    region = make_region(sorted(patches & set(grid.valid.tolist())) or [int(grid.valid[0])], grid)
    if known:
        region = replace(region, organism=np.random.default_rng(seed).integers(0, 256, 16, np.uint8).tobytes())
    image = np.full((size[1], size[0], 3), 128, dtype=np.uint8)
    if kind == "noise":
        image = np.random.default_rng(seed).integers(0, 256, image.shape, dtype=np.uint8)
    if kind == "halves":
        image[:, : 1 + seed % size[0]] = 30, 90, 200
    outlined = OutlineOfImage(grid)(image, region)
    assert all(shapely.Polygon(np.reshape(ring, (-1, 2))).is_valid for ring in outlined.polygons)
    shape = shape_of(outlined)
    assert 0 < shape.area <= (size[0] * size[1]) * 1.001
    assert outlined.area_fraction == pytest.approx(shape.area / (size[0] * size[1]), abs=2e-3)
    assert shape.intersects(shape_of(region))
    left, top, width, height = outlined.box
    assert (left, top) >= (0, 0)
    assert (left + width, top + height) <= (size[0] + 1e-6, size[1] + 1e-6)


@pytest.fixture
def planned(tmp_path):
    """A plan of two regions on one photograph, and of the same two with outlines that follow it."""
    Image.fromarray(picture((LEAF, (130, 85, 210, 155)))).save(tmp_path / "0.png")
    record = replace(record_of(0, size=SIZE), sha256=hash_of_file(tmp_path / "0.png"))
    on_it = replace(make_region([27], GRID), organism=RIGHT)
    pairs = [(_candidate(latent), on_it) for latent in (3, 4)]  # two latents at the same patch
    chosen = Chosen({record.species})
    plain = Plan(Collection(tmp_path, (record,)), lambda: iter([(record, pairs)]), chosen)
    return plain, replace(plain, outlines=Outlines(INFO))


def _candidate(latent):
    return Candidate(image=0, region_source="pca", latent=latent, patches=(27,), peak=1.0, contrast=None)


def calls_of(plan):
    return list(planned_calls(plan.candidates(), plan.collection, MeasuredDescriber(), outlines=plan.outlines))


def test_what_is_measured_shown_and_kept_is_the_part(planned):
    before, after = (prepare_calls(lambda *seen: seen, calls_of(plan)[0])[0] for plan in planned)
    (coarse,), (fine,) = before.measurements.values(), after.measurements.values()
    assert (coarse["length_px"], coarse["width_px"]) == (40, 30)
    assert (fine["length_px"], fine["width_px"]) == pytest.approx((80, 70), abs=5)
    assert fine["color_name"] == coarse["color_name"]
    _, shown, _, _ = after.looks[0]
    assert with_outline(make_region([27], GRID), json.loads(json.dumps(fine["outlined"]))) == shown
    assert "outlined" not in coarse


def test_other_outlines_are_other_questions_and_patches_are_the_former_ones(planned):
    plain, following = ([call for calls in calls_of(plan) for call in calls] for plan in planned)
    assert not {call.key for call in plain} & {call.key for call in following}
    record, region = planned[0].collection.images[0], replace(make_region([27], GRID), organism=RIGHT)
    assert {call.members[0].region_key for call in plain} == {region_key(record, region)}
    assert {call.members[0].region_key for call in following} == {
        region_key(record, region, outline=OutlineOfImage(GRID))
    }


def test_a_question_about_an_outline_is_another_where_the_organism_is_elsewhere(planned):
    """The outline depends on it, whoever describes; that of patches does not."""
    record, region = planned[0].collection.images[0], make_region([27], GRID)
    describer = SimpleNamespace(
        name="model", model="org/model", prompt="say", settings={}, reads_masks=False, names_species=False,
        images_per_description=1,
    )  # fmt: skip
    for plan, n_questions in ((planned[0], 1), (planned[1], 3)):
        keys = {
            (call.key, call.members[0].region_key)
            for organism in (None, RIGHT, RIGHT[::-1])
            for calls in planned_calls(
                iter([(record, [(_candidate(3), replace(region, organism=organism))])]),
                plan.collection, describer, outlines=plan.outlines,
            )
            for call in calls
        }  # fmt: skip
        assert len({key for key, _ in keys}) == len({region_key for _, region_key in keys}) == n_questions


def test_all_traits_get_the_outline_and_an_answer_that_is_kept_is_the_same(planned, tmp_path):
    _, plan = planned
    files = {"traits_file": tmp_path / "traits.parquet", "latents_file": tmp_path / "latents.parquet"}
    exported = []
    for _ in range(2):
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            describe_candidates(plan, MeasuredDescriber(), ledger, workers=1)
            export_traits(plan, ledger, **files)
        exported.append(list(read_traits(files["traits_file"])))
    assert exported[0] == exported[1]
    assert {trait.region.organism for trait in exported[0]} == {None}, "it was for the outline"
    assert len({trait.region for trait in exported[0]}) == 1
    (region,) = {trait.region for trait in exported[0]}
    assert len(exported[0]) == 2
    assert iou(shape_of(region), ellipse((130, 85, 210, 155))) > 0.9
    assert exported[0][0].measurement.length_px == pytest.approx(80, abs=5)


class NoCodes:
    """Codes of no image."""

    thresholds = np.ones(3, dtype=np.float32)
    latent_background = None
    latent_places = None
    n_latents = 3

    def firing_counts(self):
        return iter(())


def test_the_option_decides():
    assert SAERegions().outline == "image"
    for outline, expected in (("image", Outlines(INFO, 0.5)), ("patches", None)):
        regions = SAERegions(contrast=PaperContrast(), outline=outline, box_margin=0.5)
        plan = plan_regions(regions, Collection(Path("/photographs"), ()), INFO, codes=NoCodes())  # pyright: ignore
        assert plan.outlines == expected
