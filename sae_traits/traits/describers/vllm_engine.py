"""The describer `vllm`: vLLM in this process, on its GPUs, with answers held to the JSON schema (extra `vllm`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sae_traits.config import DescribeConfig
from sae_traits.errors import DescriberError
from sae_traits.traits.answers import answer_schema
from sae_traits.traits.describers import Answer, Ask, Question
from sae_traits.traits.describers.canary import MAX_TOKENS, canary_messages, canary_schema, was_enforced
from sae_traits.traits.describers.local import pinned_revision
from sae_traits.traits.describers.model import ModelDescriber


@dataclass(frozen=True, kw_only=True)
class VllmEngine(ModelDescriber):
    """A model in a vLLM engine of this process."""

    name = "vllm"
    in_flight = 1

    @staticmethod
    def revision_of(config: DescribeConfig) -> str:
        """The commit, or the hash of the weights."""
        return pinned_revision(config)

    @property
    def batch_size(self) -> int:
        """Questions that the engine is given together; it forms its own batches of them."""
        return self.config.in_flight

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Ask]:
        """Start the engine, and prove with the canary that it enforces the schema.

        Raises:
            DescriberError: vLLM is not installed, cannot run the model, or does not enforce the schema.
        """
        engine = await asyncio.to_thread(_start, self)

        async def ask(questions: Sequence[Question]) -> list[Answer]:
            return await asyncio.to_thread(_answers, self, engine, questions)

        yield ask


def _start(describer: VllmEngine) -> Any:
    """A running engine."""
    try:
        from vllm import LLM  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DescriberError(
            "vLLM is not installed: pip install 'sae-traits[vllm]' in an environment of its own, or run `vllm serve` "
            "elsewhere and use --describer server"
        ) from error

    config = describer.config
    pictures_a_specimen = 2 if config.show == "both" and config.prompt != "whole" else 1
    engine = LLM(
        model=describer.model_name,
        revision=config.describer_revision,
        enable_prefix_caching=True,  # all prompts begin with the same words
        limit_mm_per_prompt={"image": config.images_per_description * pictures_a_specimen},
        seed=0,
    )
    (canary,) = engine.chat([canary_messages()], _sampling(describer, canary_schema(), MAX_TOKENS), use_tqdm=False)
    if not was_enforced(canary.outputs[0].text):
        raise DescriberError("this vLLM does not enforce the JSON schema; pip install -U 'sae-traits[vllm]'")
    return engine


def _answers(describer: VllmEngine, engine: Any, questions: Sequence[Question]) -> list[Answer]:
    """The answers to a batch of questions, in their order."""
    sampling = _sampling(describer, answer_schema(), describer.config.max_tokens)
    chats = [describer.messages(question) for question in questions]
    answers = []
    for output in engine.chat(chats, sampling, use_tqdm=False):
        said = output.outputs[0]
        usage = {"prompt_tokens": len(output.prompt_token_ids), "completion_tokens": len(said.token_ids)}
        answers.append(describer.interpret(said.text, is_cut_off=said.finish_reason == "length", usage=usage))
    return answers


def _sampling(describer: VllmEngine, schema: dict[str, Any], max_tokens: int) -> Any:
    from vllm import SamplingParams  # pyright: ignore[reportMissingImports]
    from vllm.sampling_params import StructuredOutputsParams  # pyright: ignore[reportMissingImports]

    return SamplingParams(
        temperature=describer.config.temperature,
        max_tokens=max_tokens,
        structured_outputs=StructuredOutputsParams(json=schema),
    )
