"""What all describers that ask a model have in common, wherever the model runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sae_traits.config import DescribeConfig
from sae_traits.describers import Answer, Question, TokenEstimate
from sae_traits.describers.answers import AnswerError, answer_schema, read_answer, schema_hash
from sae_traits.describers.prompts import Prompt
from sae_traits.describers.view import View
from sae_traits.errors import ConfigError
from sae_traits.schema import Region

CHARACTERS_A_TOKEN = 4
PIXELS_A_TOKEN = 28 * 28
ANSWER_TOKENS = 100
"""Assumptions of the estimate: English words; pictures as Qwen2.5-VL counts them; an answer with four attributes."""


@dataclass(frozen=True, kw_only=True)
class ModelDescriber:
    """Words, pictures and sampling of a describer that asks a model; its subclasses know where the model is."""

    config: DescribeConfig
    question: Prompt
    view: View
    model_name: str
    """As the server calls it, a local folder, or a Hub id."""
    revision: str

    @classmethod
    def of(cls, config: DescribeConfig) -> Self:
        """The describer of a configuration."""
        if config.describer_model is None:
            raise ConfigError(f"the describer {config.describer!r} needs --describer-model")
        several = config.images_per_description > 1
        return cls(
            config=config,
            question=Prompt.load(
                "agreement" if several else config.prompt, show=config.show, name_species=config.name_species
            ),
            view=View("whole" if config.prompt == "whole" else config.show),
            model_name=config.describer_model,
            revision=cls.revision_of(config),
        )

    @staticmethod
    def revision_of(config: DescribeConfig) -> str:
        """The revision to name in every row."""
        return config.describer_revision or "unstated"

    @property
    def name(self) -> str:
        """Kind of describer."""
        return self.config.describer

    @property
    def model(self) -> str:
        """Model and revision; of a model in a folder the folder's name, since its path says nothing to others."""
        folder = Path(self.model_name)
        name = folder.name if folder.is_absolute() or folder.is_dir() else self.model_name
        return f"{name}@{self.revision}"

    @property
    def prompt(self) -> str:
        """Name, version and hash of the prompt."""
        return self.question.label

    @property
    def reads_masks(self) -> bool:
        """A model is shown the photograph as it is."""
        return False

    @property
    def names_species(self) -> bool:
        """Whether the model is told the species."""
        return self.config.name_species

    @property
    def images_per_description(self) -> int:
        """Images that one answer is about, at most."""
        return self.config.images_per_description

    @property
    def look(self) -> View:
        """Makes the pictures."""
        return self.view

    @property
    def settings(self) -> dict[str, Any]:
        """Schema, sampling and pictures."""
        return {
            "schema": schema_hash(answer_schema()),
            "temperature": self.config.temperature,
            "max_tokens": self.config.max_tokens,
            **self.view.settings,
        }

    def estimate_tokens(self, images: Sequence[tuple[tuple[int, int], Region]]) -> TokenEstimate:
        """Words by their number of characters, pictures by their area; see the assumptions at the top."""
        pictures = [size for source, region in images for size in self.view.sizes(source, region)]
        words = len(self.question.fill(len(images))) // CHARACTERS_A_TOKEN
        return TokenEstimate(
            prompt=words + sum(width * height // PIXELS_A_TOKEN for width, height in pictures),
            answer=min(ANSWER_TOKENS, self.config.max_tokens),
        )

    def messages(self, question: Question) -> list[dict[str, Any]]:
        """The chat that asks a question, in OpenAI's form."""
        return self.question.messages(question.looks, question.species)

    def interpret(self, raw: str, *, is_cut_off: bool, usage: dict[str, int]) -> Answer:
        """The answer in what a model wrote; without a description where it cannot be used."""
        raw = sound_text(raw)
        if is_cut_off:
            error = f"the answer was cut off after {self.config.max_tokens} tokens; raise --max-tokens"
            return Answer(description=None, raw=raw, usage=usage, error=error)
        try:
            return Answer(description=read_answer(raw), raw=raw, usage=usage)
        except AnswerError as error:
            return Answer(description=None, raw=raw, usage=usage, error=str(error))


def sound_text(text: str) -> str:
    """A text without lone surrogates, which JSON can hold and neither SQLite nor Parquet can."""
    return text.encode(errors="replace").decode()
