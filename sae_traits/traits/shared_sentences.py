"""How many sentences are said of several species to the letter, so that they tell none from another?"""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class SharedSentences:
    """Sentences that were said of more than one species, letter for letter."""

    n_traits: int
    n_shared: int
    """Traits whose sentence was said of another species, too."""
    n_sentences: int
    """Different sentences."""
    n_shared_sentences: int
    n_species: int


class SentenceCounter:
    """Counts sentences as they come; it grows by a few bytes per trait, however long the sentences are."""

    def __init__(self) -> None:
        self._sentences, self._species = array("Q"), array("L")
        self._numbers: dict[str, int] = {}

    def add(self, sentence: str, species: str) -> None:
        """Count a sentence that was said of a species."""
        digest = hashlib.blake2b(sentence.encode(), digest_size=8).digest()
        self._sentences.append(int.from_bytes(digest))
        self._species.append(self._numbers.setdefault(species, len(self._numbers)))

    def count(self) -> SharedSentences:
        """What was counted so far."""
        species = np.array(self._species)
        different, sentence = np.unique(np.array(self._sentences), return_inverse=True)
        lowest, highest = np.full(len(different), len(self._numbers)), np.full(len(different), -1)
        np.minimum.at(lowest, sentence, species)
        np.maximum.at(highest, sentence, species)
        is_shared = lowest < highest
        return SharedSentences(
            n_traits=len(species),
            n_shared=int(np.count_nonzero(is_shared[sentence])),
            n_sentences=len(different),
            n_shared_sentences=int(np.count_nonzero(is_shared)),
            n_species=len(self._numbers),
        )
