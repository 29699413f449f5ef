"""What all describers that ask a vision-language model have in common, wherever the model runs."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from sae_traits.config.describer import ModelDescriberConfig
from sae_traits.config.tree import public_name
from sae_traits.describers.answers import OF_REGIONS, AnswerError, AnswerForm, schema_hash
from sae_traits.describers.base import Answer, Ask, Question, TokenEstimate
from sae_traits.describers.patience import Doubt
from sae_traits.describers.prompts import Prompt
from sae_traits.describers.view import View
from sae_traits.errors import BackboneError, DescriberError, one_line, without_secrets
from sae_traits.schema import Region

CHARACTERS_A_TOKEN = 4
PIXELS_A_TOKEN = 28 * 28
ANSWER_TOKENS = 100
"""Assumptions of the estimate: English words; pictures as Qwen2.5-VL counts them; an answer with four attributes."""
CUT_OFF = "the answer was cut off"
"""How the reason begins that an answer which is too long for --max-tokens cannot be used."""

Answers = Callable[[Sequence[Question]], list[Answer]]
"""The answers to a batch of questions, in their order."""


@dataclass(frozen=True, kw_only=True)
class ModelDescriber:
    """Words, pictures and sampling of a describer that asks a model; its subclasses know where the model is."""

    name: ClassVar[str]
    reads_masks: ClassVar = False
    """A model is shown the photograph as it is."""
    withhold: ClassVar = None
    """A model's sentences are its own."""

    config: ModelDescriberConfig
    question: Prompt
    look: View
    """Makes the pictures."""
    revision: str
    form: AnswerForm = OF_REGIONS
    """Of its answers."""

    @classmethod
    def of(cls, config: ModelDescriberConfig) -> Self:
        """The describer of a configuration; errors as of `revision_of`."""
        prompt = "agreement" if config.images_per_description > 1 else config.prompt
        return cls(
            config=config,
            question=Prompt.load(prompt, show=config.show, name_species=config.name_species),
            look=View("whole" if config.prompt == "whole" else config.show),
            revision=cls.revision_of(config),
        )

    def for_latents(self, n_images: int) -> Self:
        """The same model, asked what regions of several species have in common, so many images per question."""
        config = replace(self.config, images_per_description=n_images, name_species=False)
        return replace(self, config=config, question=Prompt.load("latent", show=config.show, name_species=False))

    @staticmethod
    def revision_of(config: ModelDescriberConfig) -> str:
        """The revision to name in every row."""
        return config.revision or "unstated"

    @property
    def model(self) -> str:
        """Model and revision; of a model in a folder the folder's name, since its path says nothing to others."""
        return f"{public_name(self.config.model)}@{self.revision}"

    @property
    def prompt(self) -> str:
        return self.question.label

    @property
    def names_species(self) -> bool:
        return self.config.name_species

    @property
    def images_per_description(self) -> int:
        return self.config.images_per_description

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "schema": schema_hash(self.form.schema),
            "temperature": self.config.temperature,
            "max_tokens": self.config.max_tokens,
            **self.look.settings,
        }

    def estimate_tokens(self, images: Sequence[tuple[tuple[int, int], Region]], told: str = "") -> TokenEstimate:
        """Words by their number of characters, pictures by their area; see the assumptions at the top."""
        pictures = [size for source, region in images for size in self.look.sizes(source, region)]
        words = (len(self.question.fill(len(images))) + len(told)) // CHARACTERS_A_TOKEN
        return TokenEstimate(
            prompt=words + sum(width * height // PIXELS_A_TOKEN for width, height in pictures),
            answer=min(ANSWER_TOKENS, self.config.max_tokens),
        )

    def messages(self, question: Question) -> list[dict[str, Any]]:
        return self.question.messages(question.looks, question.species, question.told)

    def interpret(self, raw: str, *, is_cut_off: bool, usage: dict[str, int]) -> Answer:
        """The answer in what a model wrote; without a description where it cannot be used."""
        raw = without_secrets(sound_text(raw))
        if is_cut_off:
            error = f"{CUT_OFF} after {self.config.max_tokens} tokens; raise --max-tokens"
            return Answer(description=None, raw=raw, usage=usage, error=error)
        try:
            return Answer(description=self.form.read(raw), raw=raw, usage=usage)
        except AnswerError as error:
            return Answer(description=None, raw=raw, usage=usage, error=one_line(error))

    def doubting(self, ask: Ask) -> Ask:
        """The same, until too many answers in a row cannot be used."""
        doubt = Doubt(self.config.max_consecutive_unusable)

        async def ask_or_stop(questions: Sequence[Question]) -> Sequence[Answer]:
            doubt.check()
            answers = await ask(questions)
            doubt.see(answers)
            return answers

        return ask_or_stop


@dataclass(frozen=True, kw_only=True)
class InProcessDescriber(ModelDescriber, ABC):
    """A model that is loaded into this process and answers in batches, one batch at a time."""

    in_flight: ClassVar = 1
    advice: ClassVar[str]
    """What to do where the model fails."""

    @property
    def batch_size(self) -> int:
        return self.config.in_flight

    @staticmethod
    def revision_of(config: ModelDescriberConfig) -> str:
        """The commit of a model on the Hub, or the hash of a folder's weights; a DescriberError where there is none."""
        from sae_traits.features.model_files import ModelFiles

        try:
            return ModelFiles.find(config.model, config.revision).revision
        except BackboneError as error:
            raise DescriberError(f"the describer's model {config.model} cannot be used: {error}") from error

    @abstractmethod
    def load(self) -> Answers:
        """Load the model; a DescriberError where the package that runs it is not installed, or it cannot be loaded."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Ask]:
        with self._errors_in_one_line():
            answers = await asyncio.to_thread(self.load)

        async def ask(questions: Sequence[Question]) -> list[Answer]:
            with self._errors_in_one_line():
                return await asyncio.to_thread(answers, questions)

        yield self.doubting(ask)

    @contextmanager
    def _errors_in_one_line(self) -> Iterator[None]:
        """Turn what a model raises that lacks memory, or is asked too much, into a DescriberError."""
        try:
            yield
        except (RuntimeError, ValueError) as error:
            reason = f"the model {self.config.model} fails with {self.config.in_flight} questions at a time"
            raise DescriberError(f"{reason}: {one_line(error)}; {self.advice}") from error


def sound_text(text: str) -> str:
    """A text without lone surrogates, which JSON can hold and neither SQLite nor Parquet can."""
    return text.encode(errors="replace").decode()
