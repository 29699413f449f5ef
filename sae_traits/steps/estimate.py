"""What a run is going to take, or a step of it, as far as it is known before it is begun."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from sae_traits.config import Regions, SpecimenContrast, TrainConfig
from sae_traits.config.regions import RegionsOfLatents
from sae_traits.features.backbone import patch_counts
from sae_traits.features.estimate import ExtractionEstimate, estimate_extraction, flops_per_image
from sae_traits.release.dataset import estimate_dataset
from sae_traits.runs.context import Context
from sae_traits.sae.estimate import TrainingEstimate, encoding_flops_per_patch, estimate_training
from sae_traits.sae.sweep import expand, parse_sweep
from sae_traits.schema import BackboneInfo, Collection
from sae_traits.traits.estimate import AnnotationEstimate, bound_annotation, estimate_annotation
from sae_traits.traits.plan import without_labels

_PREFIXES = (("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6))


@dataclass(frozen=True, kw_only=True)
class RunEstimate:
    """What a run reads, computes, asks and writes; what is described is a bound, until codes say how much there is."""

    n_species: int
    extraction: ExtractionEstimate
    """Of 0 bytes where no features are kept."""
    feature_flops: int
    """Of the backbone, over all its passes through the images; 0 where none are counted (`texture`)."""
    training: TrainingEstimate | None
    """None where an SAE is adopted."""
    code_flops: int
    teraflops: float
    """Computing speed of the machine, in 1e12 floating-point operations per second."""
    traits_per_image: int
    annotation: AnnotationEstimate
    dataset_bytes: int

    @property
    def n_traits(self) -> int:
        """Traits that there are at most."""
        return self.extraction.n_images * self.traits_per_image

    @property
    def flops(self) -> int:
        """Floating-point operations before the description, in all."""
        return self.feature_flops + (self.training.flops if self.training else 0) + self.code_flops

    @property
    def compute_hours(self) -> float:
        """Hours of these operations at the machine's speed."""
        return self.flops / (self.teraflops * 1e12) / 3600

    def to_dict(self) -> dict[str, Any]:
        totals = {"n_traits": self.n_traits, "flops": self.flops, "compute_hours": self.compute_hours}
        asking = {"n_open": self.annotation.n_open, "hours": self.annotation.hours, "money": self.annotation.money}
        return asdict(self) | totals | {"annotation": asdict(self.annotation) | asking}

    def lines(self) -> list[str]:
        features = self.extraction.lines()
        if not self.extraction.n_bytes:
            features = [*features[:2], "features    not kept, but computed from the images whenever they are read"]
        lines = [
            f"species     {self.n_species:,}",
            *features,
            *(self.training.lines() if self.training else ["training    none: the SAE is given"]),
            *self._computing(),
            f"traits      {self.n_traits:,} at most, {self.traits_per_image} per image; once there are codes, "
            "`sae-traits annotate RUN --estimate` counts them",
            *self.annotation.lines(),
        ]
        if self.annotation.n_calls < self.n_traits:
            lines.append(
                "            calls counted as if all images of a species had the same latents; at most one per trait"
            )
        return [*lines, f"dataset     {self.dataset_bytes / 1e9:,.3f} GB with so many traits"]

    def _computing(self) -> list[str]:
        parts = [f"features {_flop(self.feature_flops)}" if self.feature_flops else "features not counted"]
        if self.training:
            parts.append(f"training {_flop(self.training.flops)}")
        if self.code_flops:
            parts.append(f"codes {_flop(self.code_flops)}")
        speed = f"at {self.teraflops:g} TFLOP/s, where images are read fast enough"
        return [f"computing   {', '.join(parts)}", f"            {self.compute_hours:,.2f} hours {speed}"]


def estimate_run(context: Context, *, teraflops: float) -> RunEstimate:
    """Load the backbone, and say what everything after `collect` takes on a machine of so many TFLOP/s."""
    config, collection, backbone = context.config, context.collection, context.backbone
    extraction = estimate_features(context)
    if isinstance(config.train, TrainConfig):
        training, n_latents = _training(config.train, collection, backbone.info), config.train.n_latents
    else:
        assert context.adopted_sae is not None
        training, n_latents = None, context.adopted_sae.config.n_latents
    code_passes = _passes_for_codes(config.regions)
    image_passes = 1.0
    if config.features.stream:
        extraction = replace(extraction, n_bytes=0, n_shards=0)
        image_passes = code_passes + (training.n_patches / extraction.n_patches if training else 0)
    traits_per_image = config.regions.traits_per_image if isinstance(config.regions, RegionsOfLatents) else 1
    return RunEstimate(
        n_species=len({record.taxon.species for record in collection.images} - {None}),
        extraction=extraction,
        feature_flops=round(flops_per_image(backbone) * extraction.n_images * image_passes),
        training=training,
        code_flops=code_passes * extraction.n_patches * encoding_flops_per_patch(n_latents, backbone.info.d_model),
        teraflops=teraflops,
        traits_per_image=traits_per_image,
        annotation=bound_annotation(
            without_labels(collection, config.regions.unlabelled_splits).images,
            context.describer,
            config.describer,
            traits_per_image=traits_per_image,
        ),
        dataset_bytes=estimate_dataset(collection, config.release, traits_per_image=traits_per_image),
    )


def estimate_features(context: Context) -> ExtractionEstimate:
    """How many bytes the features of a run are going to take."""
    info, dtype = context.backbone.info, context.config.features.storage_dtype
    return estimate_extraction(context.collection, info, dtype, context.folder.activations)


def estimate_descriptions(context: Context) -> AnnotationEstimate:
    """What describing the regions of an encoded run would cost; asks nothing."""
    with context.open_ledger() as ledger:
        return estimate_annotation(context.plan, context.describer, ledger, context.config.describer)


def _training(config: TrainConfig, collection: Collection, info: BackboneInfo) -> TrainingEstimate:
    varied = parse_sweep(config.sweep) if config.sweep is not None else {}
    counts = patch_counts((record for record in collection.images if record.split == "train"), info)
    return estimate_training(
        expand(replace(config, sweep=None), varied), d_model=info.d_model, n_different_patches=int(counts.sum())
    )


def _passes_for_codes(regions: Regions) -> int:
    """How often all patches are encoded: the quantile that a latent fires above takes a pass of its own."""
    if not isinstance(regions, RegionsOfLatents):
        return 0
    return 2 if isinstance(regions.contrast, SpecimenContrast) else 1


def _flop(flops: int) -> str:
    unit, size = next(((unit, size) for unit, size in _PREFIXES if flops >= size), _PREFIXES[-1])
    return f"{flops / size:,.1f} {unit}"
