"""NeWT, FishNet, AwA2 and the quality of texts on planted worlds; the tables they read."""

from dataclasses import replace

import numpy as np
import pytest
from labelled_worlds import make_inputs, see
from sklearn.metrics import f1_score

from sae_traits.errors import CollectionError, ConfigError
from sae_traits.evaluation.benchmarks.attribute_tables import Attributes, read_attributes
from sae_traits.evaluation.benchmarks.inputs import EmbeddedImages
from sae_traits.evaluation.benchmarks.labels import list_label_table
from sae_traits.evaluation.benchmarks.report import render_benchmark_report
from sae_traits.evaluation.benchmarks.results import BenchmarkResults, ModelScores
from sae_traits.evaluation.benchmarks.tasks import TASKS
from sae_traits.evaluation.benchmarks.tasks.attributes import macro_f1
from sae_traits.evaluation.benchmarks.trait_texts import read_references, region_columns
from sae_traits.evaluation.prompts import unit_length

TRAITS = ["red spotted head", "blue striped legs", "green netted wings", "white banded thorax", "black hairy eyes",
          "yellow long horns"]  # fmt: skip


def permuted(inputs, model, seed=1):
    """The same images in another order."""
    order = np.random.default_rng(seed).permutation(len(inputs.rows))
    attributes = inputs.attributes and Attributes(
        names=inputs.attributes.names, present=inputs.attributes.present[order]
    )
    rows = tuple(inputs.rows[n] for n in order)
    moved = replace(inputs, rows=rows, units=inputs.units[order], attributes=attributes)
    return moved, replace(model, images=model.images[order])


def constant(inputs):
    return EmbeddedImages(name="constant", images=unit_length(np.ones((len(inputs.rows), 8), np.float32)))


def report_of(task, inputs, result):
    return render_benchmark_report(
        BenchmarkResults(
            toolkit_version="0", task=task, images="toy", n_images=len(inputs.rows), n_classes=len(inputs.names),
            n_units=len(inputs.rows), benchmark=None, settings={}, differences=(), notes=(),
            models=(ModelScores(name="toy", model={}, scores=result),),
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def questions():
    """Three questions of two labels each, half of the images for training."""
    inputs = make_inputs(n_classes=6, n_images=12, splits=("train", "test"))
    rows = tuple(replace(row, question=f"question {place // 24}") for place, row in enumerate(inputs.rows))
    return replace(inputs, rows=rows)


def test_questions_that_the_embeddings_answer_are_answered_and_others_are_chance(questions):
    task = TASKS["newt"]
    known = task.run(questions, see(questions, TRAITS, noise=0.1)).result
    assert known.accuracy.mean == 1.0
    assert [(each.name, each.n_train, each.n_test, each.chance) for each in known.questions] == [
        (f"question {n}", 12, 12, 0.5) for n in range(3)
    ]
    assert known.accuracy.classes.n_groups == 3
    assert task.run(questions, constant(questions)).result.accuracy.mean == known.chance == 0.5
    assert "not comparable with published scores" in task.notes(known)[0]
    assert not task.notes(replace(known, svm="published"))
    assert "| question 2 | 12 | 12 | 1.000 | 0.500 |" in report_of("newt", questions, known)


def test_answers_do_not_depend_on_the_order_of_images(questions):
    task, model = TASKS["newt"], see(questions, TRAITS, noise=3)
    here, there = (task.run(*each).result for each in ((questions, model), permuted(questions, model)))
    assert here.accuracy.mean == pytest.approx(there.accuracy.mean)
    assert here.questions == there.questions
    assert 0.5 < here.accuracy.mean < 1


def test_a_question_that_cannot_be_learnt_is_named(questions):
    one_label = replace(questions, rows=tuple(row for row in questions.rows if row.label != "Groupe 1"))
    with pytest.raises(CollectionError, match="'question 0' has 1 labels in train"):
        TASKS["newt"].check(one_label)
    with pytest.raises(CollectionError, match=r"the column `task`.*row 0 says none"):
        TASKS["newt"].check(make_inputs(splits=("train", "test")))
    TASKS["newt"].check(questions)


def test_the_column_task_of_a_table_is_the_question(tmp_path):
    (tmp_path / "newt.csv").write_text("id,task,label,split\na.jpg,has_red_eyes,1,train\nb.jpg,has_red_eyes,0,test\n")
    rows = list_label_table(tmp_path / "newt.csv").rows
    assert [(row.question, row.label, row.split) for row in rows] == [
        ("has_red_eyes", "1", "train"), ("has_red_eyes", "0", "test")
    ]  # fmt: skip


@pytest.fixture(scope="module")
def attributes():
    """Six classes with four attributes each, of which one nearly all have."""
    inputs = make_inputs(n_classes=6, n_images=40, splits=("train", "test"))
    of_class = np.array([[1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 1, 1]], np.int8)
    return replace(inputs, attributes=Attributes(names=("a", "b", "c", "d"), present=of_class[inputs.truth]))


def test_attributes_that_the_embeddings_hold_are_all_right_and_a_constant_model_is_chance(attributes):
    task = TASKS["fishnet"]
    model = see(attributes, TRAITS, noise=0.05)
    known = task.run(attributes, model).result
    assert known.all_right.mean == known.macro_f1.mean == 1.0
    assert known.all_right_chance < 0.2
    blind = task.run(attributes, constant(attributes)).result
    assert blind.all_right.mean < 0.4
    assert blind.macro_f1.mean < 0.8
    assert "all right" in next(iter(task.figures(known)))
    assert "macro F1" in next(iter(TASKS["awa2"].figures(replace(known, task="awa2"))))
    assert "| all attributes of an image right | 1.000 [1.000, 1.000] |" in report_of("fishnet", attributes, known)
    assert "| a | 1.000 |" in report_of("awa2", attributes, replace(known, task="awa2"))


def test_attributes_without_splits_or_without_a_table_are_refused(attributes):
    with pytest.raises(ConfigError, match="fishnet needs --attributes"):
        TASKS["fishnet"].check(replace(attributes, attributes=None))
    with pytest.raises(CollectionError, match="awa2 needs the splits train and test"):
        TASKS["awa2"].check(replace(make_inputs(), attributes=attributes.attributes))


@pytest.mark.parametrize("protocol", ["corrected", "published"])
def test_the_macro_f1_is_that_of_the_measure_and_does_not_depend_on_the_order_of_images(protocol):
    generator = np.random.default_rng(0)
    present = (generator.random((60, 5)) < 0.4).astype(np.int8)
    logits = generator.normal(size=(60, 5)) + present
    said = logits > (0.5 if protocol == "published" else 0)
    groups = np.arange(60) // 3
    found = macro_f1(said[None], present, groups, protocol=protocol)
    scored = np.unique(present) if protocol == "published" else None
    assert found.mean == pytest.approx(f1_score(present, said, average="macro", labels=scored))
    assert found.low < found.mean < found.high
    order = generator.permutation(60)
    assert macro_f1(said[None][:, order], present[order], groups[order], protocol=protocol) == found


def test_perfect_attributes_have_an_f1_of_1_also_where_one_never_occurs():
    present = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]], np.int8)
    assert macro_f1(present[None] > 0, present, np.arange(3)).mean == 1.0
    assert macro_f1(present[None] > 0, present, np.zeros(3, int)).n_groups == 1


def test_attributes_are_read_by_file_or_by_label_and_an_image_without_any_is_named(tmp_path, caplog):
    rows = make_inputs(n_classes=2, n_images=2).rows
    table = tmp_path / "of_files.csv"
    table.write_text("file,family,marine,tropical\n" + "".join(f"x/{n}.png,F,{n % 2},1.0\n" for n in range(4)))
    found = read_attributes(table, rows)
    assert found.names == ("marine", "tropical")
    assert "columns of of_files.csv that do not have 0 or 1 in every row are no attributes: family" in caplog.text
    assert found.present.tolist() == [[0, 1], [1, 1], [0, 1], [1, 1]]
    table = tmp_path / "of_labels.csv"
    table.write_text("label,black\ngroupe 0,1\nGroupe 1,0\n")
    assert read_attributes(table, rows).present.tolist() == [[1], [1], [0], [0]]
    table.write_text("label,black\nGroupe 0,1\n")
    with pytest.raises(ConfigError, match=r"has no row of .*roupe 1.* \(row 2\)"):
        read_attributes(table, rows)
    table.write_text("label,black\nGroupe 0,yes\n")
    with pytest.raises(ConfigError, match="no column of 0 and 1"):
        read_attributes(table, rows)


def texts_of(traits, **options):
    return make_inputs(traits={f"Groupe {n}": (trait,) for n, trait in enumerate(traits)}, trait_source="t", **options)


def test_texts_that_say_what_images_show_are_found_among_congeners_and_equal_ones_are_chance():
    inputs, task = texts_of(TRAITS), TASKS["texts"]
    task.check(inputs)
    known = task.run(inputs, see(inputs, TRAITS)).result
    assert known.specific.mean == 1.0
    assert known.chance == pytest.approx(1 / 3)
    assert not task.notes(known)
    same = texts_of(["some thing"] * 6)
    blind = task.run(same, see(same, ["some thing"] * 6, noise=0)).result
    assert blind.specific.mean == pytest.approx(1 / 3)
    assert "no better than chance" in task.notes(blind)[0]
    assert "| specific | 1.000 [1.000, 1.000] | 0.333 |" in report_of("texts", inputs, known)


def test_a_text_is_not_found_by_the_name_in_it():
    inputs = texts_of([f"Genus{'ab'[n // 3]} species{'abcdef'[n]} thing" for n in range(6)])
    names = [f"{name.genus} {name.epithet}" for name in inputs.names]
    result = TASKS["texts"].run(inputs, see(inputs, names)).result
    assert result.specific.mean == pytest.approx(1 / 3)  # every text is the same without its names


def test_the_quality_of_texts_does_not_depend_on_the_order_of_images():
    inputs = texts_of(TRAITS)
    model = see(inputs, TRAITS[::-1], noise=3)
    here, there = (TASKS["texts"].run(*each).result for each in ((inputs, model), permuted(inputs, model)))
    assert here.specific.mean == pytest.approx(there.specific.mean)


def test_references_are_covered_by_their_own_texts_more_than_by_those_dealt_to_them():
    inputs = texts_of(TRAITS)
    references = {name.label: f"A large animal with {trait}." for name, trait in zip(inputs.names, TRAITS, strict=True)}
    inputs = replace(inputs, references=references)
    references = TASKS["texts"].run(inputs, see(inputs, TRAITS)).result.references
    assert references.coverage.mean > references.coverage_dealt
    assert references.contradiction.mean == 0 < references.contradiction_dealt
    assert references.n_species == 6


def test_two_describers_are_compared_on_the_regions_that_both_described():
    said = {"r1": "red head", "r2": "blue wing", "r3": "green leg", "only here": "black"}
    other = {"r1": "red eye", "r2": "blue tail", "r3": "green", "only there": "white"}
    inputs = replace(texts_of(TRAITS), regions=(said, other))
    result = TASKS["texts"].run(inputs, see(inputs, TRAITS)).result
    assert result.n_regions == 3
    assert result.agreement["colour"] == 1.0
    assert "agreement of the two describers on colour (3 regions) | 1.000 | 0 |" in report_of("texts", inputs, result)
    with pytest.raises(ConfigError, match="no `trait_id` in common"):
        TASKS["texts"].check(replace(inputs, regions=({"a": "x"}, {"b": "y"})))
    with pytest.raises(ConfigError, match="no column `trait_id`"):
        region_columns(["species", "text"], "t")


def test_texts_without_congeners_or_without_traits_are_refused():
    with pytest.raises(CollectionError, match="no genus has two classes"):
        TASKS["texts"].check(texts_of(TRAITS[:1], n_classes=1))
    with pytest.raises(ConfigError, match="texts needs --traits"):
        TASKS["texts"].check(make_inputs())


def test_references_are_read_by_species_or_label(tmp_path):
    names = make_inputs(n_classes=3).names
    table = tmp_path / "references.csv"
    table.write_text("category,species,description\n1,Genusa speciesa,red\n2,groupe 1,blue\n3,Other one,green\n")
    assert read_references(table, names) == {"Groupe 0": "red", "Groupe 1": "blue"}
    table.write_text("species,description\nOther one,green\n")
    with pytest.raises(ConfigError, match="is about a class at hand"):
        read_references(table, names)
