"""Describers: anything that looks at a region of an image and says what it sees."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sae_traits.config import DescribeConfig
from sae_traits.schema import Description, Measurement, Region


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back from one call of a describer."""

    description: Description | None
    """None when the call failed or its answer could not be understood."""
    raw: str
    """The answer as it came, for the ledger."""
    usage: dict[str, int] = field(default_factory=dict)
    """What the call cost, for example prompt_tokens; empty where nothing is counted."""
    error: str | None = None
    """Why there is no description."""


class Describer(Protocol):
    """Describes one region of one image. What identifies it goes into the ledger's keys and into every row."""

    @property
    def name(self) -> str:
        """Kind of describer, for example `measured`."""
        ...

    @property
    def model(self) -> str:
        """Model and revision, as model@revision."""
        ...

    @property
    def prompt(self) -> str:
        """Version and hash of the prompt, or of the rules where there is no prompt."""
        ...

    def describe(self, image: NDArray[np.uint8], region: Region, measurement: Measurement) -> Answer:
        """Say what is in a region.

        Args:
            image: upright RGB source image `[height, width, 3]`.
            region: where to look, in pixels of `image`.
            measurement: what was measured on the region.
        """
        ...


def make_describer(config: DescribeConfig) -> Describer:
    """The describer that a configuration names."""
    from sae_traits.traits.describers.measured import Measured

    assert config.describer == "measured"
    return Measured()
