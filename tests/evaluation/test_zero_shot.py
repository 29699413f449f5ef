import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter
from toy_world import WIDTH, BagOfWords, Constant, Untrained, make_record, make_trait, make_world, species_name

from sae_traits.config.zero_shot import ZeroShotConfig
from sae_traits.errors import CollectionError, ConfigError
from sae_traits.evaluation.figures import draw_bars
from sae_traits.evaluation.tasks.zero_shot import evaluate_collection
from sae_traits.evaluation.zero_shot import TRAIT_COUNTS, WEIGHTS, evaluate_zero_shot
from sae_traits.evaluation.zero_shot_results import (
    FILLER,
    NAME_AND_TRAITS,
    NAME_ONLY,
    SHUFFLED,
    TRAITS_ONLY,
    ZeroShotResult,
)
from sae_traits.schema import Collection

CONDITIONS = [NAME_ONLY, NAME_AND_TRAITS, TRAITS_ONLY, SHUFFLED, FILLER]


def evaluate(world, encoder=None, *, seed=0, rows=None, **options):
    collection, images, traits = world
    rows = range(len(collection.images)) if rows is None else rows
    config = ZeroShotConfig(clip="some/clip", **options)
    return evaluate_collection(encoder or BagOfWords(), images, rows, collection, traits, config, seed)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("trait_text", ["prompts", "joined"])
def test_traits_that_describe_a_species_of_unknown_name_help_and_the_controls_do_not(seed, trait_text):
    results = evaluate(make_world(seed), seed=seed, trait_text=trait_text)
    assert [score.name for score in results.conditions] == CONDITIONS
    chance = 1 / 20
    assert abs(results.condition(NAME_ONLY).top[1].mean - chance) < 0.06
    gain = results.comparison(NAME_AND_TRAITS)
    assert gain.difference.low > 0.3
    assert gain.over_species.low > 0.3
    assert gain.holm_p_value < 1e-6
    assert results.dealt.p_value == 1 / 40
    assert results.dealt.over_species.low > 0.3
    assert results.condition(TRAITS_ONLY).top[1].low > 0.4
    for control in (SHUFFLED, FILLER):
        assert results.comparison(control).over_species.low <= 0.02
        assert results.comparison(control).difference.mean < 0.08
    assert results.above_chance
    assert any("names alone are indistinguishable from chance" in note for note in results.notes)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("names_known", [False, True])
def test_there_is_no_gain_in_a_world_where_traits_are_dealt_at_random(seed, names_known):
    results = evaluate(make_world(seed, true_traits=False, names_known=names_known), seed=seed)
    assert results.dealt.over_species.low <= 0
    assert results.dealt.p_value > 0.05
    assert results.comparison(NAME_AND_TRAITS).over_species.low <= 0
    assert results.above_chance == names_known


@pytest.mark.slow
def test_random_deals_are_not_fooled_by_species_that_look_alike_and_the_choice_on_validation():
    """Tight species and traits that mean nothing: McNemar's test takes luck for a gain, the random deals do not."""
    splits = {"train": 1, "validation": 4, "test": 6}
    nulls = [
        evaluate(make_world(seed, true_traits=False, noise=0.2, n_species=12, splits=splits), seed=seed)
        for seed in range(12)
    ]
    assert sum(results.comparison(NAME_AND_TRAITS).mcnemar.p_value <= 0.05 for results in nulls) >= 2
    assert sum(results.dealt.p_value <= 0.05 for results in nulls) <= 2
    assert sum(results.dealt.over_species.low > 0 for results in nulls) <= 1
    assert np.mean([results.dealt.over_species.mean for results in nulls]) == pytest.approx(0, abs=0.04)


def test_traits_help_names_that_are_known_too():
    results = evaluate(make_world(0, names_known=True))
    assert results.condition(NAME_ONLY).top[1].low > 0.1
    assert results.comparison(NAME_AND_TRAITS).difference.low > 0.1
    assert not results.notes


def test_embeddings_that_are_all_alike_are_right_by_chance_not_by_order():
    world = make_world(0, splits={"train": 1, "validation": 2, "test": 40})
    results = evaluate(world, Constant())
    for score in results.conditions:
        assert score.top[1].mean == pytest.approx(1 / 20, abs=0.03)
        assert score.top[5].mean == pytest.approx(5 / 20, abs=0.06)
        assert score.macro[1] == pytest.approx(score.top[1].mean)  # the same number of images each
    for comparison in results.comparisons:
        assert comparison.difference.mean == 0  # a tie is broken alike in every condition
        assert comparison.mcnemar.p_value == 1
    assert results.names_p_value == results.dealt.p_value == 1
    assert "The comparison means nothing" in results.notes[0]


def test_an_untrained_model_is_called_one():
    flagged = 0
    for seed in range(5):
        results = evaluate(make_world(seed, noise=0.2, n_species=12), Untrained(), seed=seed)
        flagged += "means nothing" in " ".join(results.notes)
    assert flagged >= 4  # each is let through with a probability of 0.05


def test_nothing_but_training_traits_and_validation_choices_enters_the_texts():
    collection, images, traits = make_world(0)
    results = evaluate((collection, images, traits))
    leaks = [
        make_trait(row, f"leaked word{row}", effect=100)
        for row, record in enumerate(collection.images)
        if record.split != "train"
        for _ in range(5)
    ]
    assert evaluate((collection, images, traits + leaks)) == results
    # Other test images change the scores, but none of the choices.
    test = np.array([record.split == "test" for record in collection.images])
    other = images.copy()
    other[test] = np.random.default_rng(0).permutation(other[test])
    changed = evaluate((collection, other, traits))
    assert changed.condition(NAME_AND_TRAITS).top != results.condition(NAME_AND_TRAITS).top
    for condition in CONDITIONS:
        before, after = results.condition(condition), changed.condition(condition)
        assert (before.weight, before.n_traits, before.validation_top1) == (
            after.weight,
            after.n_traits,
            after.validation_top1,
        )


def test_weight_and_number_of_traits_are_the_best_on_validation():
    world = make_world(1, names_known=True)
    chosen = evaluate(world).condition(NAME_AND_TRAITS)
    assert chosen.weight in WEIGHTS
    assert chosen.n_traits in TRAIT_COUNTS
    # Scoring the validation images as if they were the test images finds the same accuracy.
    collection, images, traits = world
    swapped = tuple(
        dataclasses.replace(record, split={"validation": "test", "test": "validation"}.get(record.split, "train"))
        for record in collection.images
    )
    other = evaluate((Collection(collection.root, swapped), images, traits))
    assert chosen.validation_top1 is not None
    assert chosen.validation_top1 >= other.condition(NAME_AND_TRAITS).top1.mean


def test_without_validation_nothing_is_tuned_and_it_says_so():
    results = evaluate(make_world(0, splits={"train": 2, "test": 10}))
    score = results.condition(NAME_AND_TRAITS)
    assert (score.weight, score.n_traits, score.validation_top1) == (0.5, 5, None)
    assert any("no validation image" in note for note in results.notes)
    assert (results.n_validation, results.n_test) == (0, 200)


def test_only_validation_and_test_images_are_needed():
    collection, images, traits = make_world(0, n_species=6)
    rows = np.array([row for row, record in enumerate(collection.images) if record.split != "train"])
    results = evaluate((collection, images, traits))
    some = evaluate((collection, images[rows], traits), rows=rows)
    assert some.conditions == results.conditions
    assert some.comparisons == results.comparisons


def test_a_class_without_traits_keeps_its_name_and_is_counted():
    collection, images, traits = make_world(0, names_known=True)
    bare = species_name(3)
    traits = [trait for trait in traits if collection.images[trait.candidate.image].species != bare]
    results = evaluate((collection, images, traits))
    assert results.without_traits == (bare,)
    assert {score.n_with_traits for score in results.conditions if score.name != NAME_ONLY} == {19}
    assert any("1 of 20 species without a trait" in note and bare in note for note in results.notes)


def test_one_species_with_traits_has_nobody_to_swap_with():
    collection, images, traits = make_world(0)
    traits = [t for t in traits if collection.images[t.candidate.image].species == species_name(0)]
    results = evaluate((collection, images, traits))
    assert SHUFFLED not in [score.name for score in results.conditions]
    assert any("Only one species has traits" in note for note in results.notes)


def test_traits_that_do_not_fit_are_counted_a_class():
    # Start, end, `a photo of Genusa speciesa,` and three words of a trait: eleven tokens less one.
    results = evaluate(make_world(0), BagOfWords(context_length=12), trait_text="joined")
    score = results.condition(NAME_AND_TRAITS)
    assert score.n_traits is not None
    expected = min(score.n_traits, 3) - 1
    assert score.left_out == ({species_name(number): expected for number in range(20)} if expected else {})
    unread = evaluate(make_world(0), BagOfWords(context_length=9))
    assert unread.condition(NAME_AND_TRAITS).n_with_traits == 0
    assert unread.comparison(NAME_AND_TRAITS).difference.mean == 0
    assert sum(unread.condition(NAME_AND_TRAITS).left_out.values()) == 20


def test_names_that_are_cut_are_counted_and_an_error_when_all_are():
    world = make_world(0)
    collection, images, traits = world
    long = dataclasses.replace(
        collection.images[0].taxon, kingdom="very", phylum="long", class_="lineage", family="that does not fit"
    )
    records = tuple(
        dataclasses.replace(record, taxon=long) if record.species == species_name(0) else record
        for record in collection.images
    )
    results = evaluate(
        (Collection(collection.root, records), images, traits), BagOfWords(context_length=12), text_type="taxon"
    )
    assert results.names_cut == (species_name(0),)
    assert any("name is cut" in note for note in results.notes)
    with pytest.raises(ConfigError, match=r"no class name fits into the 5 tokens.*--text-type"):
        evaluate(world, BagOfWords(context_length=5))


def test_common_names_that_are_shared_or_missing_are_said(tmp_path):
    file = tmp_path / "names.csv"
    names = "".join(f"{species_name(number)},beetle\n" for number in range(2))
    file.write_text(f"species,common_name\n{names}", encoding="utf-8")
    results = evaluate(make_world(0), text_type="com", common_names=str(file))
    assert results.same_names == (species_name(0), species_name(1))
    assert len(results.without_common_name) == 18
    assert results.condition(NAME_ONLY).example == "a photo of beetle."


def test_what_cannot_be_evaluated_is_an_error_that_says_what_to_do():
    collection, images, traits = world = make_world(0)
    with pytest.raises(CollectionError, match=r"no image is in the split `test`.*--test-share"):
        evaluate(make_world(0, splits={"train": 2, "validation": 2}))
    with pytest.raises(CollectionError, match="no training image has a trait"):
        evaluate((collection, images, []))
    with pytest.raises(CollectionError, match="at least two"):
        evaluate(make_world(0, n_species=1))
    with pytest.raises(ConfigError, match=f"{WIDTH} dimensions, image embeddings 5"):
        evaluate((collection, images[:, :5], traits))
    with pytest.raises(ConfigError, match=r"must be \[540, embed_dim\]"):
        evaluate((collection, images[:7], traits))
    with pytest.raises(CollectionError, match="'Ours' is a label of images, but not among the names"):
        evaluate_zero_shot(BagOfWords(), images[:1], ["Ours"], ["test"], {"A": ["b"]}, names={"A": "a", "B": "b"})
    broken = images.copy()
    broken[3] = np.nan
    with pytest.raises(ConfigError, match="1 of 540 image embeddings are zero or not finite"):
        evaluate((world[0], broken, traits))


def test_every_class_gets_the_traits_of_another_one():
    """Species whose one trait is its number: the shuffled example must show another number."""
    records, images, traits = [], [], []
    for number in range(6):
        for split in ("train", "validation", "test", "test"):
            traits.append(make_trait(len(records), f"Number{number}."))
            records.append(make_record(len(records), species_name(number), split))
            images.append(np.random.default_rng(len(images)).normal(size=WIDTH))
    for seed in range(5):
        world = Collection(make_world(0)[0].root, tuple(records)), np.array(images, dtype=np.float32), traits
        example = evaluate(world, seed=seed).condition(SHUFFLED).example
        assert example.startswith(f"a photo of {species_name(0)}, number")
        assert not example.endswith("number0.")


def test_the_same_seed_gives_the_same_results_and_another_one_does_not():
    world = make_world(0, n_species=6)
    assert evaluate(world, seed=3) == evaluate(world, seed=3)
    assert evaluate(world, seed=3) != evaluate(world, seed=4)


def test_results_can_be_written_as_json_with_the_whole_protocol():
    results = evaluate(make_world(0), templates="none", trait_text="joined")
    adapter = TypeAdapter(ZeroShotResult)
    text = adapter.dump_json(results)
    values = json.loads(text)
    assert set(values["settings"]) >= {
        "clip", "text_type", "templates", "trait_text", "weights", "trait_counts", "context_length", "ties",
        "n_resamples", "n_permutations", "n_deals", "seed",
    }  # fmt: skip
    assert set(values) >= {"n_classes", "n_test", "n_test_individuals", "n_validation", "chance", "above_chance"}
    assert values["conditions"][1]["top"]["1"]["mean"] == results.condition(NAME_AND_TRAITS).top1.mean
    assert values["notes"] == list(results.notes)
    assert adapter.dump_json(adapter.validate_json(text)) == text


def test_arrays_and_plain_lists_are_enough():
    collection, images, _ = make_world(0, names_known=True, n_species=6)
    labels = [record.species for record in collection.images]
    told = {name: [name.split()[0]] for name in set(labels)}
    results = evaluate_zero_shot(BagOfWords(), 3 * images, labels, [r.split for r in collection.images], told)
    assert results.condition(NAME_ONLY).top1.low > 1 / 6
    assert results.condition(NAME_ONLY).example == f"a photo of {species_name(0)}."
    assert results.n_test_individuals == results.n_test == 90
    assert results.clip == ""


def test_the_figure_shows_bars_and_needs_no_window(tmp_path):
    path = tmp_path / "figures" / "zero_shot.png"
    draw_bars(evaluate(make_world(0)), path)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    blue, orange = (pixels == (0, 114, 178)).all(axis=1).sum(), (pixels == (213, 94, 0)).all(axis=1).sum()
    assert orange > 3 * blue > 0  # the bars of name + traits, and of name only
    code = "import sys, sae_traits.evaluation.figures; assert not {'matplotlib', 'torch', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
