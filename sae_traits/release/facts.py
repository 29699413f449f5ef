"""What a dataset card says: what the rows show, and what only the run knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sae_traits import __version__
from sae_traits.schema import BackboneInfo


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """What the card needs and the rows do not show."""

    backbone: BackboneInfo
    sae_metrics: Mapping[str, Any]
    """For example mse, explained_variance, l0, dead_share."""
    contrast: Mapping[str, Any]
    """The options by which latents were chosen."""
    describer: str
    describer_model: str
    prompt: str
    n_problems: int
    """Files of the collection that could not be used."""
    command: str
    """The command line that made it."""
    drawn: bool = False
    """Whether the specimens are drawings of invented species."""
    repo_id: str | None = None
    """Where the dataset will be on the Hub; None for a folder on this machine."""
    version: str = __version__
    """Of the toolkit."""


@dataclass(frozen=True, slots=True)
class Rights:
    """One licence and rights holder, and how many images they hold for."""

    license: str | None
    rights_holder: str | None
    n_images: int


@dataclass(frozen=True, kw_only=True)
class DatasetSummary:
    """What was written."""

    rows: dict[str, dict[str, int]]
    """Config -> split -> rows; only what is not empty."""
    n_traits: int
    n_specimens: int
    n_species: int
    n_described: int
    """Specimens with at least one trait."""
    n_significant: int
    """Traits whose contrast is significant."""
    n_latents: int
    """Different latents among the traits."""
    reference_ranks: dict[str, int]
    """Traits by what their species was contrasted with."""
    rights: tuple[Rights, ...]
    """Images by licence and rights holder, the most frequent first."""
