"""What cards say beside what rows and checkpoints show: how a run was made, what it wrote, under whose rights."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sae_traits import __version__
from sae_traits.config.describer import Describer as DescriberConfig
from sae_traits.describers import Describer
from sae_traits.errors import ReleaseError
from sae_traits.evaluation.results import Results
from sae_traits.images.bioscan import find_bioscan
from sae_traits.images.hub import is_hub_source
from sae_traits.io import write_text
from sae_traits.release.image_terms import Licenses
from sae_traits.release.tables import Images, Rows
from sae_traits.schema import BackboneInfo, Collection
from sae_traits.traits.known_background import KnownBackground
from sae_traits.traits.ledger import Ledger
from sae_traits.vocabulary import RegionSource

RELEASE_FILE = "release.json"
"""In a release by reference: the facts that its rows do not show, for `rehydrate`."""
BIOSCAN_ON_THE_HUB = "hf://datasets/bioscan-ml/BIOSCAN-5M"
MAX_REVISIONS = 5
"""Versions of the source that a card names."""


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
    """Waited for answers, all calls added up; many are waited for at the same time. `measured`, which looks and asks
    nobody, is waited for hardly at all: its work is in the seconds of the step."""
    tokens: Mapping[str, int]
    """As the model's server counted them, for example prompt_tokens; empty without a model."""
    cost: float | None = None
    """In the currency of the prices; None where no prices were given."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How a run was made; nothing of it names a place on the machine."""

    backbone: BackboneInfo
    regions: RegionSource = "sae"
    """What picked the regions."""
    dictionary_metrics: Mapping[str, Any] = field(default_factory=dict)
    """Of the SAE, or of the baseline in its place, for example mse, explained_variance, l0, dead_share."""
    contrast: Mapping[str, Any] = field(default_factory=dict)
    """The options by which latents were chosen; empty where regions have none."""
    contrast_in_words: str = ""
    """How it differs from the paper's; empty where nothing was contrasted."""
    latents: str | None = None
    """The dataset whose latents described all images, as if they had no labels; None where the run chose its own."""
    label_free: bool = False
    """Whether validation and test images were described as if they had no labels."""
    use_masks: bool = False
    """Whether colour and texture were measured on the animals' pixels alone, by the collection's masks."""
    describer: str
    describer_model: str
    prompt: str
    n_problems: int = 0
    """Files of the collection that could not be used."""
    n_across_splits: int = 0
    """Images of the collection that nearly equal one of another split, as its own splits have it."""
    command: str
    """The command line that made it."""
    source: Source | None = None
    background: KnownBackground | None = None
    """What was known of the photographs' backgrounds; None where regions have no latents."""
    significance: tuple[str, ...] = ()
    """Sentences on traits that are not significant, and on species without one that is."""
    calls: Calls | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Step -> seconds of the session that finished it; where it was done in shards, of all of them together."""
    note: str | None = None
    """Why the images show no real organisms; None for photographs."""
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
    """What was written into the tables of a dataset."""

    rows: Rows
    """Config -> split -> rows; only what is not empty."""
    n_bytes: Rows
    """The same in bytes of Arrow memory."""
    sha256: Mapping[str, str]
    """Config -> hash of its files: two datasets of the same shape are told apart by it."""
    n_traits: int
    n_images: int
    n_species: int
    n_described: int
    """Images with at least one trait."""
    n_significant: int
    """Traits whose contrast is significant."""
    n_latents: int
    """Different latents among the traits."""
    reference_ranks: Mapping[str, int]
    """Traits by what their species was contrasted with."""
    rights: tuple[Rights, ...]
    """Images by licence and rights holder, the most frequent first."""
    images: Images = "embed"
    """Whether the rows hold the images, or only say where they are."""
    n_without_url: int = 0
    """Images whose photograph has no address."""
    segments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Split -> the segments of its images, in the order of the collection."""


@dataclass(frozen=True, kw_only=True)
class Captions:
    """How the captions of a dataset were made."""

    describer: str
    describer_model: str
    prompt: str
    context: str | None
    """Name of the species table; None where there was none."""
    n_captions: int
    n_quarantined: int
    """Images whose caption is left out, or that got none."""
    flags: Mapping[str, int]
    """Images with each reason for that."""


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """What the card of a dataset says beside what its rows show."""

    title: str
    sae: str | None
    """As repository@revision, or the baseline in its place; None where regions have no latents."""
    longest_side: int
    """Pixels of the images of `default`, at most."""
    provenance: Provenance
    results: Results | None = None
    """Of the evaluation; None where there was none."""
    review: tuple[str, ...] = ()
    """What people made of some of its traits on blind sheets, as lines; empty where nobody has looked."""
    repo_id: str | None = None
    """Where the dataset will be on the Hub; None for a folder on this machine."""
    captions: Captions | None = None
    """None where there are none."""
    space_id: str | None = None
    """The static Space of its atlas; None where there is none."""
    segments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Those of the summary, for `rehydrate`: shards are named by hashes, which do not say their order."""

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        write_text(path, TypeAdapter(DatasetFacts).dump_json(self, indent=1).decode() + "\n")

    @classmethod
    def load(cls, path: Path) -> DatasetFacts:
        """Read what `save` wrote.

        Raises:
            ReleaseError: the file cannot be read, or is not of this version.
        """
        try:
            return TypeAdapter(cls).validate_python(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            first = error.errors()[0] if isinstance(error, ValidationError) else None
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
            raise ReleaseError(f"cannot read {path} ({reason}); fetch the dataset again") from error


@dataclass(frozen=True, kw_only=True)
class LatentPicture:
    """A picture of the strongest regions of a latent."""

    path: str
    """Relative to the folder of the SAE, with forward slashes."""
    latent: int
    species: str
    """One that it describes."""
    f_species: float
    """Share of the species' individuals in which it fires; of the species' firings with the paper's contrast."""
    f_reference: float
    """The same for its relatives (with the paper's contrast: for its genus)."""
    rights: tuple[Rights, ...]
    """Of the photographs in it."""


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What the card of an SAE says beside the SAE's own record; all of it may be unknown."""

    dataset_id: str | None = None
    """The image-trait dataset that is published with it: a Hub id."""
    dataset_title: str = ""
    license: str | None = None
    """Of the weights, in words or as the Hub names it."""
    licenses: Licenses = field(default_factory=dict)
    """Of the images that it was trained on, the most frequent first; empty where they are not known."""
    provenance: Provenance | None = None
    results: Results | None = None
    """Of the evaluation of the run; None where there was none."""
    gallery: tuple[LatentPicture, ...] = ()


def source_of(name: str, collection: Collection) -> Source:
    """Where the images of a collection came from, without its place on this machine."""
    is_remote = is_hub_source(name)
    revisions = Counter(record.source_revision for record in collection.images if record.source_revision)
    return Source(
        name=name if is_remote else Path(name).name,
        revisions=tuple(revision for revision, _ in revisions.most_common(MAX_REVISIONS)),
        is_bioscan=name.startswith(BIOSCAN_ON_THE_HUB) if is_remote else find_bioscan(Path(name)) is not None,
    )


def calls_of(ledger_file: Path, describer: Describer, config: DescriberConfig) -> Calls:
    """What the ledger has of a describer's calls; those with earlier settings of the same run are among them.

    The configuration has the prices of a million tokens, which are 0 where they are not known.
    """
    n_calls, n_attempts, seconds, tokens = 0, 0, 0.0, Counter[str]()
    with Ledger(ledger_file) as ledger:
        for entry in ledger:
            if (entry.describer, entry.model, entry.prompt) == (describer.name, describer.model, describer.prompt):
                n_calls, n_attempts, seconds = n_calls + 1, n_attempts + entry.attempts, seconds + entry.seconds
                tokens.update(entry.usage)
    paid = tokens["prompt_tokens"] * config.prompt_price + tokens["completion_tokens"] * config.answer_price
    used = {name: n for name, n in sorted(tokens.items()) if n}
    return Calls(
        n_calls=n_calls,
        n_attempts=n_attempts,
        seconds=seconds,
        tokens=used,
        cost=paid / 1e6 if used and (config.prompt_price or config.answer_price) else None,
    )
