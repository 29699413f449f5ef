"""The configuration of a whole run: one section per kind of decision."""

from __future__ import annotations

from dataclasses import dataclass, field

from sae_traits.config.collection import CollectionConfig
from sae_traits.config.describer import Describer, Measured
from sae_traits.config.features import FeaturesConfig
from sae_traits.config.options import check, variant
from sae_traits.config.regions import Regions, SAERegions
from sae_traits.config.release import ReleaseConfig
from sae_traits.config.train import Train, TrainConfig
from sae_traits.config.zero_shot import ZeroShotConfig
from sae_traits.vocabulary import SPLITS


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole run, as in RUN/config.yaml."""

    collection: CollectionConfig = field(default_factory=CollectionConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    train: Train = variant(TrainConfig, "Train a new SAE, or use one as it is.")
    regions: Regions = variant(SAERegions, "What picks the regions.")
    describer: Describer = variant(Measured, "Who describes the regions.")
    release: ReleaseConfig = field(default_factory=ReleaseConfig)
    zero_shot: ZeroShotConfig | None = variant(None, "Whether the traits help a CLIP model; only with --clip.")

    def __post_init__(self) -> None:
        check(
            self.collection.labels or self.regions.unlabelled_splits == SPLITS,
            "photographs without labels need latents of a dataset: sae-traits predict PHOTOGRAPHS --latents DATASET",
        )
        check(
            not (self.regions.unlabelled_splits and self.describer.names_species),
            "--name-species would tell the describer the labels that --label-free and --latents keep from it; "
            "leave out one of them",
        )
