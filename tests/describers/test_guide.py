"""The guide's commands are commands: the parser takes them, and their options make a configuration."""

import re
import shlex
from pathlib import Path

import pytest

from sae_traits.cli import build_parser
from sae_traits.config.command_line import options_given
from sae_traits.config.layers import resolve

GUIDE = (Path(__file__).parents[2] / "docs" / "describers.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^sae-traits .*$", GUIDE, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_guide_can_be_given(line):
    arguments = build_parser().parse_args(shlex.split(line)[1:])
    resolve(options_given(arguments))


def test_every_option_and_every_describer_of_the_guide_exists():
    every = set(re.findall(r"--[a-z][a-z-]+", build_parser().format_help() + help_of("annotate") + help_of("controls")))
    of_vllm_serve = {"--max-model-len", "--limit-mm-per-prompt", "--api-key"}
    assert set(re.findall(r"--[a-z][a-z-]+", GUIDE)) <= every | of_vllm_serve
    assert len(COMMANDS) >= 8
    for kind in ("measured", "server", "vllm", "transformers"):
        assert f"| `{kind}` |" in GUIDE
        assert any(f"--describer {kind}" in line for line in COMMANDS)


def help_of(command):
    actions = build_parser()._subparsers._group_actions  # pyright: ignore
    return actions[0].choices[command].format_help()
