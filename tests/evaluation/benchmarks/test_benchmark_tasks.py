"""Every task on planted worlds: what is there is found, and without it the figures are chance."""

from dataclasses import replace

import numpy as np
import pytest
from labelled_worlds import class_name, make_inputs, row, see

from sae_traits.errors import CollectionError, ConfigError
from sae_traits.evaluation.benchmarks.captions import Captions
from sae_traits.evaluation.benchmarks.located import Located
from sae_traits.evaluation.benchmarks.tasks import TASKS
from sae_traits.evaluation.benchmarks.tasks.structure import trait_distances
from sae_traits.evaluation.prompts import unit_length

TRAITS = ["red spotted head", "blue striped legs", "green netted wings", "white banded thorax", "black hairy eyes",
          "long yellow horns"]  # fmt: skip


def binomials(inputs):
    return [f"{name.genus} {name.epithet}" for name in inputs.names]


def test_a_model_that_knows_the_names_is_right_and_one_that_does_not_is_told_apart():
    inputs = make_inputs(text_type="sci")
    task = TASKS["zero-shot"]
    known = task.run(inputs, see(inputs, binomials(inputs)))
    assert known.result.top1.mean > 0.95
    assert known.result.names_p_value < 0.01
    assert known.credit.mean() == pytest.approx(known.result.top1.mean)
    assert not task.notes(known.result)
    unknown = task.run(inputs, see(inputs, [f"meaning{n}" for n in range(6)])).result
    assert unknown.names_p_value > 0.05
    assert "do no better than names dealt" in task.notes(unknown)[0]
    assert "guessing gives 16.7 %" in task.sentence("toy", unknown)


def test_ranks_that_are_known_are_scored_and_the_coarser_ones_are_easier():
    inputs = make_inputs(n_classes=12, text_type="sci")
    of_genus = [name.genus for name in inputs.names]  # the model knows genera, and no species
    result = TASKS["zero-shot"].run(inputs, see(inputs, of_genus)).result
    by_rank = {rank.rank: rank for rank in result.ranks}
    assert list(by_rank) == ["species", "genus", "family"]
    assert by_rank["genus"].of_first_class.mean > 0.9
    assert by_rank["species"].of_first_class.mean < 0.6
    assert by_rank["species"].n_taxa == 12
    assert 0 < result.taxonomic_distance < 1


def test_classes_with_one_text_are_told_apart_by_chance_and_named():
    inputs = make_inputs(text_type="com")
    names = [replace(name, common_name="thing" if n < 2 else f"animal{n}") for n, name in enumerate(inputs.names)]
    inputs = replace(inputs, names=tuple(names))
    task = TASKS["zero-shot"]
    result = task.run(inputs, see(inputs, [name.common_name for name in names])).result
    assert result.same_texts == ("Groupe 0", "Groupe 1")
    assert [each.top1 for each in result.classes[:2]] == pytest.approx([0.5, 0.5])
    assert "told apart by chance: Groupe 0, Groupe 1" in task.notes(result)[0]


def test_a_text_that_lacks_a_rank_is_shorter_and_named_and_underscores_are_too():
    inputs = make_inputs(text_type="taxon_com")
    names = [replace(name, common_name=f"animal{n}") for n, name in enumerate(inputs.names)]
    names[1] = replace(names[1], genus=None, epithet=None)
    names[2] = replace(names[2], common_name=None)
    inputs = replace(inputs, names=tuple(names))
    task = TASKS["zero-shot"]
    result = task.run(inputs, see(inputs, TRAITS)).result
    assert result.short_texts == ("Groupe 1", "Groupe 2")
    assert result.classes[1].text == "Family0 with common name animal1"
    assert any("2 of 6 classes lack the binomial or common name" in note for note in task.notes(result))
    rows = tuple(replace(each, label=each.label.replace(" ", "_")) for each in inputs.rows)
    names = tuple(replace(name, label=name.label.replace(" ", "_")) for name in names)
    inputs = replace(inputs, rows=rows, names=names, text_type="asis")
    assert any("have underscores" in note for note in task.notes(task.run(inputs, see(inputs, TRAITS)).result))


def test_traits_help_where_images_show_them_and_images_that_they_were_written_of_are_left_out():
    inputs = make_inputs(text_type="asis", traits={f"Groupe {n}": (TRAITS[n],) for n in range(6)}, trait_source="t")
    inputs = replace(
        inputs, sha256=tuple(str(n) for n in range(48)), described=frozenset(str(n) for n in range(0, 48, 8))
    )
    task = TASKS["zero-shot"]
    result = task.run(inputs, see(inputs, TRAITS)).result
    assert result.n_described == 6
    assert result.traits.n_test == 42
    assert result.traits.dealt.p_value <= 0.05
    assert "own traits help more than traits dealt" in task.sentence("toy", result)
    with pytest.raises(CollectionError, match="every image is one that the traits of t were written of"):
        task.run(replace(inputs, described=frozenset(inputs.sha256)), see(inputs, TRAITS))


def test_few_shots_carry_far_in_separate_clusters_and_any_order_of_rows_gives_chance_without_them():
    inputs = make_inputs(n_images=10)
    result = TASKS["few-shot"].run(inputs, see(inputs, TRAITS, noise=0.3)).result
    assert [shots.accuracy.mean for shots in result.shots] == pytest.approx([1.0, 1.0])
    assert len(result.shots[0].folds) == 5
    nothing = TASKS["few-shot"].run(inputs, see(inputs, ["same"] * 6)).result
    assert 0.05 < nothing.shots[0].accuracy.mean < 0.35


def test_few_shots_of_individuals_with_several_photographs_are_told_to_know_nothing_of_the_class():
    inputs, task = make_inputs(n_images=20), TASKS["few-shot"]
    shown = np.arange(len(inputs.rows)) // 4  # four photographs of each individual
    generator = np.random.default_rng(0)
    images = generator.normal(size=(30, 64))[shown] + 0.1 * generator.normal(size=(len(shown), 64))
    model = replace(see(inputs, TRAITS), images=images.astype(np.float32))
    result = task.run(replace(inputs, units=shown), model).result
    assert result.shots[1].accuracy.individuals.low > 2 * result.chance  # though classes differ in nothing
    assert [shots.share_seen for shots in result.shots] == pytest.approx([3 / 19, 0.66], abs=0.1)
    assert "is among the labelled ones (15.8 % from 1" in task.notes(result)[0]
    assert not task.notes(task.run(inputs, model).result)
    split = replace(
        inputs, rows=tuple(replace(row, split=("train", "test")[n // 4 % 2]) for n, row in enumerate(inputs.rows))
    )
    assert not task.notes(task.run(replace(split, units=shown), model).result)


def test_few_shot_folders_of_train_and_test_are_matched_by_name():
    inputs = make_inputs(n_images=6, splits=("train", "test"), asked={"shots": (1,)})
    kept = [n for n, each in enumerate(inputs.rows) if not (each.label == "Groupe 2" and each.split == "test")]
    inputs = replace(inputs, rows=tuple(inputs.rows[n] for n in kept), units=np.arange(len(kept)))
    task = TASKS["few-shot"]
    result = task.run(inputs, see(inputs, TRAITS, noise=0.2)).result
    assert result.shots[0].accuracy.mean == 1.0  # by position, classes after the third would all be wrong
    assert result.only_train == ("Groupe 2",)
    assert result.n_images == 15
    assert "1 class has images in train and none in test (Groupe 2)" in task.notes(result)[0]


def test_as_published_the_folders_are_matched_by_place_and_perfect_features_are_wrong():
    inputs = make_inputs(n_images=6, splits=("train", "test"), asked={"shots": (1,), "protocol": "published"})
    kept = [n for n, each in enumerate(inputs.rows) if not (each.label == "Groupe 2" and each.split == "test")]
    inputs = replace(inputs, rows=tuple(inputs.rows[n] for n in kept), units=np.arange(len(kept)))
    result = TASKS["few-shot"].run(inputs, see(inputs, TRAITS, noise=0.2)).result
    assert result.shots[0].accuracy.mean == pytest.approx(2 / 5)  # the classes before the one that is missing
    assert "labels are matched by place, as published" in TASKS["few-shot"].notes(result)[0]


def test_as_published_equal_captions_compete_and_a_class_without_a_rank_has_no_text():
    inputs = make_inputs(n_images=2, text_type="com", asked={"protocol": "published"})
    texts = tuple(TRAITS[c] for c in inputs.truth)
    inputs = replace(inputs, captions=Captions(images=tuple(range(12)), texts=texts))
    result = TASKS["retrieval"].run(inputs, see(inputs, TRAITS, noise=0.1)).result
    assert result.direction("as written", "images").recall[1].mean == pytest.approx(0.5)
    twice = replace(inputs, captions=Captions(images=(0, 0, 1), texts=("a", "b", "c")))
    with pytest.raises(ConfigError, match="one caption per image"):
        TASKS["retrieval"].check(twice)
    with pytest.raises(CollectionError, match="'Groupe 0' has no text of the type com as published"):
        TASKS["zero-shot"].run(inputs, see(inputs, TRAITS))


def test_a_class_with_too_few_images_is_named():
    inputs = make_inputs(n_classes=2, n_images=5)
    inputs = replace(
        inputs, rows=(*inputs.rows, row(99, "Rare")), units=np.arange(11), names=(*inputs.names, class_name(2))
    )
    inputs = replace(inputs, names=(*inputs.names[:2], replace(class_name(2), label="Rare")))
    with pytest.raises(CollectionError, match=r"'Rare' has 1 image \(row 99\), and --shots 5 needs as many"):
        TASKS["few-shot"].check(inputs)
    with pytest.raises(CollectionError, match="all images have the label 'Groupe 0'"):
        TASKS["zero-shot"].check(make_inputs(n_classes=1))


def test_where_only_names_carry_signal_stripped_captions_are_at_chance_and_names_at_the_ceiling():
    inputs = make_inputs(n_classes=12, n_images=4)
    texts = [f"{binomials(inputs)[c]} seen thing{n}" for n, c in enumerate(inputs.truth)]
    inputs = replace(inputs, captions=Captions(images=tuple(range(48)), texts=tuple(texts)))
    result = TASKS["retrieval"].run(inputs, see(inputs, binomials(inputs), noise=0.1)).result
    assert result.n_named == 48
    alone = result.direction("the name alone", "images")
    assert alone.recall[1].mean == 1.0
    bare = result.direction("without the name", "images")
    assert bare.chance == pytest.approx(1 / 48)
    assert bare.recall[10].mean < 0.5
    written = result.direction("as written", "images")
    assert 0.1 < written.recall[1].mean < 0.6  # one of four of the species
    assert "48 of 48 captions have the name" in TASKS["retrieval"].notes(result)[0]


def test_captions_of_what_is_seen_are_found_and_equal_captions_count_for_each_other():
    inputs = make_inputs(n_images=2)
    texts = tuple(TRAITS[c] for c in inputs.truth)  # the same caption for both images of a class
    inputs = replace(inputs, captions=Captions(images=tuple(range(12)), texts=texts))
    result = TASKS["retrieval"].run(inputs, see(inputs, TRAITS, noise=0.1)).result
    for queries in ("images", "texts"):
        assert result.direction("as written", queries).recall[1].mean == 1.0
    with pytest.raises(ConfigError, match="retrieval needs --captions TABLE"):
        TASKS["retrieval"].check(make_inputs())


def test_structure_is_found_against_permuted_labels_and_follows_the_traits():
    said = ["red head", "red legs", "blue legs", "blue wings", "green wings", "green head"]
    inputs = make_inputs(traits={f"Groupe {n}": (text,) for n, text in enumerate(said)})
    result = TASKS["structure"].run(inputs, see(inputs, said)).result
    figure = result.figures["within_variance_in_span"]
    assert figure.value < figure.null_low
    assert set(result.figures) == {
        *("within_variance_in_span", "within_variance_in_span_given_genera"),
        *("trait_correlation", "trait_correlation_given_genera"),
    }
    assert result.figures["trait_correlation"].value > 0.7
    distances = trait_distances([("red head",), ("red head",), ("blue legs",)])
    assert distances[0, 1] == pytest.approx(0, abs=1e-9)
    assert distances[0, 2] == pytest.approx(1)


def test_shares_of_a_span_that_is_the_whole_space_are_said_to_mean_nothing():
    inputs = make_inputs(n_classes=12)
    model, task = see(inputs, binomials(inputs), noise=2), TASKS["structure"]
    assert not task.notes(task.run(inputs, model).result)
    narrow = task.run(inputs, replace(model, images=unit_length(model.images[:, :8].copy()))).result
    assert narrow.figures["within_variance_in_span"].value == pytest.approx(1)
    assert "more classes than embeddings have dimensions" in task.notes(narrow)[0]


def test_traits_that_are_all_equally_far_apart_are_left_out_and_said_so(caplog):
    inputs = make_inputs(traits={f"Groupe {n}": (TRAITS[n],) for n in range(6)})
    result = TASKS["structure"].run(inputs, see(inputs, TRAITS)).result
    assert "trait_correlation" not in result.figures
    assert "equally far from each other" in caplog.text


def test_variants_of_the_table_are_compared_where_a_class_has_both():
    inputs = make_inputs()
    rows = tuple(replace(each, variant=("male", "female")[n % 2]) for n, each in enumerate(inputs.rows))
    result = TASKS["structure"].run(replace(inputs, rows=rows), see(inputs, TRAITS)).result
    assert result.variants == ("female", "male")
    assert {"share_in_span", "fisher_ratio"} <= set(result.figures)
    assert result.figures["fisher_ratio"].p_value > 0.01  # dealt in turn, they differ in nothing


def test_photographs_of_one_individual_do_not_make_its_variant_differ():
    inputs = make_inputs(n_images=24)
    shown = np.arange(len(inputs.rows)) // 4  # four photographs of each individual
    rows = tuple(replace(one, variant=("male", "female")[n % 2]) for one, n in zip(inputs.rows, shown, strict=True))
    generator = np.random.default_rng(0)
    images = generator.normal(size=(6, 64))[inputs.truth] + generator.normal(size=(36, 64))[shown]
    model = see(inputs, TRAITS)
    model = replace(model, images=(images + 0.1 * generator.normal(size=images.shape)).astype(np.float32))
    p_values = [
        TASKS["structure"].run(replace(inputs, rows=rows, units=units), model).result.figures["fisher_ratio"].p_value
        for units in (shown, np.arange(len(rows)))
    ]
    assert p_values[0] > 0.05  # individuals were dealt to the variants in turn
    assert p_values[1] <= 0.01  # which it would not be if every photograph counted


def with_splits(inputs, *splits):
    """The same images, dealt in turn to splits."""
    rows = tuple(replace(each, split=splits[n % len(splits)]) for n, each in enumerate(inputs.rows))
    return replace(inputs, rows=rows)


@pytest.mark.parametrize("name", ["zero-shot", "few-shot", "clustering", "retrieval", "structure", "texts"])
def test_with_splits_only_images_of_test_are_scored(name):
    inputs = make_inputs(
        n_images=12,
        asked={"shots": (1,)},
        traits=None if name == "zero-shot" else {f"Groupe {n}": (TRAITS[n],) for n in range(6)},  # tuned on validation
        captions=Captions(images=tuple(range(72)), texts=tuple(f"{TRAITS[n // 12]} {n}" for n in range(72))),
    )
    inputs = with_splits(inputs, "train", *["validation"] * 4, "test")
    model, task = see(inputs, TRAITS), TASKS[name]
    task.check(inputs)
    result = task.run(inputs, model).result
    of_validation = np.array([row.split == "validation" for row in inputs.rows])
    of_another_class = np.roll(model.images, 12, axis=0)
    images = np.where(of_validation[:, None], of_another_class, model.images)
    other = task.run(inputs, replace(model, images=images)).result
    assert repr(other) == repr(result)
    if name != "texts":
        assert result.n_images == 12
    if name == "clustering":  # a class that is in validation alone is no cluster
        rows = [replace(row, split="validation") if row.label == inputs.names[0].label else row for row in inputs.rows]
        assert task.run(replace(inputs, rows=tuple(rows)), model).result.n_classes == len(inputs.names) - 1
    if name in ("retrieval", "structure", "texts"):  # which learn nothing of train
        alone = replace(inputs.of_scored(), config=inputs.config)
        assert task.run(alone, replace(model, images=model.images[inputs.scored()])).result == result


def test_with_splits_only_regions_of_images_of_test_are_scored():
    inputs = make_inputs(n_images=2, splits=("train", "test"), asked={"regions": "regions.csv"})
    inside = np.tile([0.0, 1.0], 6)
    located = Located(
        image=np.arange(12), inside=inside, inside_elsewhere=inside / 2, on_part=inside * np.nan,
        on_part_elsewhere=inside * np.nan,
    )  # fmt: skip
    result = TASKS["localisation"].run(replace(inputs, located=located), see(inputs, TRAITS)).result
    assert (result.n_regions, result.inside.value.mean) == (6, 1.0)


def test_the_sentence_of_clustering_is_silent_of_new_classes_where_there_are_none():
    inputs = with_splits(make_inputs(n_images=8), "train", "test")
    task = TASKS["clustering"]
    said = task.sentence("It", task.run(inputs, see(inputs, TRAITS)).result)
    assert "of old classes)" in said
    assert "nan" not in said


def test_the_chance_of_retrieval_as_published_is_that_of_a_single_right_row():
    inputs = make_inputs(n_images=2, captions=Captions(images=tuple(range(12)), texts=("the same",) * 12))
    for protocol, chance in (("corrected", 1.0), ("published", 1 / 12)):
        asked = replace(inputs, config=replace(inputs.config, protocol=protocol))
        result = TASKS["retrieval"].run(asked, see(asked, TRAITS)).result
        direction = result.direction("as written", "images")
        assert direction.chance == pytest.approx(chance)
        assert direction.recall[1].mean == pytest.approx(chance)  # equal texts tie


def test_the_seed_draws_other_labelled_images_with_splits_and_without():
    for splits in ((None,), ("train", "test")):
        inputs = make_inputs(n_images=12, splits=splits, asked={"shots": (1,)})
        model = see(inputs, TRAITS, noise=3)
        folds = [
            TASKS["few-shot"]
            .run(replace(inputs, config=replace(inputs.config, seed=seed)), model)
            .result.shots[0]
            .folds
            for seed in (0, 100)
        ]
        assert folds[0] != folds[1]


def test_classes_are_discovered_where_they_are_clusters():
    inputs = make_inputs(n_images=10)
    task = TASKS["clustering"]
    clear = task.run(inputs, see(inputs, TRAITS, noise=0.2)).result
    unclear = task.run(inputs, see(inputs, ["same"] * 6)).result
    assert clear.every.mean > 0.8 > unclear.every.mean
    assert clear.published >= clear.every.mean - 1e-9
    assert unclear.chance < 0.3


def test_planted_copies_are_found_and_nothing_else():
    generator = np.random.default_rng(0)
    hashes = [generator.bytes(32) for _ in range(48)]
    nearly = bytes([hashes[5][0] ^ 0b111, *hashes[5][1:]])
    against = (("other/a.png", nearly), ("other/b.png", generator.bytes(32)))
    inputs = make_inputs(hashes=tuple(hashes), against=against, asked={"against": "other"})
    result = TASKS["leaks"].run(inputs, see(inputs, TRAITS)).result
    assert result.n_leaked == 1
    assert (result.leaks[0].file, result.leaks[0].others) == ("5.png", ("other/a.png",))
    with pytest.raises(ConfigError, match="leaks needs --against"):
        TASKS["leaks"].check(make_inputs())
