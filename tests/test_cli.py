"""The command line as a person meets it, wrong inputs above all: one clear line, exit code 1 or 2."""

import csv
import json
import subprocess
import sys

import pytest
from PIL import Image

from sae_traits import SAE, SAEConfig
from sae_traits.cli import build_parser, main
from sae_traits.config import SECTIONS
from sae_traits.config.command_line import EXAMPLES


def check_fails(capsys, arguments, code, *words):
    """The command fails with this exit code and one line on stderr that has all these words."""
    try:
        found = main([str(a) for a in arguments])
    except SystemExit as stop:
        found = stop.code
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("sae-traits")]
    assert found == code, captured.err
    assert len(lines) == 1, captured.err
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in captured.err


@pytest.fixture
def images(tmp_path):
    for species in ("Fictus_primus", "Fictus_secundus"):
        for number in range(3):
            folder = tmp_path / "images" / species
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (70, 50), (40 * number, 100, 50)).save(folder / f"{number}.png")
    return tmp_path / "images"


def test_an_unknown_option_and_an_unknown_command(capsys, images):
    check_fails(capsys, ["run", images, "--bogus", "1"], 2, "--bogus", "--help")
    check_fails(capsys, ["runn", images], 2, "runn")
    check_fails(capsys, ["run", images, "--lay", "3"], 2, "--lay")
    check_fails(capsys, ["run", images, "--backbon", "texture"], 2, "did you mean --backbone?", "sae-traits run --help")
    check_fails(capsys, ["run", images, "--ot=runs"], 2, "did you mean --out?")


def test_values_that_cannot_be_used(capsys, images, tmp_path):
    out = ["--out", tmp_path / "run"]
    check_fails(capsys, ["run", images, *out, "--k", "many"], 2, "train.k must be a whole number, not 'many'")
    check_fails(capsys, ["run", images, *out, "--k", "0"], 2, "k must be at least 1")
    check_fails(capsys, ["run", images, *out, "--contrast", "papers"], 2, "papers", "image")
    check_fails(capsys, ["run", images, *out, "--firing-quantile", "1.5"], 2, "firing_quantile")
    check_fails(capsys, ["run", *out], 2, "SOURCE")


def test_configuration_files_that_cannot_be_used(capsys, images, tmp_path):
    file = tmp_path / "run.yaml"
    arguments = ["run", images, "--out", tmp_path / "run", "--config", file]
    check_fails(capsys, arguments, 2, "cannot read", "run.yaml")
    file.write_text("train: [")
    check_fails(capsys, arguments, 2, "not YAML")
    file.write_text("training:\n  k: 3\n")
    check_fails(capsys, arguments, 2, "'training'", "train")
    file.write_text("train:\n  kk: 3\n")
    check_fails(capsys, arguments, 2, "'kk'", "n_latents")
    file.write_text("- 1\n")
    check_fails(capsys, arguments, 2, "sections")


def test_a_source_without_images(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    check_fails(capsys, ["run", tmp_path / "empty", "--out", tmp_path / "run"], 1, "empty", "no image")
    check_fails(capsys, ["run", tmp_path / "none", "--out", tmp_path / "run"], 1, "none", "does not exist")


def test_a_table_without_species(capsys, tmp_path):
    with (tmp_path / "table.csv").open("w") as file:
        csv.writer(file).writerows([["file", "genus"], ["a.png", "Gen"]])
    check_fails(capsys, ["run", tmp_path / "table.csv", "--out", tmp_path / "run"], 1, "species", "table.csv")


def test_a_backbone_that_cannot_be_had(capsys, images, tmp_path):
    out = ["--out", tmp_path / "run"]
    (tmp_path / "backbone").mkdir()
    check_fails(capsys, ["extract", images, *out, "--backbone", tmp_path / "backbone"], 1, "config.json")


def test_a_layer_that_does_not_exist(capsys, images, tmp_path):
    from transformers import ViTConfig, ViTModel

    model = ViTModel(
        ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=32,
            patch_size=8,
        )
    )
    model.save_pretrained(tmp_path / "vit")
    values = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(values))
    arguments = ["extract", images, "--out", tmp_path / "run", "--backbone", tmp_path / "vit"]
    check_fails(capsys, [*arguments, "--layer", "9"], 1, "hidden states 0 to 2, not 9", "--layer")


def test_an_sae_that_does_not_fit_the_backbone(capsys, images, tmp_path):
    SAE.from_config(SAEConfig(architecture="relu", d_model=5, n_latents=8)).save_pretrained(tmp_path / "sae")
    arguments = ["run", images, "--out", tmp_path / "run", "--backbone", "texture", "--sae", tmp_path / "sae"]
    check_fails(capsys, arguments, 1, "width 5", "texture")


def test_a_run_that_is_none(capsys, tmp_path):
    check_fails(capsys, ["train", tmp_path], 1, "not a run", "config.yaml")
    check_fails(capsys, ["publish", tmp_path, "--model-repo", "a/b", "--dataset-repo", "a/c"], 1, "not a run")
    (tmp_path / "config.yaml").write_text("{}")
    check_fails(capsys, ["train", tmp_path], 1, "images.parquet does not exist", "extract")


def test_an_output_folder_that_cannot_be_written(capsys, images, tmp_path):
    (tmp_path / "file").write_text("")
    check_fails(capsys, ["run", images, "--out", tmp_path / "file" / "run"], 1, "cannot write", "--out")


def test_a_hub_id_that_does_not_exist(hub, hub_environment, images, tmp_path):
    for option in (["--backbone", "museum/nothing"], ["--backbone", "texture", "--sae", "museum/nothing"]):
        found = subprocess.run(
            [sys.executable, "-m", "sae_traits.cli", "run", images, "--out", tmp_path / "run", *option],
            env=hub_environment, capture_output=True, text=True,
        )  # fmt: skip
        assert found.returncode == 1, found.stderr
        line = found.stderr.strip().splitlines()[-1]
        assert line.startswith("sae-traits run:")
        assert "museum/nothing" in line
        assert "Traceback" not in found.stderr
        assert hub.token not in found.stderr


def test_every_command_has_help_with_an_example(capsys):
    for command in ("run", "extract", "train", "annotate", "describe", "controls", "evaluate", "publish", "demo"):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert EXAMPLES[command] in text
        assert f"sae-traits {command}" in text


def test_every_option_of_every_section_is_on_the_command_line(capsys):
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    text = capsys.readouterr().out
    for section in SECTIONS.values():
        for name in set(section.__dataclass_fields__) - {"source"}:
            assert f"--{name.replace('_', '-')} " in text


def test_without_a_command_the_help_is_shown(capsys):
    assert main([]) == 2
    assert "demo" in capsys.readouterr().out
    assert build_parser().prog == "sae-traits"
