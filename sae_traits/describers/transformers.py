"""The describer `transformers`: a LLaVA-type model in this process, for small models and for trying things out.

Nothing holds its answers to the JSON schema, so they are read from its text. For real work use a server, which is many
times faster.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from sae_traits.config.describer import Transformers
from sae_traits.describers.base import Answer, Question
from sae_traits.describers.model import Answers, InProcessDescriber
from sae_traits.describers.view import decode_picture
from sae_traits.errors import DescriberError, one_line


@dataclass(frozen=True, kw_only=True)
class TransformersDescriber(InProcessDescriber):
    """An image-text-to-text model of transformers."""

    name: ClassVar = "transformers"
    advice: ClassVar = "ask less at a time (--in-flight), or choose a smaller model"
    config: Transformers

    def load(self) -> Answers:
        """Load the model with its processor; a DescriberError where it is no image-text-to-text model."""
        from transformers import AutoModelForImageTextToText, AutoProcessor

        from sae_traits.features.backbone import choose_device
        from sae_traits.features.model_files import quiet_transformers

        name, revision = self.config.model, self.config.revision
        device = choose_device(self.config.device)
        try:
            with quiet_transformers():
                # The PIL backend gives the same pixels everywhere, and needs no torchvision.
                processor = AutoProcessor.from_pretrained(name, revision=revision, backend="pil")
                model: Any = AutoModelForImageTextToText.from_pretrained(name, revision=revision, dtype="auto")
        except (OSError, ValueError, ImportError, KeyError) as error:
            raise DescriberError(
                f"transformers cannot load {name} as a chat model for images: {one_line(error)}; choose a LLaVA-type "
                "model, or serve it with vLLM and use --describer server"
            ) from error
        if getattr(processor, "chat_template", None) is None:
            raise DescriberError(f"{name} has no chat template; choose a model that was tuned for instructions")
        processor.tokenizer.padding_side = "left"  # a batch is continued at its right end
        return partial(self._answers, model.to(device).eval(), processor)

    def _answers(self, model: Any, processor: Any, questions: Sequence[Question]) -> list[Answer]:
        import torch

        batch = processor.apply_chat_template(
            [_with_images(self.messages(question)) for question in questions],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            processor_kwargs={"return_tensors": "pt", "padding": True},
        ).to(model.device, dtype=model.dtype)
        temperature = self.config.temperature
        sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        with torch.inference_mode():
            tokens = model.generate(**batch, max_new_tokens=self.config.max_tokens, **sampling)
        end = model.generation_config.eos_token_id
        ends = torch.tensor(end if isinstance(end, list) else [] if end is None else [end])
        answers = []
        n_in_prompts = batch["attention_mask"].sum(dim=1).tolist()
        for completion, n_prompt in zip(tokens[:, batch["input_ids"].shape[1] :].cpu(), n_in_prompts, strict=True):
            stops = torch.isin(completion, ends).nonzero()
            n_tokens = int(stops[0]) if len(stops) else len(completion)
            raw = processor.tokenizer.decode(completion[:n_tokens], skip_special_tokens=True)
            usage = {"prompt_tokens": n_prompt, "completion_tokens": n_tokens}
            answers.append(self.interpret(raw, is_cut_off=not len(stops), usage=usage))
        return answers


def _with_images(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A chat in OpenAI's form in the form of transformers, with the pictures decoded."""

    def convert(part: dict[str, Any]) -> dict[str, Any]:
        if part["type"] != "image_url":
            return part
        return {"type": "image", "image": decode_picture(part["image_url"]["url"])}

    return [message | {"content": [convert(part) for part in message["content"]]} for message in messages]
