"""Captions: what a describer is asked to say of a whole photograph, and what it is told of the organism in it.

Reference text on the species settles terms and nothing else; examples show the form that captions of a class have.
Source: BioCAP (Imageomics/biocap, caption_gen), in words of our own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from string import Template
from typing import cast

import yaml

from sae_traits.config.describer import Describer as DescriberConfig
from sae_traits.config.describer import Measured
from sae_traits.describers import make_describer
from sae_traits.describers.answers import OF_CAPTIONS
from sae_traits.describers.base import Answer, Ask, Describer, Question
from sae_traits.describers.measured import MeasuredDescriber
from sae_traits.describers.model import ModelDescriber
from sae_traits.describers.prompts import FILES, Prompt
from sae_traits.describers.species_context import SpeciesContexts
from sae_traits.describers.view import View
from sae_traits.errors import ConfigError
from sae_traits.images.table_files import read_columns
from sae_traits.schema import Taxon

VERSION = 1
"""Of the prompt's file."""
MAX_REFERENCE = 600
"""Characters of reference text that a describer is shown, as in BioCAP."""
_EXAMPLE_NAMES = ("examples", "example", "format_example", "caption", "description")


def make_captioner(config: DescriberConfig) -> Describer:
    """The describer of a configuration, asked for captions of whole photographs.

    Raises:
        ConfigError: it has no model, and is not `measured`.
        DescriberError: its model does not exist, or cannot be reached.
    """
    if isinstance(config, Measured):
        return MeasuredCaptioner()
    describer = make_describer(config)
    if not isinstance(describer, ModelDescriber):
        raise ConfigError(f"--describer {describer.name} describes regions and captions no image; choose another one")
    words = _words()
    told = "\n".join(words[name] for name in ("name", "examples", "reference"))
    prompt = Prompt("caption", VERSION, words["text"], species_line=None, told_words=told)
    return cast(Describer, replace(describer, question=prompt, look=View("whole"), form=OF_CAPTIONS))


@cache
def _words() -> dict[str, str]:
    return yaml.safe_load((FILES / f"caption-{VERSION}.yaml").read_text(encoding="utf-8"))


class MeasuredCaptioner(MeasuredDescriber):
    """Captions without a model: a species' name, and what was measured on all of the photograph."""

    @property
    def prompt(self) -> str:
        return f"caption-{VERSION} {super().prompt}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Ask]:
        async with super().open() as ask:

            async def name_and_ask(questions: Sequence[Question]) -> list[Answer]:
                return [_named(a, q.species) for q, a in zip(questions, await ask(questions), strict=True)]

            yield name_and_ask


def _named(answer: Answer, species: str | None) -> Answer:
    described = answer.description
    if described is None or species is None:
        return answer
    text = f"{species}: {described.text[:1].lower()}{described.text[1:]}"
    return replace(answer, description=replace(described, text=text, attributes=()))


@dataclass(frozen=True)
class Guidance:
    """What a describer is told of the organism in a photograph."""

    contexts: SpeciesContexts = field(default_factory=SpeciesContexts)
    examples: Mapping[str, str] | None = None
    """Class, in small letters -> examples of captions; None where there are none to go by."""

    @classmethod
    def read(cls, contexts: Path | None, examples: Path | None) -> Guidance:
        """Read a table of species and a table of examples.

        Raises:
            ConfigError: a table cannot be read, lacks a column, or says two things of the same species.
        """
        return cls(
            SpeciesContexts() if contexts is None else SpeciesContexts.read(contexts),
            None if examples is None else _read_examples(examples),
        )

    def lacks_examples(self, taxon: Taxon) -> bool:
        """Whether there are examples, and none of this taxon's class."""
        return self.examples is not None and (taxon.class_ or "").lower() not in self.examples

    def told(self, taxon: Taxon) -> str:
        """The words about a taxon; none where nothing is known of it."""
        words, parts = _words(), []
        if taxon.species is not None:
            parts.append(Template(words["name"]).substitute(name=taxon.species))
        if self.examples is not None and not self.lacks_examples(taxon):
            examples = self.examples[(taxon.class_ or "").lower()]
            parts.append(Template(words["examples"]).substitute(class_name=taxon.class_, examples=examples))
        if (context := self.contexts.of(taxon)) is not None:
            parts.append(Template(words["reference"]).substitute(reference=shortened(context.text)))
        return "\n\n".join(parts)


def shortened(text: str) -> str:
    """The beginning of a text, up to MAX_REFERENCE characters and the end of a word."""
    return text if len(text) <= MAX_REFERENCE else text[: MAX_REFERENCE + 1].rsplit(maxsplit=1)[0]


def _read_examples(path: Path) -> dict[str, str]:
    wanted = {"class": ("class",), "examples": _EXAMPLE_NAMES}
    found: dict[str, list[str]] = {}
    for row in read_columns(path, wanted, tuple(wanted), what="examples of captions"):
        if row["class"] and row["examples"]:
            found.setdefault(row["class"].lower(), []).append(row["examples"])
    if not found:
        raise ConfigError(f"{path} has no class with examples")
    return {name: "\n".join(said) for name, said in found.items()}
