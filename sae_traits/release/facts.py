"""What a dataset card says: what the rows show, and what only the run knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sae_traits import __version__
from sae_traits.evaluation.results import Results
from sae_traits.release.tables import Images
from sae_traits.schema import BackboneInfo, RegionSource


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the images came from."""

    name: str
    """Of the folder or table, or of the dataset on the Hub."""
    revisions: tuple[str, ...] = ()
    """Versions of it that the images name; empty where it has none."""
    is_bioscan: bool = False
    """Whether it is BIOSCAN-5M."""


@dataclass(frozen=True, kw_only=True)
class Calls:
    """What asking the describer took, in all sessions of the run."""

    n_calls: int
    n_attempts: int
    """How often they were sent."""
    seconds: float
    """Waited for answers, all calls added up; many are waited for at the same time."""
    tokens: Mapping[str, int]
    """As the model's server counted them, for example prompt_tokens; empty without a model."""
    cost: float | None = None
    """In the currency of the prices; None where no prices were given."""


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """What the card needs and the rows do not show."""

    backbone: BackboneInfo
    regions: RegionSource = "sae"
    """What picked the regions."""
    dictionary_metrics: Mapping[str, Any]
    """Of the SAE, or of the baseline in its place, for example mse, explained_variance, l0, dead_share."""
    contrast: Mapping[str, Any]
    """The options by which latents were chosen; empty where regions have none."""
    latents: str | None = None
    """The dataset whose latents described all images, as if they had no labels; None where the run chose its own."""
    label_free: bool = False
    """Whether validation and test images were described as if they had no labels."""
    use_masks: bool = False
    """Whether colour and texture were measured on the animals' pixels alone, by the collection's masks."""
    describer: str
    describer_model: str
    prompt: str
    n_problems: int
    """Files of the collection that could not be used."""
    n_across_splits: int = 0
    """Images of the collection that nearly equal one of another split, as its own splits have it."""
    command: str
    """The command line that made it."""
    source: Source | None = None
    calls: Calls | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Step -> seconds of the session that finished it."""
    results: Results | None = None
    """Of the evaluation; None where there was none."""
    drawn: bool = False
    """Whether the images are drawings of invented species."""
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
    n_images: int
    n_species: int
    n_described: int
    """Images with at least one trait."""
    n_significant: int
    """Traits whose contrast is significant."""
    n_latents: int
    """Different latents among the traits."""
    reference_ranks: dict[str, int]
    """Traits by what their species was contrasted with."""
    rights: tuple[Rights, ...]
    """Images by licence and rights holder, the most frequent first."""
    images: Images = "embed"
    """Whether the rows hold the images, or only say where they are."""
    n_without_url: int = 0
    """Images whose image has no address."""


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What the card of an SAE says beside the SAE's own record; all of it may be unknown."""

    dataset_id: str | None = None
    """The image-trait dataset that is published with it: a Hub id."""
    dataset_title: str = ""
    source: Source | None = None
    command: str | None = None
    """The command line of the run."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Step -> seconds of the session that finished it."""
    results: Results | None = None
    """Of the evaluation of the run; None where there was none."""
    gallery: Sequence[LatentPicture] = ()
    drawn: bool = False
    """Whether the images are drawings of invented species."""


@dataclass(frozen=True, kw_only=True)
class LatentPicture:
    """A picture of the strongest regions of a latent."""

    path: str
    """Relative to the folder of the SAE, with forward slashes."""
    latent: int
    species: str
    """One that it describes."""
    f_species: float
    """Share of the species' images in which it fires."""
    f_reference: float
    """The same for its relatives."""
    rights: tuple[Rights, ...]
    """Of the photographs in it."""
