import re
import shlex
from typing import get_args

import pytest

from sae_traits.cli import build_parser
from sae_traits.config.benchmark import BenchmarkConfig
from sae_traits.config.command_line import (
    Parser,
    add_options,
    command_of,
    given_options,
    options_of_file,
    refuse_unknown,
)
from sae_traits.config.describer import Describer, Server, without_password
from sae_traits.config.finetune import FinetuneConfig
from sae_traits.config.run import RunConfig
from sae_traits.config.tree import branches_of, build, choices_of, nest, options_of, with_absolute_paths
from sae_traits.errors import ConfigError

SECTIONS = tuple(branches_of(RunConfig))


def parsed(*words, sections=SECTIONS, **options):
    """The layer that a command line gives."""
    parser = Parser(prog="sae-traits try", allow_abbrev=False)
    add_options(parser, words, *sections, **options)
    arguments, unknown = parser.parse_known_args(words)
    assert not unknown, unknown
    return given_options(arguments)


def help_of(*words, root=RunConfig, **options):
    parser = Parser(prog="sae-traits try", allow_abbrev=False)
    add_options(parser, words, *branches_of(root), root=root, **options)
    return parser.format_help()


def command_help(*words):
    """What `sae-traits WORDS --help` says."""
    return build_parser(words)._subparsers._group_actions[0].choices[words[0]].format_help()


def test_only_what_was_given_is_in_the_layer():
    assert parsed() == {}
    assert parsed("--k", "5", "--stream") == {"train": {"architecture": {"k": "5"}}, "features": {"stream": True}}
    assert parsed("--no-stream", "--prefixes", "3,4") == {
        "features": {"stream": False},
        "train": {"prefixes": ("3", "4")},
    }


def test_a_variant_is_chosen_beside_its_options_in_any_order():
    for words in (
        ["--describer", "server", "--describer-model", "m", "--in-flight", "8"],
        ["--in-flight=8", "--describer-model=m", "--describer=server"],
    ):
        assert build(RunConfig, parsed(*words)).describer.in_flight == 8
    config = build(RunConfig, parsed("--backbone", "ORG/model", "--layer", "3"))
    assert (config.features.backbone.model, config.features.backbone.layer) == ("ORG/model", 3)


def test_an_option_of_another_variant_is_known_and_refused_with_the_reason():
    with pytest.raises(ConfigError, match="--base-url is an option of --describer server, not of --describer measured"):
        build(RunConfig, parsed("--base-url", "http://x"))
    with pytest.raises(ConfigError, match="--layer is an option of --backbone vision_model, not of --backbone texture"):
        build(RunConfig, parsed("--backbone", "texture", "--layer", "3"))


def test_help_shows_the_options_of_the_chosen_variants_with_words_for_their_values():
    default, server = help_of(), help_of("--describer", "server")
    assert "--base-url" not in default
    assert "--base-url URL" in server
    assert "--in-flight N" in server
    assert "--describer-model MODEL" in server
    assert "--temperature X" in server
    assert "--firing-threshold" not in default
    assert "--firing-threshold" in help_of("--contrast", "paper")
    assert "--firing-quantile" not in help_of("--contrast=paper")
    assert "--latents-revision REVISION" in help_of("--latents", "d")
    assert "--n-latents" not in help_of("--sae", "s")
    assert "--layer" not in help_of("--backbone", "texture")
    assert f"{{{','.join(variant.kind for variant in get_args(Describer))}}}" in default


def test_help_has_a_word_or_the_choices_for_the_value_of_every_option():
    for text in (help_of(), help_of(root=FinetuneConfig), command_help("benchmark")):
        assert not re.findall(r"--\w\S* --[A-Z]\S*", text)


def test_an_option_that_may_be_unset_has_its_choices_in_the_help_and_refuses_others(capsys):
    optional = {
        option.flag: choices_of(option.hint)
        for root in (RunConfig, FinetuneConfig, BenchmarkConfig)
        for option in options_of(root)
        if choices_of(option.hint) and type(None) in get_args(option.hint)
    }
    assert optional.keys() == {"initialisation", "text-type", "templates"}
    for flag, choices in optional.items():
        text = help_of() if flag == "initialisation" else command_help("benchmark")
        assert f"--{flag} {{{','.join(choices)}}}" in text
    with pytest.raises(SystemExit):
        parsed("--initialisation", "kmeans")
    assert "--initialisation: there is no 'kmeans'; did you mean k_means?" in capsys.readouterr().err
    for text, means in (("none", None), ("random", "random")):
        layers = {"train": {"initialisation": "k_means"}}, parsed("--initialisation", text)
        assert build(RunConfig, *layers).train.initialisation == means


def test_a_command_may_be_about_some_variants_and_not_have_some_options():
    text = help_of(
        "--describer", "server", pinned={"train": "adopted", "contrast": "released"},
        without=["layer", "second-layer", "backbone"],
    )  # fmt: skip
    assert "--sae SAE" in text
    assert "--latents DATASET" in text
    for flag in ("--train", "--contrast", "--n-latents", "--firing-quantile", "--layer", "--backbone MODEL"):
        assert flag not in text, flag


def test_defaults_are_written_as_they_are_given():
    text = " ".join(command_help("finetune").split())
    assert "caption. Default: sci. " in text
    assert "Default: 'a photo of {}.'. " in text
    assert "Default: ." not in " ".join(command_help("predict").split())


def test_an_unknown_option_says_what_may_have_been_meant(capsys):
    parser = Parser(prog="sae-traits try", allow_abbrev=False)
    add_options(parser, [], *branches_of(RunConfig))
    assert refuse_unknown(parser, ["--bas-url=x"]) == 2
    assert (
        capsys.readouterr().err
        == "sae-traits try: there is no --bas-url=x here; did you mean --base-url? See sae-traits try --help\n"
    )


def test_a_file_of_options_or_a_recipe_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("train: {n_latents: 7}")
    assert options_of_file(tmp_path / "mine.yaml") == {"train": {"n_latents": 7}}
    assert options_of_file(tmp_path.relative_to(tmp_path) / "demo.yaml")["features"] == {"backbone": "texture"}
    (tmp_path / "demo.yaml").write_text("train: {n_latents: 8}")
    assert options_of_file(tmp_path.relative_to(tmp_path) / "demo.yaml") == {"train": {"n_latents": 8}}
    assert options_of_file(None) == {}


COMMANDS = [
    ({"source": "a folder", "layer": -2, "workers": 7, "k": 4}, "sae-traits run 'a folder' --layer -2 --k 4"),
    ({"source": "a", "backbone": "texture"}, "sae-traits run a --backbone texture"),
    ({"source": "a", "sae": "ORG/s", "latents": "ORG/d"}, "sae-traits run a --sae ORG/s --latents ORG/d"),
    ({"source": "hf://datasets/ORG/d", "stream": True}, "sae-traits run hf://datasets/ORG/d --stream"),
    ({"source": "a", "regions": "whole", "clip": "ORG/c"}, "sae-traits run a --regions whole"),
    (
        {"source": "a", "describer": "server", "describer-model": "m", "base-url": "http://secret", "temperature": 0.5},
        "sae-traits run a --describer server --describer-model m --temperature 0.5",
    ),
    (
        {"source": "a", "architecture": "relu", "l1-coefficient": 0.1, "prefixes": (3, 4)},
        "sae-traits run a --prefixes 3,4 --architecture relu --l1-coefficient 0.1",
    ),
]


@pytest.mark.parametrize(("options", "command"), COMMANDS)
def test_the_command_of_a_run_has_what_matters_to_others(options, command):
    config = build(RunConfig, nest(RunConfig, options))
    assert command_of(config) == command
    words = shlex.split(command)
    again = build(RunConfig, parsed(*words[3:]), {"collection": {"source": words[2]}})
    assert command_of(again) == command


def test_the_command_names_local_files_without_their_place(tmp_path):
    (tmp_path / "backbone").mkdir()
    options = {"source": str(tmp_path / "photographs"), "backbone": str(tmp_path / "backbone")}
    config = with_absolute_paths(build(RunConfig, nest(RunConfig, options)))
    assert command_of(config) == "sae-traits run photographs --backbone backbone"


@pytest.mark.parametrize("address", ["http://me:p@ss-word@host:8000/v1", "http://me:pass-word@host/v1"])
def test_a_password_in_an_address_is_never_shown_whatever_letters_it_has(address):
    assert "word" not in without_password(address)
    assert "@host" in without_password(address)


@pytest.mark.parametrize("address", ["http://me:pass/word@host/v1", "me:pass-word@host/v1", "http://me:pass word@host"])
def test_a_password_in_what_is_no_address_is_not_shown_either(address):
    with pytest.raises(ConfigError) as error:
        Server(model="m", base_url=address)
    assert "word" not in str(error.value)
