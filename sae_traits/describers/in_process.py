"""The describers `vllm` and `transformers`: a model that is loaded into this process and answers in batches.

They differ in how a model is loaded and asked; each has a module with one function `load` that does it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sae_traits.config import DescribeConfig
from sae_traits.describers import Answer, Ask, Question
from sae_traits.describers.model import ModelDescriber
from sae_traits.errors import BackboneError, DescriberError

Answers = Callable[[Sequence[Question]], list[Answer]]
"""The answers to a batch of questions, in their order."""


@dataclass(frozen=True, kw_only=True)
class InProcess(ModelDescriber):
    """A model in this process; one batch is asked at a time."""

    in_flight = 1

    @staticmethod
    def revision_of(config: DescribeConfig) -> str:
        """The commit of a model on the Hub, or the hash of a local folder's weights.

        Raises:
            DescriberError: there is no such model, or the Hub cannot be reached.
        """
        from sae_traits.features.model_files import ModelFiles

        try:
            return ModelFiles.find(config.describer_model or "", config.describer_revision).revision
        except BackboneError as error:
            raise DescriberError(f"the describer's model {config.describer_model} cannot be used: {error}") from error

    @property
    def batch_size(self) -> int:
        """Questions that the model is given together."""
        return self.config.in_flight

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Ask]:
        """Load the model.

        Raises:
            DescriberError: the package that runs it is not installed, or it cannot be loaded.
        """
        answers = await asyncio.to_thread(_load, self)

        async def ask(questions: Sequence[Question]) -> list[Answer]:
            return await asyncio.to_thread(answers, questions)

        yield ask


def _load(describer: InProcess) -> Answers:
    if describer.name == "vllm":
        from sae_traits.describers.vllm_engine import load
    else:
        from sae_traits.describers.local import load
    return load(describer)
