"""Which calls a plan comes to, and what their keys depend on."""

import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
from describer_server.many import HEIGHT, TRAITS, WIDTH, ManyCandidates
from made_traits import box_region, record_of
from PIL import Image

from sae_traits.config.describer import Server
from sae_traits.describers import make_describer
from sae_traits.describers.measured import MeasuredDescriber
from sae_traits.errors import CollectionError
from sae_traits.schema import Candidate, Collection
from sae_traits.traits.calls import planned_calls, region_key


def describer(**options):
    return make_describer(Server(**{"model": "m"} | options))


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return ManyCandidates(tmp_path_factory.mktemp("many"), 44)


def calls_of(plan, **options):
    tasks = planned_calls(plan.candidates(), plan.collection, describer(**options))
    return [call for calls in tasks for call in calls]


def test_each_region_is_a_call_and_those_of_an_image_come_together(plan):
    tasks = list(planned_calls(plan.candidates(), plan.collection, describer()))
    assert [len(calls) for calls in tasks] == [TRAITS] * 44
    assert all(len({call.members[0].image for call in calls}) == 1 for calls in tasks)
    assert len({call.key for calls in tasks for call in calls}) == 44 * TRAITS


@pytest.mark.parametrize("most", [2, 3, 100])
def test_groups_are_of_one_species_split_and_latent_and_lose_no_one(plan, most):
    calls = calls_of(plan, images_per_description=most)
    records = {record.image_id: record for record in plan.collection.images}
    for call in calls:
        ids, latents = zip(*(member.trait_id.rsplit("-", 1) for member in call.members), strict=True)
        assert len({(records[i].species, records[i].split) for i in ids} | set()) == len(set(latents)) == 1
        assert call.identity.n_images == len(call.members) == len(ids) <= most
    everyone = [member.trait_id for call in calls for member in call.members]
    assert len(everyone) == len(set(everyone)) == 44 * TRAITS
    # a group is only smaller than it may be when it is the last of its kind
    assert sum(len(call.members) < most for call in calls) <= 5 * 2 * TRAITS


def test_an_individual_is_shown_once_in_a_call(plan):
    records = [replace(r, individual_id=f"{r.species} {i // 10}") for i, r in enumerate(plan.collection.images)]
    candidates = ((records[pairs[0][0].image], pairs) for _, pairs in plan.candidates())
    tasks = planned_calls(candidates, plan.collection, describer(images_per_description=3))
    individuals = {record.image_id: record.individual_id for record in records}
    calls = [
        [individuals[member.trait_id.rsplit("-", 1)[0]] for member in call.members] for task in tasks for call in task
    ]
    assert all(len(set(call)) == len(call) for call in calls)
    assert sum(map(len, calls)) == 44 * TRAITS
    assert max(map(len, calls)) == 3


def test_keys_are_those_of_earlier_versions():
    """So that a run on an old ledger asks nobody again."""
    region = box_region(10.0, 10.0, 20.5, 20.0)
    records = [record_of(row, "Gen a") for row in range(2)]
    candidates = [
        (record, [(Candidate(image=row, latent=3, patches=(0,), peak=2.0, contrast=None), region)])
        for row, record in enumerate(records)
    ]
    keys = {}
    for n in (1, 2):
        scripted = SimpleNamespace(
            name="scripted", model="none@1", prompt="v1", settings={"temperature": 0.01}, names_species=True,
            reads_masks=False, images_per_description=n,
        )  # fmt: skip
        tasks = planned_calls(candidates, Collection(Path("/p"), tuple(records)), scripted)  # pyright: ignore
        keys[n] = [(call.key[:16], [member.region_key[:16] for member in call.members]) for (call,) in tasks]
    assert keys == {
        1: [("d3ba72d8fbcb1d4f", ["7a2b3a003eaff9b8"]), ("6e3e5f86c76c406c", ["940e89f1f7f5d5a3"])],
        2: [("d9b94b222b5ee6fa", ["7a2b3a003eaff9b8", "940e89f1f7f5d5a3"])],
    }


OTHERS = [
    {"model": "n"}, {"revision": "2"}, {"temperature": 0.5}, {"max_tokens": 100}, {"show": "crop"},
    {"prompt": "whole"}, {"name_species": True}, {"images_per_description": 2},
]  # fmt: skip


@pytest.mark.parametrize("options", OTHERS)
def test_what_determines_an_answer_changes_the_keys(plan, options):
    before = {call.key for call in calls_of(plan)}
    assert not before & {call.key for call in calls_of(plan, **options)}


@pytest.mark.parametrize(
    "options", [{"base_url": "http://elsewhere/v1"}, {"in_flight": 1}, {"call_timeout": 9}, {"answer_price": 1.0}]
)
def test_what_does_not_determine_an_answer_does_not(plan, options):
    assert [call.key for call in calls_of(plan)] == [call.key for call in calls_of(plan, **options)]


def relabelled(plan):
    """The same images under other names."""
    one, pairs = next(plan.candidates())
    other = replace(one, taxon=replace(one.taxon, species="Gen z"))
    return SimpleNamespace(collection=plan.collection, candidates=lambda: iter([(other, pairs)]))


def test_the_species_matters_only_where_it_is_told(plan):
    for name_species in (False, True):
        before = [call.key for call in calls_of(plan, name_species=name_species)][:TRAITS]
        after = [call.key for call in calls_of(relabelled(plan), name_species=name_species)]
        assert (before == after) is not name_species


def test_a_measurement_depends_on_pixels_and_region_only(plan):
    record, ((_, region), (_, other), *_) = next(plan.candidates())
    key = region_key(record, region)
    assert region_key(replace(record, mm_per_pixel=0.1, image_id="x"), region) == key
    assert region_key(replace(record, sha256="x"), region) != key
    assert region_key(record, other) != key


@pytest.fixture
def masked(plan, tmp_path):
    """Two images of the plan in a folder of their own, the first with a mask."""
    collection = plan.collection
    for record in collection.images[:2]:
        shutil.copy(collection.path(record), tmp_path)
    Image.new("L", (WIDTH, HEIGHT), 255).save(tmp_path / "mask.png")
    records = replace(collection.images[0], mask_file="mask.png"), collection.images[1]
    found = list(islice(plan.candidates(), 2))
    pairs = [(record, regions) for record, (_, regions) in zip(records, found, strict=True)]
    return SimpleNamespace(collection=Collection(tmp_path, records), candidates=lambda: iter(pairs))


def keys_of(plan, describer, *, use_masks):
    """Keys of calls, and of measurements, by image."""
    tasks = list(planned_calls(plan.candidates(), plan.collection, describer, use_masks=use_masks))
    return (
        [[call.key for call in calls] for calls in tasks],
        [[call.members[0].region_key for call in calls] for calls in tasks],
    )


def test_masks_are_read_only_when_asked_for(masked):
    (masked.collection.root / "mask.png").unlink()
    tasks = planned_calls(masked.candidates(), masked.collection, MeasuredDescriber())
    assert all(call.members[0].mask is None for calls in tasks for call in calls)
    with pytest.raises(CollectionError, match=r"mask .*mask\.png.*leave out --use-masks"):
        keys_of(masked, MeasuredDescriber(), use_masks=True)


def test_with_masks_measurements_and_the_answers_made_of_them_get_other_keys_and_a_models_answers_do_not(masked):
    calls, regions = keys_of(masked, MeasuredDescriber(), use_masks=False)
    masked_calls, masked_regions = keys_of(masked, MeasuredDescriber(), use_masks=True)
    assert not set(calls[0]) & set(masked_calls[0])
    assert not set(regions[0]) & set(masked_regions[0])
    assert (calls[1], regions[1]) == (masked_calls[1], masked_regions[1])  # it has no mask
    models_calls, models_regions = keys_of(masked, describer(), use_masks=False)
    assert keys_of(masked, describer(), use_masks=True) == (models_calls, masked_regions)
    assert models_regions == regions


def test_another_mask_is_another_measurement(masked):
    before = keys_of(masked, MeasuredDescriber(), use_masks=True)
    Image.new("L", (WIDTH, HEIGHT), 128).save(masked.collection.root / "mask.png")
    after = keys_of(masked, MeasuredDescriber(), use_masks=True)
    assert (before[0][0] != after[0][0], before[1][0] != after[1][0]) == (True, True)
    assert (before[0][1], before[1][1]) == (after[0][1], after[1][1])
