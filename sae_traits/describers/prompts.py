"""Prompts: versioned files, so that every row of a dataset names the exact words that its description came from.

A file that was used in a release is never edited: new words are a new file with the next version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Literal

import yaml

FILES = Path(__file__).with_name("prompt_files")
PHRASES_FILE = "phrases-1.yaml"
PromptName = Literal["region", "agreement", "whole", "latent"]
VERSIONS: dict[PromptName, int] = {"region": 1, "agreement": 1, "whole": 1, "latent": 1}
"""The version of each prompt that is used now."""
_OF_SEVERAL: tuple[PromptName, ...] = ("agreement", "latent")
Show = Literal["overlay", "crop", "both"]
Pictures = tuple[str, ...]
"""What is shown of one image: images as data URLs."""


@dataclass(frozen=True)
class Prompt:
    """The words that go with pictures of one image, or of several."""

    name: str
    version: int
    text: str
    """`$n_images` stands for the number of images."""
    species_line: str | None
    """`$species` stands for the name; None where the species is not told."""
    told_words: str = ""
    """Words that introduce what else is told of an image, where anything is."""

    @classmethod
    def load(cls, name: PromptName, *, show: Show, name_species: bool) -> Prompt:
        """The current version of a prompt: `region` for one image, `agreement` for several of a species, `latent` for
        several of any species, `whole` without a region.

        `show` says what the pictures are, for the words that introduce them, which `whole` has not.
        """
        version = VERSIONS[name]
        text = (FILES / f"{name}-{version}.md").read_text(encoding="utf-8").strip()
        phrases = yaml.safe_load((FILES / PHRASES_FILE).read_text(encoding="utf-8"))
        shown = phrases.get("agreement" if name in _OF_SEVERAL else name, {})
        text = Template(text).safe_substitute(shown=shown.get(show, ""))
        return cls(name, version, text, phrases["species"] if name_species else None)

    @property
    def label(self) -> str:
        """Name, version and hash of all words, as in the column `prompt`."""
        words = f"{self.text}\n{self.species_line or ''}{self.told_words}"
        return f"{self.name}-{self.version} sha256:{hashlib.sha256(words.encode()).hexdigest()[:16]}"

    def fill(self, n_images: int) -> str:
        """The words for a number of images."""
        return Template(self.text).safe_substitute(n_images=f"{n_images} image{'s' if n_images > 1 else ''}")

    def messages(self, images: Sequence[Pictures], species: str | None, told: str = "") -> list[dict[str, Any]]:
        """A chat of one message in OpenAI's form: the words first, which servers keep in a cache, then the pictures."""
        content: list[dict[str, Any]] = [{"type": "text", "text": self.fill(len(images))}]
        content += [{"type": "text", "text": told}] if told else []
        for number, pictures in enumerate(images, start=1):
            if self.name in _OF_SEVERAL:
                content.append({"type": "text", "text": f"Image {number}:"})
            content += [{"type": "image_url", "image_url": {"url": picture}} for picture in pictures]
        if self.species_line is not None and species is not None:
            content.append({"type": "text", "text": Template(self.species_line).substitute(species=species)})
        return [{"role": "user", "content": content}]
