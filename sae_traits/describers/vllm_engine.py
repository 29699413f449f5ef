"""vLLM in this process, on its GPUs, with answers held to the JSON schema (extra `vllm`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sae_traits.describers import Answer, Question
from sae_traits.describers.answers import answer_schema
from sae_traits.describers.in_process import Answers
from sae_traits.describers.model import ModelDescriber
from sae_traits.describers.structured_output_probe import canary_messages, canary_schema, was_enforced
from sae_traits.errors import DescriberError


def load(describer: ModelDescriber) -> Answers:
    """Start an engine, and prove with the canary that it enforces the schema.

    Raises:
        DescriberError: vLLM is not installed, cannot run the model, or does not enforce the schema.
    """
    try:
        from vllm import LLM  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DescriberError(
            "vLLM is not installed: pip install 'sae-traits[vllm]' in an environment of its own, or run `vllm serve` "
            "elsewhere and use --describer server"
        ) from error

    from sae_traits.features.model_files import one_line

    config = describer.config
    pictures_per_image = 2 if config.show == "both" and config.prompt != "whole" else 1
    try:
        engine = LLM(
            model=describer.model_name,
            revision=config.describer_revision,
            enable_prefix_caching=True,  # all prompts begin with the same words
            # Without this, memory is set aside for videos, too.
            limit_mm_per_prompt={"image": config.images_per_description * pictures_per_image, "video": 0},
            seed=0,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise DescriberError(
            f"vLLM cannot run {describer.model_name}: {one_line(error)}; its own lines above say more"
        ) from error
    (canary,) = engine.chat([canary_messages()], _sampling(describer, canary_schema()), use_tqdm=False)
    if not was_enforced(canary.outputs[0].text):
        raise DescriberError("this vLLM does not enforce the JSON schema; pip install -U 'sae-traits[vllm]'")

    def answers(questions: Sequence[Question]) -> list[Answer]:
        chats = [describer.messages(question) for question in questions]
        outputs = engine.chat(chats, _sampling(describer, answer_schema()), use_tqdm=False)
        return [_answer(describer, output) for output in outputs]

    return answers


def _answer(describer: ModelDescriber, output: Any) -> Answer:
    said = output.outputs[0]
    usage = {"prompt_tokens": len(output.prompt_token_ids), "completion_tokens": len(said.token_ids)}
    return describer.interpret(said.text, is_cut_off=said.finish_reason == "length", usage=usage)


def _sampling(describer: ModelDescriber, schema: dict[str, Any]) -> Any:
    from vllm import SamplingParams  # pyright: ignore[reportMissingImports]
    from vllm.sampling_params import StructuredOutputsParams  # pyright: ignore[reportMissingImports]

    return SamplingParams(
        temperature=describer.config.temperature,
        max_tokens=describer.config.max_tokens,
        structured_outputs=StructuredOutputsParams(json=schema),
    )
