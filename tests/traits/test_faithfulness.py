"""Who looks at the region changes the answer with it; who does not is found out."""

import json
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
from describer_server.many import ManyCandidates
from describer_server.running import describer_server
from hypothesis import given
from hypothesis import strategies as st
from made_traits import HEIGHT, WIDTH, box_region, collection_of, described, record_of, trait_of

from sae_traits.config.describer import Measured, Server
from sae_traits.describers import Answer, make_describer
from sae_traits.errors import ConfigError
from sae_traits.schema import AnimalFrame, Collection, Description
from sae_traits.traits.annotate import describe_candidates, export_traits
from sae_traits.traits.faithfulness import MAX_BLANK, check_faithfulness, second_calls
from sae_traits.traits.ledger import Ledger
from sae_traits.traits.table import read_traits
from sae_traits.traits.withheld import COLOUR

N_IMAGES, N_TRAITS = 8, 12


class Blind:
    """Says something of the image, whatever the region; of a region without patches, background if it is told to."""

    name, model, prompt, settings = "scripted", "none@1", "v1", ()
    names_species = reads_masks = False
    withhold = None
    batch_size = in_flight = 2

    def __init__(self, images_per_description=1, calls_blank_background=False):
        self.images_per_description = images_per_description
        self.calls_blank_background = calls_blank_background

    def look(self, image, region, measurement, mask):
        return int(image.mean()), bool(region.patches)

    @asynccontextmanager
    async def open(self):
        yield self.ask

    async def ask(self, questions):
        return [self.say(*question.looks[0]) for question in questions]

    def say(self, mean, has_patches):
        background = self.calls_blank_background and not has_patches
        return Answer(description=Description(text=f"Shade {mean}.", is_background=background), raw="{}")


def annotated(folder, describer):
    """The traits that a describer makes of the candidates."""
    plan = ManyCandidates(folder, N_IMAGES)
    with Ledger(folder / "ledger.sqlite") as ledger:
        describe_candidates(plan, describer, ledger, workers=1)  # pyright: ignore[reportArgumentType]
        files = {"traits_file": folder / "traits.parquet", "latents_file": folder / "latents.parquet"}
        export_traits(plan, ledger, **files)  # pyright: ignore[reportArgumentType]
    return read_traits(folder / "traits.parquet")


def asked_again(folder, traits, describer):
    with Ledger(folder / "faithfulness.sqlite") as ledger:
        collection = ManyCandidates(folder, N_IMAGES).collection
        found = check_faithfulness(traits, collection, describer, ledger, n_traits=N_TRAITS, seed=1, workers=1)
        return SimpleNamespace(faithfulness=found, calls=list(ledger), **{s.kind: s for s in found.scores})


def faithfulness_of(folder, describer):
    """Annotate, then ask again."""
    return asked_again(folder, annotated(folder, describer), describer)


def server_describer(server):
    return make_describer(Server(model="tiny", base_url=server.base_url, workers=1))


def test_measured_says_the_same_of_the_same_region_and_something_else_of_others(tmp_path):
    found = faithfulness_of(tmp_path, make_describer(Measured()))
    assert found.faithfulness.n_traits == N_TRAITS
    assert (found.same.n_answered, found.same.n_changed, found.same.kept) == (N_TRAITS, 0, 1.0)
    assert (found.blank.n_asked, found.blank.n_answered) == (N_TRAITS, N_TRAITS)
    assert found.blank.n_changed >= 6
    assert found.swapped.n_answered == N_TRAITS
    assert found.swapped.n_changed >= 6
    assert found.blank.n_background == 0


def test_colours_that_were_withheld_are_not_compared(tmp_path):
    describer = make_describer(Measured())
    traits = list(annotated(tmp_path, describer))
    without = [replace(t, description=describer.withhold(t.description, COLOUR)) for t in traits]
    found = asked_again(tmp_path, without, describer)
    assert (found.same.n_answered, found.same.n_changed, found.same.kept) == (N_TRAITS, 0, 1.0)
    assert found.swapped.n_changed >= 6


def test_a_describer_that_does_not_look_at_the_region_is_found_out(tmp_path):
    found = faithfulness_of(tmp_path, Blind())
    for score in found.faithfulness.scores:
        assert (score.n_answered, score.n_changed, score.changed_share) == (N_TRAITS, 0, 0.0)
    assert len(found.blank.unchanged) == 5
    assert "blank    12 of 12 answered; 0.0% changed, or background; 0.0% background" in found.faithfulness.lines()[3]


def test_background_is_a_changed_answer(tmp_path):
    found = faithfulness_of(tmp_path, Blind(calls_blank_background=True))
    assert (found.blank.n_background, found.blank.n_changed, found.blank.kept) == (N_TRAITS, N_TRAITS, 0.0)
    assert (found.same.n_background, found.swapped.n_changed) == (0, 0)
    assert found.blank.background_share == 1.0
    assert (
        "blank    12 of 12 answered; 100.0% changed, or background; 100.0% background"
        in (found.faithfulness.lines()[3])
    )


def test_a_server_is_asked_once_and_its_answers_are_compared(tmp_path):
    with describer_server() as server:
        found = faithfulness_of(tmp_path, server_describer(server))
        n_requests = server.n_requests()
        again = faithfulness_of(tmp_path, server_describer(server))
        assert server.n_requests() == n_requests
    assert again.faithfulness == found.faithfulness
    # the test server's answer is a function of what it is sent
    assert found.same.n_changed == 0
    assert found.swapped.n_changed == found.swapped.n_answered == N_TRAITS
    assert found.swapped.kept < 0.1
    assert {(call.state, call.attempts) for call in found.calls} == {("ok", 1)}
    assert json.loads(json.dumps(found.faithfulness.to_dict()))["scores"][1]["changed_share"] == 1.0


def test_answers_that_cannot_be_used_are_no_answers(tmp_path):
    with describer_server() as server:
        describer = server_describer(server)
        traits = list(annotated(tmp_path, describer))
        server.change(faults={"malformed": 1.0})
        found = asked_again(tmp_path, traits, describer)
    assert [(s.n_asked, s.n_answered, s.changed_share) for s in found.faithfulness.scores] == [(N_TRAITS, 0, None)] * 3
    assert "same     0 of 12 answered; none changed" in found.faithfulness.lines()[1]


def test_answers_about_several_images_cannot_be_compared():
    with pytest.raises(ConfigError, match="images-per-description 1"):
        second_calls([], collection_of([]), Blind(images_per_description=3), n_traits=3, seed=0)  # pyright: ignore[reportArgumentType]


def planned(traits, collection, seed=0, n_traits=100):
    calls = second_calls(traits, collection, Blind(), n_traits=n_traits, seed=seed)  # pyright: ignore[reportArgumentType]
    return [(c.kind, c.trait.trait_id, c.call.members[0].region) for c in calls]


def traits_on(collection, per_image=3):
    return [
        trait_of(row, z, described(), region=box_region(5.0 + 20 * z, 5.0 + row, 15.0, 15.0))
        for row in range(len(collection.images))
        for z in range(per_image)
    ]


def test_a_sample_is_a_function_of_the_seed_and_takes_traits_of_the_describer_alone():
    collection = collection_of(["Gen a"] * 10)
    foreign = [trait_of(0, 9, described(), describer=("scripted", "none@1", "v0"))]
    traits = [*traits_on(collection), *foreign]
    first, second, other = (planned(traits, collection, seed, 5) for seed in (0, 0, 1))
    assert first == second != other
    assert len({name for _, name, _ in first}) == 5
    assert "s0-9" not in {name for _, name, _ in planned(traits, collection)}


def test_every_trait_is_sampled_equally_often():
    collection = collection_of(["Gen a"] * 4)
    traits = traits_on(collection)
    drawn = [name for seed in range(120) for kind, name, _ in planned(traits, collection, seed, 3) if kind == "same"]
    assert {name: drawn.count(name) for name in set(drawn)}.keys() == {t.trait_id for t in traits}
    assert all(12 <= drawn.count(t.trait_id) <= 52 for t in traits)  # 30 expected, standard deviation 4.7


def test_a_swapped_region_is_another_images_at_the_same_relative_place_and_elsewhere():
    large = record_of(1, size=(2 * WIDTH, 2 * HEIGHT))
    collection = Collection(collection_of([]).root, (record_of(0), large))
    own, other = box_region(0.0, 0.0, 20.0, 20.0), box_region(100.0, 80.0, 40.0, 20.0, (2 * WIDTH, 2 * HEIGHT))
    traits = [trait_of(0, 1, described(), region=own), trait_of(1, 1, described(), region=other)]
    swapped = {name: region for kind, name, region in planned(traits, collection) if kind == "swapped"}
    assert swapped["s0-1"].box == (50.0, 40.0, 20.0, 10.0)
    assert swapped["s0-1"].polygons == ((50.0, 40.0, 70.0, 40.0, 70.0, 50.0, 50.0, 50.0),)
    assert swapped["s0-1"].area_fraction == other.area_fraction
    assert swapped["s1-1"].box == (0.0, 0.0, 40.0, 40.0)


def test_a_swapped_region_lies_on_the_animal_of_the_image_that_it_is_shown_on():
    collection = collection_of(["Gen a"] * 2)
    traits = []
    for row in range(2):
        animal = AnimalFrame(area=900.0, centre=(40.0 + row, 40.0), spread=(75.0, 0.0, 75.0), ends=None)
        region = replace(box_region(50.0 * row, 10.0, 20.0, 20.0), animal=animal)
        traits.append(trait_of(row, 1, described(), region=region))
    regions = planned(traits, collection)
    assert {(name, region.animal.centre[0]) for kind, name, region in regions if kind == "swapped"} == {
        ("s0-1", 40.0), ("s1-1", 41.0),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("size", "x"),
    [((2 * WIDTH, HEIGHT), 60.0), ((WIDTH, HEIGHT), 12.0)],
    ids=["an image of another shape", "a region at the same place"],
)
def test_there_is_no_swapped_region_where_nothing_fits(size, x):
    collection = Collection(collection_of([]).root, (record_of(0), record_of(1, size=size)))
    traits = [
        trait_of(0, 1, described(), region=box_region(10.0, 10.0, 20.0, 20.0)),
        trait_of(1, 1, described(), region=box_region(x, 10.0, 20.0, 20.0, size)),
    ]
    assert {kind for kind, _, _ in planned(traits, collection)} == {"same", "blank"}


boxes = st.tuples(st.floats(0, 60), st.floats(0, 40), st.floats(1, 40), st.floats(1, 40))


@given(st.lists(boxes, min_size=1, max_size=4))
def test_a_blank_box_lies_in_a_corner_and_on_no_region_of_the_image(found):
    collection = collection_of(["Gen a"])
    traits = [trait_of(0, z, described(), region=box_region(*box)) for z, box in enumerate(found)]
    blank = {name: region.box for kind, name, region in planned(traits, collection) if kind == "blank"}
    for trait in traits:
        if trait.trait_id not in blank:
            continue
        x, y, width, height = blank[trait.trait_id]
        assert x == 0 or x + width == pytest.approx(WIDTH)
        assert y == 0 or y + height == pytest.approx(HEIGHT)
        assert width <= MAX_BLANK * WIDTH + 1e-9
        assert height <= MAX_BLANK * HEIGHT + 1e-9
        for a, b, c, d in found:
            assert min(x + width, a + c) <= max(x, a) or min(y + height, b + d) <= max(y, b)


def test_a_blank_box_takes_the_corner_farthest_from_the_regions_and_none_where_all_are_taken():
    collection = collection_of(["Gen a"])
    upper_left = [trait_of(0, 1, described(), region=box_region(5.0, 5.0, 20.0, 10.0))]
    assert [r.box for kind, _, r in planned(upper_left, collection) if kind == "blank"] == [(80.0, 70.0, 20.0, 10.0)]
    everywhere = [trait_of(0, 1, described(), region=box_region(0.0, 0.0, WIDTH, HEIGHT))]
    assert [kind for kind, _, _ in planned(everywhere, collection)] == ["same"]
