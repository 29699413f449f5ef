"""results.json, its schema, the report and the published benchmarks."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub.repocard_data import model_index_to_eval_results
from labelled_worlds import make_inputs, see
from PIL import Image
from safetensors.torch import save_file

from sae_traits.config.benchmark import BENCHMARK_TASKS, BenchmarkTaskName
from sae_traits.errors import ConfigError
from sae_traits.evaluation.benchmarks import results as module
from sae_traits.evaluation.benchmarks.definition import lines_of, list_benchmarks, read_benchmark
from sae_traits.evaluation.benchmarks.embeddings import read_embeddings, write_embeddings
from sae_traits.evaluation.benchmarks.inputs import Score
from sae_traits.evaluation.benchmarks.model_figure import draw_models
from sae_traits.evaluation.benchmarks.report import write_benchmark_report
from sae_traits.evaluation.benchmarks.results import (
    BenchmarkResults,
    Difference,
    ModelScores,
    show_p,
)
from sae_traits.evaluation.benchmarks.tasks import TASKS
from sae_traits.evaluation.statistics import Interval
from sae_traits.evaluation.text import read_templates


def make_results(benchmark=None, notes=(), names=("imageomics/bioclip",), differences=()):
    inputs = make_inputs(text_type="sci")
    texts = [f"{name.genus} {name.epithet}" for name in inputs.names]
    scores = TASKS["zero-shot"].run(inputs, see(inputs, texts, noise=2)).result
    return BenchmarkResults(
        toolkit_version="0",
        task="zero-shot",
        images="photographs",
        n_images=48,
        n_classes=6,
        n_units=48,
        benchmark=benchmark,
        settings={"text_type": "sci", "taxa": None, "shots": [1, 5]},
        models=tuple(ModelScores(name=name, model={"head": "taxonomy"}, scores=scores) for name in names),
        differences=differences,
        notes=notes,
    )


def test_results_are_written_and_read_back_and_say_so_of_other_versions(tmp_path):
    results = make_results(notes=("labels are <b>odd</b>",))
    write_benchmark_report(tmp_path, results)
    assert BenchmarkResults.from_json((tmp_path / "results.json").read_text()).to_json() == results.to_json()
    report = (tmp_path / "report.md").read_text()
    assert report.startswith("# Zero-shot classification: photographs\n\nimageomics/bioclip recognises")
    assert "<b>" not in report
    with pytest.raises(ValueError, match="its schema_version is 99, not 1"):
        BenchmarkResults.from_json('{"schema_version": 99}')


def test_the_shipped_schema_is_that_of_the_results():
    file = Path(module.__file__).with_name(module.SCHEMA_FILE)
    anew = "write it anew: docs/architecture.md has the command below *Adding a benchmark task*"
    assert json.loads(file.read_text("utf-8")) == module.json_schema(), anew


def test_every_task_is_one_of_the_names_and_help_says_what_it_asks():
    assert [*TASKS] == [*BENCHMARK_TASKS] == [*get_args(BenchmarkTaskName)]


def test_what_is_written_has_the_fields_that_the_schema_requires():
    schema, values = module.json_schema(), json.loads(make_results().to_json())
    assert set(values) == set(schema["properties"])
    assert set(schema["required"]) <= set(values)
    scores = values["models"][0]["scores"]
    assert set(scores) == set(schema["$defs"]["ZeroShotScores"]["properties"])


def test_a_figure_that_there_is_none_of_is_null_and_comes_back():
    inputs = make_inputs(n_images=6, splits=("train", "test"))
    scores = TASKS["clustering"].run(inputs, see(inputs, ["red", "blue", "green", "black", "white", "grey"])).result
    assert math.isnan(scores.new)  # every class of test is one of train
    results = replace(make_results(), task="clustering", models=(ModelScores(name="m", model={}, scores=scores),))
    values = json.loads(results.to_json())
    assert values["models"][0]["scores"]["new"] is None
    assert BenchmarkResults.from_json(results.to_json()).to_json() == results.to_json()
    properties = module.json_schema()["$defs"]["ClusteringScores"]["properties"]
    assert properties["new"]["type"] == ["number", "null"]


def test_the_answer_compares_with_the_published_score_of_the_same_checkpoint():
    insects = read_benchmark("meta_album_insects")
    known = make_results(insects).answer[1]
    assert known.startswith("Published for it is 34.9 %")
    assert "outside of the interval" in known or "within the interval" in known
    other = make_results(insects, names=("mine",)).answer[1]
    assert (
        "7.4 % (CLIP ViT-B/16) to 56.2 % (BioCLIP 2 + traits) are published, none of them for this checkpoint" in other
    )


def test_of_several_models_the_best_is_named_first_with_its_lead():
    interval = Interval(0.02, -0.01, 0.05, 6)
    results = make_results(
        names=("a", "b"), differences=(Difference(name="b", individuals=interval, classes=interval),)
    )
    assert "b is next, with a difference of +2.0 points [-1.0, +5.0]" in results.answer[1]
    assert any(line.startswith("  b minus a: +2.0 points") for line in results.lines())


def test_the_gravest_note_is_part_of_the_answer():
    assert make_results(notes=("one thing", "another")).answer[2] == (
        "Before you believe it: one thing (1 more note below)."
    )


def test_a_note_is_of_its_model_unless_it_holds_for_all_and_that_of_the_best_is_part_of_the_answer():
    results = make_results(notes=("of the images",), names=("a", "b"))
    first, second = (replace(model, notes=("of all", f"of {model.name}")) for model in results.models)
    results = replace(results, models=(first, second))
    assert results.all_notes == ["of the images", "of all", "a: of a", "b: of b"]
    assert results.answer[2] == "Before you believe it: of all (3 more notes below)."
    assert results.answer[1].startswith("Of the other models, top-1 is b 0.")


def test_where_it_is_asked_whether_traits_help_the_model_that_they_serve_best_comes_first():
    said = ["red head", "blue legs", "green wings", "white thorax", "black eyes", "yellow horns"]
    inputs = make_inputs(traits={f"Groupe {n}": (text,) for n, text in enumerate(said)}, trait_source="t")
    served = TASKS["zero-shot"].run(inputs, see(inputs, said)).result
    low = Interval(0.1, 0.0, 0.2, 48)
    conditions = tuple(replace(each, top=each.top | {1: low}) for each in served.traits.conditions)
    known = replace(
        served,
        top=dict.fromkeys(served.top, Score(individuals=Interval(1, 1, 1, 48), classes=Interval(1, 1, 1, 6))),
        traits=replace(served.traits, conditions=conditions),
    )
    models = tuple(ModelScores(name=name, model={}, scores=each) for name, each in (("a", known), ("b", served)))
    results = replace(make_results(), models=models)
    assert results.answer[0].startswith("b recognises")
    assert results.answer[1] == "Of the other models, name + traits is a 0.100 [0.000, 0.200]."


def test_what_is_said_is_whole_in_the_report_and_no_p_value_is_zero(tmp_path):
    long = "word " * 100 + "end"
    write_benchmark_report(tmp_path, make_results(notes=(long,), benchmark=read_benchmark("meta_album_insects")))
    report = (tmp_path / "report.md").read_text()
    assert f"- {long}\n" in report
    assert "joins traits and ranks. 40 images per class." in report  # the end of the benchmark's protocol
    assert [show_p(value) for value in (0.0, 0.00049, 0.025)] == ["< 0.001", "< 0.001", "0.025"]


def test_every_published_benchmark_says_how_it_is_scored_and_by_whom():
    benchmarks = list_benchmarks()
    assert {benchmark.name for benchmark in benchmarks} == {
        *("meta_album_insects", "meta_album_insects_2", "meta_album_plankton", "meta_album_plantnet"),
        *("meta_album_fungi", "meta_album_plantvillage", "meta_album_medicinal_leaf", "nabirds"),
        *("camera_traps", "rare_species", "plantdoc"),
        *("newt", "fishnet", "awa2", "herbarium19"),
    }
    for benchmark in benchmarks:
        assert benchmark.published, benchmark.name
        assert all(0 < score.score < 100 and score.source and score.version for score in benchmark.published)
        stated = (benchmark.title, benchmark.layout, benchmark.split, benchmark.metric, benchmark.protocol)
        assert all(stated), benchmark.name
        assert benchmark.licence
        if benchmark.task == "zero-shot":
            assert benchmark.text_type, benchmark.name
            assert benchmark.templates, benchmark.name
            assert benchmark.n_images or benchmark.n_classes, benchmark.name
        assert bool(benchmark.shots) == (benchmark.task == "few-shot"), benchmark.name
        models = [score.model for score in benchmark.published]
        assert len(set(models)) == len(models), benchmark.name  # another protocol's figure says so in its name
    sizes = {benchmark.name: (benchmark.n_images, benchmark.n_classes) for benchmark in benchmarks}
    assert sizes["nabirds"] == (48_562, 555)
    assert sizes["rare_species"] == (11_983, 400)
    assert sizes["meta_album_insects_2"] == (4_080, 102)
    assert sizes["plantdoc"][1] == 28
    insects = read_benchmark("meta_album_insects")
    assert (insects.n_images, insects.n_classes) == (4160, 104)
    assert insects.score_of("imageomics/bioclip-2").score == 55.3
    assert insects.check_counts(4160, 104) == []
    assert "has 104 classes, these are 16" in insects.check_counts(4160, 16)[0]
    assert "meta_album_insects: Insects" in "\n".join(lines_of(benchmarks))
    with pytest.raises(ConfigError, match="did you mean meta_album_insects"):
        read_benchmark("meta_album_insect")


def test_the_templates_of_bioclip_are_81():
    templates = read_templates("bioclip")
    assert len(templates) == len(set(templates)) == 81
    assert templates[0] == "a photo of {}."


def test_embeddings_are_found_by_the_files_of_their_images(tmp_path):
    embeddings = np.arange(1, 7, dtype=np.float32).reshape(3, 2)
    write_embeddings(tmp_path / "e.safetensors", embeddings, ["a", "é", "c"], {"model": "m"})
    np.savez(tmp_path / "e.npz", embeddings=embeddings, ids=np.array(["a", "é", "c"]))
    for file in ("e.safetensors", "e.npz"):
        found, about = read_embeddings(tmp_path / file, ["c", "é"])
        assert found.tolist() == [[5, 6], [3, 4]]
        assert about == ({"model": "m"} if file.endswith("safetensors") else {})
        with pytest.raises(ConfigError, match="no embedding of 1 images, such as 'd'; its ids are such as 'a'"):
            read_embeddings(tmp_path / file, ["a", "d"])
    np.savez(tmp_path / "bare.npz", embeddings=embeddings)
    with pytest.raises(ConfigError, match=r"lacks 'ids.*needs `embeddings`, and `ids`"):
        read_embeddings(tmp_path / "bare.npz", ["a"])
    np.savez(tmp_path / "nan.npz", embeddings=embeddings * np.nan, ids=np.array(["a", "b", "c"]))
    with pytest.raises(ConfigError, match=r"1 of the 1 embeddings .* are zero or not finite"):
        read_embeddings(tmp_path / "nan.npz", ["a"])
    with pytest.raises(ConfigError, match="cannot read the embeddings"):
        read_embeddings(tmp_path / "none.npz", ["a"])


def test_embeddings_that_are_damaged_or_in_bfloat16_are_one_line(tmp_path):
    np.savez(tmp_path / "whole.npz", embeddings=np.ones((2, 3), np.float32), ids=np.array(["a", "b"]))
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.npz").write_bytes(b"")
    save_file({"embeddings": torch.ones(2, 3, dtype=torch.bfloat16)}, tmp_path / "b.safetensors", {"ids": '["a", "b"]'})
    for name in ("cut.npz", "empty.npz", "b.safetensors"):
        with pytest.raises(ConfigError, match=f"cannot read the embeddings of .*{name}"):
            read_embeddings(tmp_path / name, ["a"])


def test_rows_for_a_model_card_are_those_that_the_hub_reads(tmp_path):
    results = make_results(names=("imageomics/bioclip", "clip"), benchmark=read_benchmark("nabirds"))
    write_benchmark_report(tmp_path, results)
    entries = yaml.safe_load((tmp_path / "model-index.yaml").read_text())["model-index"]
    assert [entry["name"] for entry in entries] == ["imageomics/bioclip", "clip"]
    name, (row,) = model_index_to_eval_results(entries[:1])
    assert name == "imageomics/bioclip"
    assert (row.task_type, row.dataset_type, row.metric_type) == (
        "zero-shot-image-classification", "photographs", "accuracy"
    )  # fmt: skip
    assert row.metric_value == pytest.approx(make_results().models[0].scores.top1.mean, abs=1e-4)
    assert "95 % interval" in row.metric_name


def test_the_models_are_drawn_beside_what_was_published_and_the_report_shows_it(tmp_path):
    write_benchmark_report(tmp_path, make_results(benchmark=read_benchmark("nabirds")))
    with Image.open(tmp_path / "models.png") as picture:
        alone = picture.height
        assert np.asarray(picture.convert("RGB")).std() > 10
    assert "](models.png)" in (tmp_path / "report.md").read_text()
    write_benchmark_report(tmp_path, make_results())
    with Image.open(tmp_path / "models.png") as picture:
        assert picture.height < alone


def test_an_interval_that_does_not_hold_its_mean_is_drawn(tmp_path):
    results = make_results()
    (model,) = results.models
    top1 = replace(model.scores.top1, individuals=Interval(0.3, 0.31, 0.32, 10))
    scores = replace(model.scores, top=model.scores.top | {1: top1})
    draw_models(replace(results, models=(replace(model, scores=scores),)), tmp_path / "models.png")
    with Image.open(tmp_path / "models.png") as picture:
        assert np.asarray(picture.convert("RGB")).std() > 10


def test_results_and_report_are_there_also_where_no_picture_can_be_written(tmp_path):
    (tmp_path / "models.png").mkdir()
    (tmp_path / "models.png" / "of someone").touch()
    with pytest.raises(OSError, match="models"):
        write_benchmark_report(tmp_path, make_results())
    assert {"results.json", "report.md"} <= {path.name for path in tmp_path.iterdir()}


def test_a_task_without_a_figure_or_a_name_on_the_hub_leaves_no_file_of_an_earlier_one(tmp_path):
    write_benchmark_report(tmp_path, make_results())
    inputs = replace(make_inputs(), hashes=(bytes(32),) * 48, against=(("elsewhere", b"\xff" * 32),))
    scores = TASKS["leaks"].run(inputs, None).result
    leaks = replace(make_results(), task="leaks", models=(ModelScores(name="photographs", model={}, scores=scores),))
    write_benchmark_report(tmp_path, leaks)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.md", "results.json"]


def test_two_embeddings_of_one_image_are_refused_unless_they_are_the_same(tmp_path):
    embeddings = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    np.savez(tmp_path / "same.npz", embeddings=embeddings, ids=np.array(["a", "b", "a"]))
    assert read_embeddings(tmp_path / "same.npz", ["a", "b"])[0].tolist() == [[1, 0], [0, 1]]
    np.savez(tmp_path / "other.npz", embeddings=embeddings, ids=np.array(["a", "a", "b"]))
    with pytest.raises(ConfigError, match="two different embeddings of 'a'; keep one"):
        read_embeddings(tmp_path / "other.npz", ["a", "b"])
