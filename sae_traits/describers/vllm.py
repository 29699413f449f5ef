"""The describer `vllm`: vLLM in this process, on its GPUs, with answers held to the JSON schema (extra `vllm`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from sae_traits.config.describer import VLLM
from sae_traits.describers.base import Answer, Question
from sae_traits.describers.model import Answers, InProcessDescriber
from sae_traits.describers.structured_output_probe import probe_messages, probe_schema, was_enforced
from sae_traits.errors import DescriberError, one_line

RESOURCES = (
    *("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "distributed_executor_backend"),
    *("gpu_memory_utilization", "max_model_len", "max_num_seqs", "max_num_batched_tokens", "swap_space"),
    *("cpu_offload_gb", "enforce_eager", "enable_prefix_caching", "enable_chunked_prefill", "disable_log_stats"),
    "download_dir",
)
"""Options of the engine that say where and how fast it computes, and not what."""


@dataclass(frozen=True, kw_only=True)
class VLLMDescriber(InProcessDescriber):
    """A model that an engine of vLLM runs."""

    name: ClassVar = "vllm"
    advice: ClassVar = "give it more room (--vllm-option max_model_len=N), or ask less at a time (--in-flight)"
    config: VLLM

    @property
    def settings(self) -> dict[str, Any]:
        """Those of the engine that may change an answer are among them."""
        options = self.config.engine_options
        changing = {name: value for name, value in options.items() if name not in RESOURCES}
        return super().settings | ({"engine": changing} if changing else {})

    def load(self) -> Answers:
        """Start an engine, and prove with the structured-output probe that it enforces the schema.

        Raises:
            DescriberError: vLLM is not installed, cannot run the model, or does not enforce the schema.
        """
        try:
            from vllm import LLM  # pyright: ignore
        except ImportError as error:
            raise DescriberError(
                "vLLM is not installed: pip install 'sae-traits[vllm]' in an environment of its own, or run "
                "`vllm serve` elsewhere and use --describer server"
            ) from error

        config = self.config
        pictures_per_image = 2 if config.show == "both" and config.prompt != "whole" else 1
        try:
            engine = LLM(
                model=config.model,
                revision=config.revision,
                # Without this, memory is set aside for videos, too.
                limit_mm_per_prompt={"image": config.images_per_description * pictures_per_image, "video": 0},
                seed=0,
                # All prompts begin with the same words.
                **{"enable_prefix_caching": True, **config.engine_options},
            )
        except (OSError, ValueError, RuntimeError) as error:
            reason = f"vLLM cannot run {config.model}: {one_line(error)}; its own lines above say more"
            raise DescriberError(reason) from error
        (probe,) = engine.chat([probe_messages()], self._sampling(probe_schema()), use_tqdm=False)
        if not was_enforced(probe.outputs[0].text):
            raise DescriberError("this vLLM does not enforce the JSON schema; pip install -U 'sae-traits[vllm]'")

        def answers(questions: Sequence[Question]) -> list[Answer]:
            chats = [self.messages(question) for question in questions]
            return [self._answer(out) for out in engine.chat(chats, self._sampling(self.form.schema), use_tqdm=False)]

        return answers

    def _answer(self, output: Any) -> Answer:
        completion = output.outputs[0]
        usage = {"prompt_tokens": len(output.prompt_token_ids), "completion_tokens": len(completion.token_ids)}
        return self.interpret(completion.text, is_cut_off=completion.finish_reason == "length", usage=usage)

    def _sampling(self, schema: dict[str, Any]) -> Any:
        from vllm import SamplingParams  # pyright: ignore
        from vllm.sampling_params import StructuredOutputsParams  # pyright: ignore

        return SamplingParams(
            temperature=self.config.temperature,
            max_tokens=self.config.max_tokens,
            structured_outputs=StructuredOutputsParams(json=schema),
        )
