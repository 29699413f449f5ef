"""What a whole run is going to take, known from the collection's listing and the configuration, before it is begun."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from sae_traits.config import RunConfig, TrainConfig
from sae_traits.describers import make_describer
from sae_traits.extraction import backbone_of, collect
from sae_traits.features.estimate import ExtractionEstimate, estimate_extraction, flops_per_image
from sae_traits.features.patches import patch_counts
from sae_traits.release.estimate import estimate_dataset
from sae_traits.runs.run import Run
from sae_traits.sae.estimate import TrainingEstimate, encoding_flops_per_patch, estimate_training
from sae_traits.sae.model import SAE
from sae_traits.sae.sweep import expand, parse_sweep
from sae_traits.schema import SPLITS, BackboneInfo, Collection
from sae_traits.traits.estimate import AnnotationEstimate, bound_annotation
from sae_traits.traits.label_free import without_labels

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
    """Computing speed of the machine, in 1e12 floating-point operations a second."""
    traits_per_image: int
    annotation: AnnotationEstimate
    dataset_bytes: int

    @property
    def n_traits(self) -> int:
        """At most."""
        return self.extraction.n_images * self.traits_per_image

    @property
    def flops(self) -> int:
        """Floating-point operations before the description, in all."""
        return self.feature_flops + (self.training.flops if self.training else 0) + self.code_flops

    @property
    def compute_hours(self) -> float:
        """For them, at the machine's speed."""
        return self.flops / (self.teraflops * 1e12) / 3600

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `--format json`."""
        totals = {"n_traits": self.n_traits, "flops": self.flops, "compute_hours": self.compute_hours}
        asking = {"n_open": self.annotation.n_open, "hours": self.annotation.hours, "money": self.annotation.money}
        return asdict(self) | totals | {"annotation": asdict(self.annotation) | asking}

    def lines(self) -> list[str]:
        """The estimate and its assumptions, for people."""
        features = self.extraction.lines()
        if not self.extraction.n_bytes:
            features = [*features[:2], "features    not kept, but computed from the images whenever they are read"]
        lines = [
            f"species     {self.n_species:,}",
            *features,
            *(self.training.lines() if self.training else ["training    none: the SAE is given"]),
            *self._computing(),
            f"traits      {self.n_traits:,} at most, {self.traits_per_image} an image; once there are codes, "
            "`sae-traits annotate RUN --estimate` counts them",
            *self.annotation.lines(),
        ]
        if self.annotation.n_calls < self.n_traits:
            lines.append(
                "            calls counted as if all images of a species had the same latents; at most one a trait"
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


def estimate_run(run: Run, *, teraflops: float) -> RunEstimate:
    """Read the collection and load the backbone, and say what everything else is going to take.

    Args:
        run: it may be new; only its collection is read and kept.
        teraflops: computing speed that the machine sustains, in 1e12 floating-point operations a second.

    Raises:
        CollectionError: the collection cannot be used.
        BackboneError: there is no such model or layer.
        ConfigError: options do not go together.
    """
    config = run.config
    describer = make_describer(config.describe)
    collect(run)
    collection = Collection.load(run.images_file)
    backbone = backbone_of(run)
    extraction = estimate_extraction(collection, backbone.info, config.features.dtype, run.activations)
    training, n_latents = None, config.train.n_latents
    if config.train.sae is not None:
        n_latents = SAE.from_pretrained(config.train.sae, revision=config.train.sae_revision).config.n_latents
    else:
        training = _training(config.train, collection, backbone.info)
    code_passes = _passes_for_codes(config)
    image_passes = 1.0
    if config.features.stream:
        extraction = replace(extraction, n_bytes=0, n_shards=0)
        image_passes = code_passes + (training.n_patches / extraction.n_patches if training else 0)
    traits_per_image = config.contrast.traits_per_image if _has_latents(config) else 1
    return RunEstimate(
        n_species=len({s.taxon.species for s in collection.images} - {None}),
        extraction=extraction,
        feature_flops=round(flops_per_image(backbone) * extraction.n_images * image_passes),
        training=training,
        code_flops=code_passes * extraction.n_patches * encoding_flops_per_patch(n_latents, backbone.info.d_model),
        teraflops=teraflops,
        traits_per_image=traits_per_image,
        annotation=bound_annotation(
            _as_described(config, collection).images, describer, config.describe, traits_per_image=traits_per_image
        ),
        dataset_bytes=estimate_dataset(collection, config.release, traits_per_image=traits_per_image),
    )


def _training(config: TrainConfig, collection: Collection, info: BackboneInfo) -> TrainingEstimate:
    varied = parse_sweep(config.sweep) if config.sweep is not None else {}
    counts = patch_counts((record for record in collection.images if record.split == "train"), info)
    return estimate_training(
        expand(replace(config, sweep=None), varied), d_model=info.d_model, n_different_patches=int(counts.sum())
    )


def _has_latents(config: RunConfig) -> bool:
    return config.contrast.regions not in ("gradcam", "whole")


def _passes_for_codes(config: RunConfig) -> int:
    """How often all patches are encoded: the quantile that a latent fires above takes a pass of its own."""
    if not _has_latents(config):
        return 0
    return 1 if config.contrast.contrast == "paper" or config.contrast.latents is not None else 2


def _as_described(config: RunConfig, collection: Collection) -> Collection:
    """The collection without the labels that the description does not see."""
    if config.contrast.latents is not None:
        return without_labels(collection, SPLITS)
    return without_labels(collection, ("validation", "test")) if config.contrast.label_free else collection


def _flop(flops: int) -> str:
    unit, size = next(((unit, size) for unit, size in _PREFIXES if flops >= size), _PREFIXES[-1])
    return f"{flops / size:,.1f} {unit}"
