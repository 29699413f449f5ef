"""Options of vLLM's engine: given once or several times, and part of a call's key only where they may change it."""

import pytest

from sae_traits.config import RunConfig
from sae_traits.config.command_line import Parser, add_options, command_of, given_options
from sae_traits.config.tree import build, with_public_names
from sae_traits.describers.prompts import Prompt
from sae_traits.describers.view import View
from sae_traits.describers.vllm import VLLMDescriber
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
    assert config.engine_options == {"tensor_parallel_size": 4, "max_model_len": 8192, "quantization": "fp8"}


def test_only_what_may_change_an_answer_is_part_of_its_key():
    plain, faster, other = (
        VLLMDescriber(config=described_by(*words), question=QUESTION, look=View("overlay"), revision="0").settings
        for words in ((), ("--vllm-option", "tensor_parallel_size=4"), ("--vllm-option", "quantization=fp8"))
    )
    assert faster == plain
    assert other == plain | {"engine": {"quantization": "fp8"}}


def test_a_token_is_refused_and_paths_in_values_are_public_by_name():
    with pytest.raises(ConfigError, match="hf_token is decided"):
        described_by("--vllm-option", "hf_token=hf_abc")
    config = described_by("--vllm-option", 'speculative_config={"model": "/data/me/draft"},tokenizer=/data/me/words')
    assert with_public_names(config).options == ('speculative_config={"model": "draft"}', "tokenizer=words")


def test_values_are_read_as_in_yaml_and_brackets_keep_their_commas():
    values = '{"min_pixels": 784, "max_pixels": [1, 2]}'
    config = described_by(
        "--vllm-option", f"mm_processor_kwargs={values},enforce_eager=true,tokenizer_revision=2024-01-01"
    )
    assert config.engine_options == {
        "mm_processor_kwargs": {"min_pixels": 784, "max_pixels": [1, 2]},
        "enforce_eager": True,
        "tokenizer_revision": "2024-01-01",
    }


def test_the_command_of_a_card_has_the_options_and_no_place_of_a_file(tmp_path):
    option = f"quantization=fp8,chat_template={tmp_path / 'chat.jinja'}"
    config = RunConfig(describer=described_by("--vllm-option", option))
    assert command_of(config).endswith("--vllm-option quantization=fp8,chat_template=chat.jinja")


@pytest.mark.parametrize(
    "text",
    ["max_model_len", "=3", "model=other/model", "seed=1", "compilation_config={level: 3", "tokenizer=@x", "a=%b"],
)
def test_options_that_cannot_be_are_refused(text):
    with pytest.raises(ConfigError, match="--vllm-option"):
        described_by("--vllm-option", text)
