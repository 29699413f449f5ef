"""The front door: one command or three lines, no run; embeddings are kept, and wrong inputs are one line."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from clip_folders import make_open_clip_folder, make_transformers_clip_folder
from PIL import Image

import sae_traits
from sae_traits.cli import main
from sae_traits.errors import ConfigError
from sae_traits.evaluation.benchmarks.results import BenchmarkResults

CLASSES = ("Abeille noire", "Mouche", "Papilio_machaon")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Three classes of four images, a table of what they stand for, traits, and two small CLIPs."""
    folder = tmp_path_factory.mktemp("world")
    generator = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        (folder / "photographs" / name).mkdir(parents=True)
        for n in range(4):
            pixels = np.clip(generator.normal(60 + 60 * number, 40, (24, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "photographs" / name / f"{n}.png")
    write(folder / "taxa.csv", ["label", "species", "common_name"], [
        ["Abeille noire", "Apis mellifera", "bee"], ["Mouche", "Musca domestica", "fly"],
        ["Papilio machaon", "Papilio machaon", "swallowtail"],
    ])  # fmt: skip
    write(folder / "traits.csv", ["species", "trait_description"], [
        ["Apis mellifera", "dark hairy body"], ["Musca domestica", "red eyes"], ["Papilio machaon", "yellow wings"],
    ])  # fmt: skip
    make_transformers_clip_folder(folder / "clip")
    make_open_clip_folder(folder / "other", seed=1)
    return folder


def write(path, header, rows):
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def test_three_lines_of_python_score_two_models_with_traits(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = sae_traits.benchmark(
        "zero-shot",
        images=world / "photographs",
        clip=[world / "clip", world / "other"],
        traits=world / "traits.csv",
        taxa=world / "taxa.csv",
        text_type="com",
        workers=0,
    )
    first, second = results.models
    assert (first.name, second.name) == ("clip", "other")
    assert results.n_images == 12
    assert [each.text for each in first.scores.classes] == ["bee", "fly", "swallowtail"]
    assert first.scores.traits.n_test == 12
    assert [difference.name for difference in results.differences] == ["other"]
    out = tmp_path / "benchmarks" / "photographs"
    assert "Do traits help?" in (out / "zero-shot" / "report.md").read_text()
    written = (out / "zero-shot" / "results.json").read_text("utf-8")
    assert BenchmarkResults.from_json(written).to_json() == results.to_json()
    assert str(tmp_path) not in written
    assert str(world) not in written


def test_the_command_asks_again_without_opening_an_image_and_its_embeddings_can_be_given(world, tmp_path, capsys):
    images = shutil.copytree(world / "photographs", tmp_path / "photographs")
    (images / "Mouche" / "broken.png").write_bytes(b"no image")
    command = ["benchmark", "few-shot", "--images", images, "--clip", world / "clip", "--shots", "1", "--workers", "0"]
    command = [*map(str, command), "--out", str(tmp_path / "out"), "--format", "json"]
    assert main(command) == 0
    before, progress = capsys.readouterr()
    assert "embedding: 0 of 12 images" in progress
    assert "1 row or image is not used, such as Mouche/broken.png" in json.loads(before)["notes"][0]
    assert main(command) == 0
    after, progress = capsys.readouterr()
    assert after == before
    assert "examining" not in progress
    assert "embedding" not in progress
    (file,) = (tmp_path / "out" / "embeddings").glob("*.safetensors")
    shutil.rmtree(images)
    rows = [[f"{name}/{n}.png", name] for name in CLASSES for n in range(4)]
    table = write(tmp_path / "labels.csv", ["file", "label"], rows)
    words = ["--images", str(table), "--embeddings", str(file), "--shots", "1", "--out", str(tmp_path / "own")]
    assert main(["benchmark", "few-shot", *words, "--format", "json"]) == 0
    own = json.loads(capsys.readouterr().out)
    assert own["models"][0]["scores"]["shots"] == json.loads(before)["models"][0]["scores"]["shots"]


def test_a_published_benchmark_is_compared_with_and_other_counts_are_said(world, tmp_path, capsys):
    words = ["--images", str(world / "photographs"), "--clip", str(world / "clip"), "--out", str(tmp_path)]
    assert main(["benchmark", "zero-shot", *words, "--benchmark", "meta_album_insects", "--templates", "none"]) == 0
    said = capsys.readouterr().out
    assert "Insects (Meta-Album INS_Mini) has 4,160 images, these are 12" in said
    assert "has 104 classes, these are 3" in said
    assert "the published scores are of --templates bioclip, these of none" in said
    assert "are published, none of them for this checkpoint" in said
    assert "BioCLIP 2                            55.3" in said


def test_plantdocs_folders_are_matched_by_name_unless_its_published_fault_is_asked_for(world, tmp_path, capsys):
    for split, names in (("train", CLASSES), ("test", CLASSES[1:])):
        for name in names:
            shutil.copytree(world / "photographs" / name, tmp_path / "leaves" / split / name)
    words = ["benchmark", "few-shot", "--benchmark", "plantdoc", "--images", str(tmp_path / "leaves")]
    words += ["--clip", str(world / "clip"), "--out", str(tmp_path / "out"), "--workers", "0"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "1-shot" in said
    assert "5-shot" not in said  # the benchmark's own shots
    assert "labels of train and test matched by place instead of name; --protocol published repeats that" in said
    assert "1 class has images in train and none in test (Abeille noire)" in said
    assert main([*words, "--protocol", "published"]) == 0
    assert "--protocol published repeats that" not in capsys.readouterr().out
    assert main([*words, "--shots", "1,5"]) == 1  # which are asked for, though they are those of other images
    assert "has 4 images" in capsys.readouterr().err


def test_questions_and_attributes_are_asked_of_embeddings_with_the_published_scores_beside(tmp_path, capsys):
    generator = np.random.default_rng(0)
    answers = np.arange(40) % 2
    np.savez(
        tmp_path / "own.npz",
        embeddings=np.stack([answers, 1 - answers, *generator.normal(0, 0.1, (6, 40))], axis=1),
        ids=[f"{n}.jpg" for n in range(40)],
    )
    rows = [[f"{n}.jpg", str(answers[n]), f"question {n // 20}", ("train", "test")[n // 10 % 2]] for n in range(40)]
    table = write(tmp_path / "newt.csv", ["file", "label", "task", "split"], rows)
    given = write(tmp_path / "given.csv", ["label", "has_wings"], [["0", "0"], ["1", "1"]])
    words = ["--images", str(table), "--embeddings", str(tmp_path / "own.npz"), "--out", str(tmp_path / "out")]
    assert main(["benchmark", "newt", "--benchmark", "newt", *words]) == 0
    said = capsys.readouterr().out
    assert "100.0 % [100.0, 100.0] of 20 images of 2 questions" in said
    assert "not comparable with published scores of NeWT" in said
    assert "BioCLIP 2                            89.1" in said
    assert main(["benchmark", "awa2", *words, "--attributes", str(given)]) == 0
    assert "macro F1 of 1 attribute of 20 images" in capsys.readouterr().out
    assert "| has_wings | " in (tmp_path / "out" / "awa2" / "report.md").read_text()


def test_regions_and_texts_are_scored_with_files_of_ones_own(world, tmp_path, capsys):
    taxa = [["Abeille noire", "Apis mellifera"], ["Mouche", "Apis cerana"], ["Papilio machaon", "Papilio machaon"]]
    taxa = write(tmp_path / "taxa.csv", ["label", "species"], taxa)
    files = [f"{name}/{n}.png" for name in CLASSES for n in range(4)]
    for name, box in (("regions", (2, 2, 4, 4)), ("boxes", (0, 0, 12, 12))):
        write(tmp_path / f"{name}.csv", ["image", "x", "y", "width", "height"], [[file, *box] for file in files])
    words = ["--images", str(world / "photographs"), "--workers", "0", "--out", str(tmp_path / "out")]
    located = ["--regions", str(tmp_path / "regions.csv"), "--boxes", str(tmp_path / "boxes.csv")]
    assert main(["benchmark", "localisation", *words, *located]) == 0
    assert "100.0 % [100.0, 100.0] of the area of 12 regions lies on the organism" in capsys.readouterr().out
    traits = [
        ["Apis mellifera", "dark body", "a"],
        ["Apis cerana", "red eyes", "b"],
        ["Apis cerana", "brown legs", "c"],
    ]
    traits = write(tmp_path / "traits.csv", ["species", "text", "trait_id"], traits)
    other = [["Apis mellifera", "dark head", "a"], ["Apis cerana", "blue eyes", "b"]]
    other = write(tmp_path / "other.csv", ["species", "text", "trait_id"], other)
    references = write(tmp_path / "references.csv", ["species", "text"], [["Apis cerana", "It has red eyes."]])
    words += ["--clip", str(world / "clip"), "--taxa", str(taxa), "--traits", str(traits)]
    assert main(["benchmark", "texts", *words, "--other-traits", str(other), "--references", str(references)]) == 0
    said = capsys.readouterr().out
    assert "of 3 texts are nearest to the images of their own species" in said
    assert "coverage                             1.000" in said
    assert "agreement on colour" in said


def test_images_that_are_also_elsewhere_are_found(world, tmp_path):
    shutil.copytree(world / "photographs" / "Mouche", tmp_path / "training")
    results = sae_traits.benchmark(
        "leaks", images=world / "photographs", against=tmp_path / "training", out=tmp_path / "out", workers=0
    )
    assert results.models[0].scores.n_leaked == 4
    assert "4 of 12 images (33.3 %) are near-identical to one of 4 images" in results.answer[0]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["zero-shot", "--images", "P"], 2, "zero-shot needs --clip, such as --clip imageomics/bioclip"),
        (["few-shot", "--images", "P"], 2, "or --embeddings of your own"),
        (["zero-shot", "--clip", "C"], 2, "zero-shot needs --images"),
        ([], 2, "say which task: zero-shot, few-shot"),
        (["zeroshot"], 2, "did you mean zero-shot?"),
        (["zero-shot", "--images", "absent", "--clip", "C"], 1, "absent does not exist; name a folder"),
        (["few-shot", "--images", "P", "--clip", "C"], 1, "has 4 images (Abeille noire/0.png), and --shots 5 needs"),
        (["few-shot", "--images", "P", "--clip", "C", "--shots", "0"], 2, "shots must be 1 or more"),
        (["zero-shot", "--images", "P", "--clip", "C", "--taxa", "T"], 2, "is not among the labels of"),
        (["zero-shot", "--images", "P", "--clip", "C", "--benchmark", "nabird"], 2, "did you mean nabirds"),
        (
            ["few-shot", "--images", "P", "--clip", "C", "--benchmark", "nabirds"],
            2,
            "of zero-shot, not of few-shot",
        ),
        (["zero-shot", "--images", "P", "--clip", "C", "--split", "test"], 1, "has no image of --split test"),
        (["retrieval", "--images", "P", "--clip", "C"], 2, "retrieval needs --captions TABLE"),
        (["leaks", "--images", "P"], 2, "leaks needs --against SOURCE"),
        (["zero-shot", "--images", "P", "--clip", "C", "--traits", "absent.csv"], 2, "absent.csv does not exist"),
        (["zero-shot", "--images", "P", "--clip", "C", "--taxa", "S"], 2, "nor are 1 others; add a row for each"),
        (["zero-shot", "--images", "P", "--clip", "C", "--captions", "T"], 2, "does not use --captions, which is for"),
        (["few-shot", "--images", "P", "--clip", "C", "--traits", "T"], 2, "is for zero-shot, structure, texts; leave"),
        (["leaks", "--images", "P", "--against", "P", "--clip", "C"], 2, "leaks does not use --clip"),
        (
            ["few-shot", "--images", "P", "--clip", "C", "--shots", "1", "--clip", "E"],
            1,
            "has neither open_clip_config",
        ),
        (["few-shot", "--images", "P", "--clip", "C", "--shots", "1", "--revision", "v1"], 1, "has no revision v1"),
        (["few-shot", "--images", "E", "--clip", "C"], 1, "has no folder of images in it; name a folder with a folder"),
    ],
)
def test_wrong_inputs_are_one_line_that_says_what_to_do(world, tmp_path, capsys, words, code, message):
    meant = {"P": world / "photographs", "C": world / "clip", "T": world / "traits.csv", "E": tmp_path / "empty"}
    meant["S"] = write(tmp_path / "short.csv", ["label", "species"], [["Mouche", "Musca domestica"]])
    (meant["E"] / "a class without images").mkdir(parents=True)
    try:
        status = main(["benchmark", *(str(meant.get(word, word)) for word in words), "--out", str(tmp_path)])
    except SystemExit as stop:
        status = stop.code
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("sae-traits")]
    assert (status, len(lines)) == (code, 1)
    assert message in lines[0]
    assert "examining" not in said  # what is wrong is said before the images are opened


def test_embeddings_of_another_model_than_the_texts_are_refused(world, tmp_path, capsys):
    words = ["--images", str(world / "photographs"), "--workers", "0", "--out", str(tmp_path)]
    assert main(["benchmark", "few-shot", *words, "--shots", "1", "--clip", str(world / "other")]) == 0
    (file,) = (tmp_path / "embeddings").glob("*.safetensors")
    words += ["--embeddings", str(file), "--clip"]
    assert main(["benchmark", "zero-shot", *words, str(world / "other")]) == 0
    capsys.readouterr()
    assert main(["benchmark", "zero-shot", *words, str(world / "clip")]) == 2
    assert "was made by other (sha256:" in capsys.readouterr().err


def test_traits_of_no_class_are_said_and_so_is_that_their_images_are_unknown(world, tmp_path, caplog):
    rows = [["Musca domestica", "red eyes"], ["Lucilia sericata", "green body"]]
    traits = write(tmp_path / "traits.csv", ["species", "text"], rows)
    options = {"taxa": world / "taxa.csv", "traits": traits, "workers": 0, "out": tmp_path / "out"}
    with caplog.at_level("INFO", logger="sae_traits"):
        results = sae_traits.benchmark("zero-shot", images=world / "photographs", clip=world / "clip", **options)
    assert "1 of 2 species of" in caplog.text
    assert "have no class here, such as 'lucilia sericata'" in caplog.text
    assert "because traits.csv names no images by their hashes" in results.notes[-1]
    assert "shots" not in results.settings  # an option of another task


def test_options_are_those_of_the_command(world):
    with pytest.raises(ConfigError, match=r"there is no option 'trait' in .*; did you mean traits"):
        sae_traits.benchmark("zero-shot", images=world / "photographs", clip="c", trait="x")
    with pytest.raises(ConfigError, match="there is no task 'zeroshot'"):
        sae_traits.benchmark("zeroshot", images=world / "photographs", clip="c")


def test_the_list_of_benchmarks_says_what_they_are(capsys):
    assert main(["benchmark", "--list", "--format", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len(listed) >= 15
    assert {"name", "n_images", "published", "licence", "protocol"} <= set(listed[0])


@pytest.mark.parametrize("word", ["--list", "--help"])
def test_the_list_and_the_help_load_nothing_heavy(word):
    code = f"import sys, sae_traits.cli as c\ntry: c.main(['benchmark', '{word}'])\nexcept SystemExit: pass\n"
    code += "heavy = {'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules)\nassert not heavy, heavy"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
