"""What the tasks of an evaluation may read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_traits.evaluation.on_organism import ScoredRegion, score_regions
from sae_traits.schema import BackboneInfo, ChosenLatent, Collection, Trait
from sae_traits.traits.known_background import KnownBackground
from sae_traits.traits.table import read_traits
from sae_traits.vocabulary import RegionSource

if TYPE_CHECKING:
    from sae_traits.config.zero_shot import ZeroShotConfig
    from sae_traits.describers import Describer
    from sae_traits.evaluation.part_evidence import PartEvidence
    from sae_traits.evaluation.part_regions import Method
    from sae_traits.models.clip.model import CLIP
    from sae_traits.traits.contact_sheet import OpenPicture
    from sae_traits.traits.faithfulness import Faithfulness
    from sae_traits.traits.firing_shares import FiringShares
    from sae_traits.traits.ledger import Ledger
    from sae_traits.traits.plan import Plan


@dataclass(frozen=True)
class StoredTraits:
    """The traits of a file, read anew whenever they are gone through, so that never all of them are in memory."""

    file: Path
    """As `write_traits` wrote it."""

    def __iter__(self) -> Iterator[Trait]:
        return read_traits(self.file)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that an evaluation is made from, opened once; each task reads what it needs."""

    collection: Collection
    traits: Iterable[Trait]
    """Of all splits, in the order of the images; can be gone through several times."""
    backbone: BackboneInfo
    """Whose patches the regions are made of."""
    region_source: RegionSource
    latents: Sequence[ChosenLatent] = ()
    """That the traits have, each for the species that it describes; none for regions without latents."""
    annotation: Mapping[str, Any]
    """Counts of the annotation, as its `Annotation` names them."""
    background: KnownBackground | None = None
    """What was known of the photographs' backgrounds; None where regions have no latents."""
    sae: Mapping[str, Any] | None = None
    """Measures of the SAE, as its `SAEMetrics` names them; None where no SAE picked the regions."""
    ledger: Ledger | None = None
    """Open, and of the same annotation; with it the quality of the descriptions is assessed."""
    describer: Describer | None = None
    """Who made the descriptions; given with the ledger."""
    faithfulness: Faithfulness | None = None
    """Of a sample of the descriptions asked about again, where that was done."""
    clip: CLIP | None = None
    zero_shot: ZeroShotConfig | None = None
    """How the CLIP is asked; given with it."""
    embeddings: Path = Path("embeddings")
    """Folder in which image embeddings are kept from one evaluation to the next."""
    batch_size: int = 32
    """Images per forward pass."""
    workers: int = 0
    """Processes that read images; 0 reads them in this one."""
    part_evidence: PartEvidence | None = None
    """What the command `parts` measured of these regions, where that was done."""
    part_note: str | None = None
    """Why what it measured is not of these regions, where that is so."""
    part_methods: Callable[[bool], Mapping[str, Method]] | None = None
    """Gives the regions and codes of the run, and of its baselines, too, if that is asked; None where regions have no
    latents or labels."""
    plan_with: Callable[[Collection], Plan] | None = None
    """The regions that the run would have with other labels; given with the methods."""
    firing: Callable[[], FiringShares] | None = None
    """Gives how often the latents fire in each species; None where regions have no latents."""
    open_picture: OpenPicture
    """Gives a picture of an image to draw on, of any size and of the same shape."""

    @cached_property
    def scored_regions(self) -> list[ScoredRegion]:
        """How much of the regions lies on organisms, of images that have a mask or a box."""
        return score_regions(self.collection, self.traits, self.backbone)
