"""Options of vLLM's engine: given once or several times, and part of a call's key only where they may change it."""

import pytest

from sae_traits.config import RunConfig
from sae_traits.config.command_line import Parser, add_options, given_options
from sae_traits.config.tree import build
from sae_traits.describers.prompts import Prompt
from sae_traits.describers.view import View
from sae_traits.describers.vllm import VLLMDescriber, engine_options
from sae_traits.errors import ConfigError

QUESTION = Prompt.load("region", show="overlay", name_species=False)


def described_by(*words):
    words = ["--describer", "vllm", "--describer-model", "org/model", *words]
    parser = Parser()
    add_options(parser, words, "describer")
    layer = {"collection": {"source": "."}}
    return build(RunConfig, layer, given_options(parser.parse_args(words))).describer


def test_options_add_up_and_have_types():
    config = described_by(
        "--vllm-option", "tensor_parallel_size=4", "--vllm-option", "max_model_len=8192,quantization=fp8"
    )
    assert engine_options(config.options) == {"tensor_parallel_size": 4, "max_model_len": 8192, "quantization": "fp8"}


def test_only_what_may_change_an_answer_is_part_of_its_key():
    plain, faster, other = (
        VLLMDescriber(config=described_by(*words), question=QUESTION, look=View("overlay"), revision="0").settings
        for words in ((), ("--vllm-option", "tensor_parallel_size=4"), ("--vllm-option", "quantization=fp8"))
    )
    assert faster == plain
    assert other == plain | {"engine": {"quantization": "fp8"}}


@pytest.mark.parametrize("text", ["max_model_len", "=3", "model=other/model", "seed=1"])
def test_options_that_cannot_be_are_refused(text):
    with pytest.raises(ConfigError, match="--vllm-option"):
        described_by("--vllm-option", text)
