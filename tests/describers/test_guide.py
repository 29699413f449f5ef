"""The guide's commands are commands: the parser takes them, and their options make a configuration."""

import re
import shlex
from pathlib import Path

import pytest

from sae_traits.cli import build_parser
from sae_traits.config.command_line import given_options
from sae_traits.config.run import RunConfig
from sae_traits.config.tree import build

GUIDE = (Path(__file__).parents[2] / "docs" / "describers.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^sae-traits .*$", GUIDE, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_guide_can_be_given(line):
    words = shlex.split(line, comments=True)[1:]
    config = build(RunConfig, given_options(build_parser(words).parse_args(words)))
    kind = words[words.index("--describer") + 1] if "--describer" in words else "measured"
    assert config.describer.kind == kind


def test_every_describer_has_a_row_and_a_command():
    assert len(COMMANDS) >= 8
    for kind in ("measured", "server", "vllm", "transformers"):
        assert f"| `{kind}` |" in GUIDE
        assert any(f"--describer {kind}" in line for line in COMMANDS)
