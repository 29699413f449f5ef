"""The command line as a person meets it, wrong inputs above all: one clear line, exit code 1 or 2."""

import argparse
import csv
import json
import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from sae_traits import SAE, SAEConfig
from sae_traits.cli import COMMANDS, build_parser, main
from sae_traits.cli.base import KINDS_OF_COMMANDS
from sae_traits.config import RunConfig
from sae_traits.config.tree import build, options_of


def check_fails(capsys, arguments, code, *words):
    """The command fails with this exit code and one line on stderr that has all these words."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("sae-traits")]
    assert status == code, captured.err
    assert len(lines) == 1, captured.err
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in captured.err
    assert captured.out == ""


def help_of(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main([*words, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.fixture
def images(tmp_path):
    for species in ("Fictus_primus", "Fictus_secundus"):
        for number in range(3):
            folder = tmp_path / "images" / species
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (70, 50), (40 * number, 100, 50)).save(folder / f"{number}.png")
    return tmp_path / "images"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--xyzzy", "1"], "there is no --xyzzy here; see sae-traits run --help"),
        (["--lay", "3"], "there is no --lay here"),
        (["--backbon", "texture"], "did you mean --backbone? See sae-traits run --help"),
        (["--ot=runs"], "did you mean --out?"),
        (["another"], "there is no another here"),
        (["--k"], "--k: expected one argument"),
        (["--format", "jsn"], "--format: there is no 'jsn'; did you mean json?"),
        (["--images", "embedd"], "--images: there is no 'embedd'; did you mean embed?"),
        (["--describer", "serve"], "--describer: there is no 'serve'; did you mean server?"),
        (["--contrast", "x"], "--contrast: there is no 'x'; there are specimen, paper, released"),
        (["--k", "many"], "run: --k: must be a whole number, not 'many'"),
        (["--k", "0"], "run: --k must be 1 or more, not 0"),
        (["--seed", "-1"], "run: --seed must be a whole number from 0 to 4294967295, not -1"),
        (["--seed", "1" + "0" * 30], "seed must be a whole number from 0 to 4294967295, not 1000"),
        (["--n-latents", "8"], "run: --k (16) cannot exceed --n-latents (8)"),
        (["--test-share", "20%"], "run: --test-share: must be a number, not '20%'"),
        (
            ["--test-share", "1.5"],
            "--validation-share and --test-share must be 0 or more, together < 1, not 0.1 and",
        ),
        (["--prefixes", "3,x"], "run: --prefixes: must be a whole number, not 'x'"),
        (["--describer", "server", "--describer-model", "m", "--in-flight", "0"], "run: --in-flight must be 1 or more"),
        (["--per-species", "3", "--no-labels"], "run: --per-species needs labels, and these photographs have none"),
        (["--firing-quantile", "1.5"], "run: --firing-quantile must lie in [0, 1), not 1.5"),
        (["--describer", "server"], "--describer server needs --describer-model"),
        (["--base-url", "u"], "--base-url is an option of --describer server, not of --describer measured; leave it"),
        (["--sae", "s", "--k", "3"], "--k is an option of --train new, not of --train adopted"),
        (["--backbone", "texture", "--layer", "3"], "--layer is an option of --backbone vision_model"),
        (["--backbone", "texture", "--compute-dtype", "bfloat16"], "--compute-dtype is an option of --backbone"),
        (["--contrast", "paper", "--firing-quantile", "0.5"], "--firing-quantile is an option of --contrast specimen"),
        (["--regions", "whole", "--traits-per-image", "2"], "--traits-per-image is an option of --regions sae or"),
        (["--templates", "one"], "--templates needs --clip"),
        (["--no-labels"], "sae-traits predict PHOTOGRAPHS --latents DATASET"),
        (["--teraflops", "3"], "--teraflops is a positive speed, for --estimate"),
        (["--config", "none.yaml"], "cannot read none.yaml"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(capsys, images, tmp_path, words, message):
    check_fails(capsys, ["run", images, "--out", tmp_path / "run", *words], 2, message)
    assert not (tmp_path / "run").exists()


def test_a_command_that_does_not_exist_or_lacks_what_it_needs(capsys, tmp_path):
    check_fails(capsys, ["runn", tmp_path], 2, "there is no 'runn'; did you mean run? See sae-traits --help")
    check_fails(capsys, ["--versio"], 2, "did you mean --version?")
    check_fails(capsys, ["run", "--out", tmp_path / "run"], 2, "sae-traits run SOURCE")
    check_fails(capsys, ["train"], 2, "RUN")
    check_fails(capsys, ["export", "dataset", "folder"], 2, "--to")
    check_fails(capsys, ["latents", tmp_path, "first"], 2, "LATENT", "'first'")
    check_fails(capsys, ["predict", tmp_path, "--label-free"], 2, "there is no --label-free here")


def test_configuration_files_that_cannot_be_used(capsys, images, tmp_path):
    file = tmp_path / "run.yaml"
    arguments = ["run", images, "--out", tmp_path / "run", "--config", file]
    for text, *words in (
        ("train: [", "not YAML", 'in "run.yaml", line 1'),
        ("train: \0", "not YAML", 'in "run.yaml"'),
        ("train: {n_latents: 64, n_latents: 128}", 'n_latents is there twice in "run.yaml", line 1, column 24'),
        ("train:\n  k: 3\nregions: {}\ntrain:\n  seed: 1", 'train is there twice in "run.yaml", line 4'),
        ("training:\n  k: 3\n", "'training'", "train"),
        ("train:\n  kk: 3\n", "'kk'", "n_latents"),
        ("train:\n  n_latent: 3\n", "did you mean n_latents?"),
        ("- 1\n", "sections"),
        ("train:\n  architecture:\n    k: many\n", "run: train.architecture.k: must be a whole number, not 'many'"),
        ("collection:\n  test_share: 2\n", "run: validation_share and test_share must be 0 or more"),
        ("collection: {test_share: 1}\ntrain: {n_latents: 0}\n", "run: validation_share and test_share must be"),
    ):
        file.write_text(text)
        check_fails(capsys, arguments, 2, *words)
    file.write_text("train:\n  architecture:\n    k: many\n")
    check_fails(capsys, [*arguments, "--seed", "3"], 2, "run: train.architecture.k: must be")
    check_fails(capsys, [*arguments, "--k", "3", "--n-latents", "x"], 2, "run: --n-latents: must be a whole number")


def test_options_of_commands_without_a_run_are_named_by_their_flags_too(capsys, tmp_path):
    training = ["finetune", "--data", tmp_path, "--model", tmp_path, "--out", tmp_path / "clip"]
    check_fails(capsys, [*training, "--lora-rank", "0"], 2, "finetune: --lora-rank must be 1 or more, not 0")
    check_fails(capsys, [*training, "--text-types", "x"], 2, "finetune: --text-types has 'x'; there are")
    check_fails(capsys, ["benchmark", "few-shot", "--image-batch-size", "0"], 2, "--image-batch-size must be 1 or more")
    check_fails(capsys, ["benchmark", "few-shot", "--shots", "1,a"], 2, "--shots: must be a whole number, not 'a'")


def test_a_source_without_images(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    check_fails(capsys, ["run", tmp_path / "empty", "--out", tmp_path / "run"], 1, "empty", "no image")
    check_fails(capsys, ["run", tmp_path / "none", "--out", tmp_path / "run"], 1, "none", "does not exist")


def test_what_is_refused_leaves_no_folder_behind_unless_it_was_there(capsys, images, tmp_path):
    for source, *options in (
        (tmp_path / "none",),
        (images, "--split", "test"),
        (images, "--clip", tmp_path),
    ):
        check_fails(capsys, ["run", source, "--out", tmp_path / "new" / "run", "--backbone", "texture", *options], 1)
        assert not (tmp_path / "new").exists(), source
    (tmp_path / "run").mkdir()
    check_fails(capsys, ["run", tmp_path / "none", "--out", tmp_path / "run"], 1)
    assert (tmp_path / "run").is_dir()


def test_what_cannot_be_estimated_is_refused_before_images_are_read(capsys, images, tmp_path):
    arguments = ["extract", images, "--out", tmp_path / "run", "--backbone", "texture", "--stream", "--estimate"]
    check_fails(capsys, arguments, 2, "with --stream no features are written")
    assert not (tmp_path / "run").exists()


def test_a_table_without_species(capsys, tmp_path):
    with (tmp_path / "table.csv").open("w") as file:
        csv.writer(file).writerows([["file", "genus"], ["a.png", "Gen"]])
    check_fails(capsys, ["run", tmp_path / "table.csv", "--out", tmp_path / "run"], 1, "species", "table.csv")


def test_a_backbone_that_cannot_be_had(capsys, images, tmp_path):
    out = ["--out", tmp_path / "run"]
    (tmp_path / "backbone").mkdir()
    check_fails(capsys, ["extract", images, *out, "--backbone", tmp_path / "backbone"], 1, "config.json")


def test_a_backbone_that_is_nearly_texture_is_asked_about_unless_it_is_a_folder(capsys, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["run", images, "--out", tmp_path / "run", "--backbone", "textur"]
    check_fails(capsys, arguments, 2, "--backbone: there is no folder 'textur' here; did you mean texture?")
    assert not (tmp_path / "run").exists()
    for name in ("ORG/textur", "./textur", "bert-base"):
        assert build(RunConfig, {"features": {"backbone": name}}).features.backbone.model == name
    (tmp_path / "textur").mkdir()
    check_fails(capsys, arguments, 1, "textur has no config.json")


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
    capsys.readouterr()
    check_fails(capsys, [*arguments, "--layer", "9"], 1, "hidden states 0 to 2, not 9", "--layer")


def test_an_sae_that_does_not_fit_the_backbone(capsys, images, tmp_path):
    SAE.from_config(SAEConfig(architecture="relu", d_model=5, n_latents=8)).save_pretrained(tmp_path / "sae")
    arguments = ["run", images, "--out", tmp_path / "run", "--backbone", "texture", "--sae", tmp_path / "sae"]
    check_fails(capsys, arguments, 1, "width 5", "texture")


def test_a_folder_that_is_no_run(capsys, tmp_path):
    check_fails(capsys, ["train", tmp_path], 1, "not a run", "config.yaml")
    check_fails(
        capsys, ["publish", tmp_path, "--model-repo", "a/b", "--dataset-repo", "a/c"], 1, "neither a run", "finetune"
    )
    (tmp_path / "config.yaml").write_text("{}")
    check_fails(capsys, ["train", tmp_path], 1, "images.parquet does not exist", "extract")


def test_an_output_folder_that_cannot_be_written(capsys, images, tmp_path):
    (tmp_path / "file").write_text("")
    check_fails(capsys, ["run", images, "--out", tmp_path / "file" / "run"], 1, "cannot write", "--out")


def test_a_hub_id_that_does_not_exist(hub, hub_environment, images, tmp_path):
    for option in (["--backbone", "museum/nothing"], ["--backbone", "texture", "--sae", "museum/nothing"]):
        command = [sys.executable, "-m", "sae_traits.cli", "run", images, "--out", tmp_path / "run", *option]
        done = subprocess.run(command, env=hub_environment, capture_output=True, text=True)
        assert done.returncode == 1, done.stderr
        line = done.stderr.strip().splitlines()[-1]
        assert line.startswith("sae-traits run:")
        assert "museum/nothing" in line
        assert "Traceback" not in done.stderr
        assert hub.token not in done.stderr


def test_the_help_lists_every_command_once_by_what_it_is_for(capsys, monkeypatch):
    assert sorted(name for names in KINDS_OF_COMMANDS.values() for name in names) == sorted(COMMANDS)
    monkeypatch.setenv("COLUMNS", "70")
    text = help_of(capsys)
    lines = text.splitlines()
    assert lines[0] == "usage: sae-traits [OPTIONS] COMMAND"
    assert max(map(len, lines)) < 70
    for name, each in COMMANDS.items():
        assert " ".join(f"{name} {each.help}".split()) in " ".join(text.split())
    assert lines.index("to begin with:") < lines.index("on many machines:") < lines.index("options:")
    assert "positional arguments" not in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_short_usage_and_an_example(capsys, command):
    text = help_of(capsys, command)
    assert text.startswith(f"usage: sae-traits {command} [OPTIONS]")
    assert text.split("\n\n")[0].count("\n") == 0, "options have a list of their own"
    assert f"  sae-traits {command} " in text.partition("example")[2] or command == "completion"
    assert "--format {text,json}" in text


def test_a_usage_names_all_that_a_command_needs(capsys):
    usage = help_of(capsys, "publish").splitlines()[0]
    assert usage == "usage: sae-traits publish [OPTIONS] RUN|OUT --model-repo ID"
    assert help_of(capsys, "latents").splitlines()[0] == "usage: sae-traits latents [OPTIONS] RUN [LATENT …]"
    assert help_of(capsys, "run").splitlines()[0] == "usage: sae-traits run [OPTIONS] [SOURCE]"


def test_every_option_of_every_variant_is_known_to_run():
    parser = build_parser(["run"])
    (commands,) = (action for action in parser._actions if action.dest == "command")
    known = {flag for action in commands.choices["run"]._actions for flag in action.option_strings}
    assert {f"--{option.flag}" for option in options_of(RunConfig)} - known == {"--source"}
    assert {"--describer", "--architecture", "--regions", "--contrast", "--train", "--backbone", "--clip"} <= known


def test_help_names_the_values_that_options_take(capsys):
    text = help_of(capsys, "annotate", "--describer", "server")
    for words in (
        "--in-flight N ",
        "--temperature X ",
        "--base-url URL ",
        "--describer-model MODEL",
        "--box-margin X ",
    ):
        assert words in text
    assert "Default: 0.01." in text
    assert "Default: None" not in text
    assert "Default: True" not in text
    assert "\nbackbone" not in help_of(capsys, "predict"), "a section without options"


def test_without_a_command_the_help_is_shown(capsys):
    assert main([]) == 2
    assert "demo" in capsys.readouterr().out
    assert build_parser([]).prog == "sae-traits"


LOADED = """
import sys
from sae_traits.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(len(sys.modules), *sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_loads_few_modules(words):
    """A count, not a time: half a second is some two thousand small modules on a slow machine."""
    done = subprocess.run([sys.executable, "-c", LOADED, *words], check=True, capture_output=True, text=True)
    count, *modules = done.stderr.split()
    assert int(count) < 200
    assert not {"numpy", "pyarrow", "pydantic", "yaml", "torch", "PIL", "huggingface_hub"} & set(modules)


def test_a_folder_that_is_no_run_is_refused_before_much_is_imported(tmp_path):
    commands = {name: words for name, each in COMMANDS.items() if (words := _words_on_a_run(each, tmp_path))}
    assert {"train", "annotate", "evaluate", "latents", "faithfulness", "parts"} <= {*commands}
    commands["publish"] = [str(tmp_path), "--model-repo", "a/b"]
    for name, words in commands.items():
        done = subprocess.run([sys.executable, "-c", LOADED, name, *words], check=True, capture_output=True, text=True)
        refusal, modules = done.stderr.strip().splitlines()
        assert re.search(r"is (not|neither) a run(:| \() ?it has no config.yaml", refusal)
        assert not {"numpy", "pyarrow", "torch", "PIL", "huggingface_hub"} & {*modules.split()}


def _words_on_a_run(command, folder):
    """What a command has to be told, with that folder as its RUN; None where it takes no run."""
    parser = argparse.ArgumentParser(add_help=False)
    command.add_arguments(parser, [])
    needed = [action for action in parser._actions if action.required]
    if not any(action.dest == "run" for action in needed):
        return None
    words = []
    for action in needed:
        word = str(folder) if action.dest == "run" else str(next(iter(action.choices or ["1"])))
        n_words = action.nargs if isinstance(action.nargs, int) else 1
        words += [*action.option_strings[:1], *[word] * n_words]
    return words


COMPLETE = """
source "$1"
function=$(complete -p sae-traits | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
shift
COMP_WORDS=(sae-traits "$@"); COMP_CWORD=$#; COMPREPLY=()
$function sae-traits "${@: -1}" "${COMP_WORDS[-2]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("shell", "command"),
    [
        ("fish", 'source completion; complete -C "sae-traits ann"; complete -C "sae-traits run --describer s"'),
        ("zsh", 'autoload -Uz compinit; compinit -u -D; eval "$(cat completion)"; print $_comps[sae-traits]'),
    ],
)
def test_other_shells_take_their_scripts(shell, command, tmp_path, capsys):
    assert main(["completion", shell]) == 0
    (tmp_path / "completion").write_text(capsys.readouterr().out)
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-c", command], cwd=tmp_path, capture_output=True, text=True)
    found = [line.split()[0] for line in done.stdout.splitlines()]
    assert (found, done.stderr) == (["annotate", "server"] if shell == "fish" else ["_shtab_sae_traits"], "")


@pytest.fixture(scope="module")
def completion(tmp_path_factory):
    """What bash completes a command line to, in a folder with `drawn/`."""
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    folder = tmp_path_factory.mktemp("completion")
    (folder / "drawn").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "sae_traits.cli", "completion", "bash"], check=True, capture_output=True, text=True
    )
    (folder / "completion.bash").write_text(done.stdout)

    def complete(*words):
        command = ["bash", "-c", COMPLETE, "try", "completion.bash", *words]
        return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.split()

    return complete


def test_bash_completes_commands_options_kinds_and_files(completion):
    assert completion("ann") == ["annotate"]
    assert completion("run", "--bas") == ["--base-url"], "also of a variant that is not the default"
    assert completion("run", "--describer", "s") == ["server"]
    assert completion("run", "dr") == ["drawn"]
    for option in ("--backbone", "--sae", "--latents", "--out", "--clip", "--common-names", "--image-cache"):
        assert completion("run", "x", option, "dr") == ["drawn"], option
    assert completion("annotate", "dr") == ["drawn"]
    assert completion("run", "--family", "dr") == []
