"""The encoding step of a run: what picks its regions is made ready, and the plan that follows from it.

That is the SAE, or a baseline to compare it with (`--regions`): another dictionary, which goes the same way as the SAE
and is kept in RUN/baselines, Grad-CAM of the backbone's own classifier, or the whole image.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from sae_traits.config import RunConfig
from sae_traits.errors import CheckpointError, ConfigError
from sae_traits.extraction import rows_of
from sae_traits.features.backbone import choose_device
from sae_traits.features.gradcam import load_classifier, load_gradcam, refuse_without_weights
from sae_traits.features.model_files import ModelFiles
from sae_traits.features.source import FeatureSource
from sae_traits.io import replacing
from sae_traits.logging import say
from sae_traits.runs.run import Run, opens
from sae_traits.sae.baselines import BaselineName, allowed_n_latents, fit_baseline
from sae_traits.sae.model import CONFIG_FILE, SAE
from sae_traits.schema import SPLITS, Collection
from sae_traits.training import measure_on_held_out
from sae_traits.traits.annotate import AnnotationPlan, Plan, plan_annotation
from sae_traits.traits.encode import Codes, encode_collection, firing_thresholds
from sae_traits.traits.image_regions import plan_gradcam, plan_whole, write_class_maps
from sae_traits.traits.label_free import without_labels
from sae_traits.traits.released_latents import ReleasedLatents
from sae_traits.unlabelled import check_sae, released_latents

BASELINE_PATCHES = 100_000
"""A baseline is fitted to at most this many patches, of random training images; see the times in `baselines`."""


def check_regions(config: RunConfig) -> None:
    """Before the long steps: whether the backbone has the classifier that Grad-CAM needs.

    Raises:
        BackboneError: it has none.
    """
    # The backbone of an SAE that was trained elsewhere is known once the features are there.
    if config.contrast.regions == "gradcam" and config.train.sae is None:
        refuse_without_weights(config.features.backbone)
        load_classifier(ModelFiles.find(config.features.backbone, config.features.revision))


def encode(run: Run, collection: Collection, source: FeatureSource) -> None:
    """Find where each latent fires in each image, or where Grad-CAM's classifier looks; a step of the run.

    Raises:
        BackboneError: Grad-CAM, and the backbone has no classifier.
    """
    check_regions(run.config)  # before the step begins, so that a refusal leaves the run as it was
    config = run.config.contrast
    released = released_latents(config)
    inputs = {"train": run.steps.fingerprint("train"), "regions": config.regions}
    match config.regions:
        case "whole":
            run.steps.do("encode", inputs, lambda: True, dict)
        case "gradcam":
            run.steps.do(
                "encode", inputs, run.class_maps_file.is_file, lambda: _write_class_maps(run, collection, source)
            )
        case _:
            if released is not None:
                firing = {"latents": released.digest}
            elif config.contrast == "paper":
                firing = {"threshold": config.firing_threshold}
            else:
                firing = {"quantile": config.firing_quantile}

            def is_complete() -> bool:
                assert run.dictionary is not None
                return (run.dictionary / CONFIG_FILE).is_file() and opens(Codes.open, run.codes)

            run.steps.do(
                "encode", inputs | firing, is_complete, lambda: _write_codes(run, collection, source, released)
            )


def plan_regions(run: Run, collection: Collection, source: FeatureSource) -> Plan:
    """Which regions are described, from what `encode` made."""
    config = run.config.contrast
    if (released := released_latents(config)) is not None:
        unnamed = without_labels(collection, SPLITS)
        return AnnotationPlan(unnamed, Codes.open(run.codes), source.info, config, released)
    if config.label_free:
        collection = without_labels(collection, ("validation", "test"))
    match config.regions:
        case "whole":
            return plan_whole(collection, source.info)
        case "gradcam":
            return plan_gradcam(
                collection,
                source.info,
                run.class_maps_file,
                smallest_region=config.smallest_region,
                box_margin=config.box_margin,
            )
        case _:
            return plan_annotation(collection, Codes.open(run.codes), source.info, config)


def load_dictionary(run: Run) -> SAE | None:
    """The SAE, or the baseline that stands in for it; None where regions have no latents.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    return SAE.from_pretrained(run.dictionary) if run.dictionary is not None else None


def _write_class_maps(run: Run, collection: Collection, source: FeatureSource) -> dict[str, Any]:
    features = run.config.features
    return write_class_maps(
        collection,
        load_gradcam(source.info, choose_device(features.device)),
        run.class_maps_file,
        image_batch_size=features.image_batch_size,
        workers=features.workers,
    )


def _write_codes(
    run: Run, collection: Collection, source: FeatureSource, released: ReleasedLatents | None
) -> dict[str, Any]:
    config = run.config.contrast
    device = choose_device(run.config.features.device)
    if config.regions != "sae":
        assert config.regions not in ("gradcam", "whole")
        _make_baseline(run, config.regions, collection, source, device)
    dictionary = load_dictionary(run)
    assert dictionary is not None
    dictionary.to(device)
    if released is not None:
        check_sae(released, dictionary, str(run.dictionary))
        thresholds = released.thresholds(dictionary.config.n_latents)
    elif config.contrast == "paper":
        thresholds = np.full(dictionary.config.n_latents, config.firing_threshold, dtype=np.float32)
    else:
        training = np.array([s.split == "train" for s in collection.images])
        thresholds = firing_thresholds(dictionary, source, training, config.firing_quantile)
    codes = encode_collection(dictionary, source, thresholds, run.codes)
    return {"n_latents_used": int(np.isfinite(codes.thresholds).sum()), "n_parts": len(codes.parts)}


def _make_baseline(
    run: Run, name: BaselineName, collection: Collection, source: FeatureSource, device: torch.device
) -> None:
    """Fit a baseline to a random sample of the training features, measure it and keep it, unless that is done."""
    folder, config = run.dictionary, run.config.train
    assert folder is not None
    training = rows_of(collection, "train")
    if not len(training):
        raise ConfigError(f"there are no training images to fit --regions {name} to; lower the shares of the others")
    settings = f"{source.fingerprint} {config.n_latents} {config.k} {config.seed} {BASELINE_PATCHES}"
    fitted_to = hashlib.sha256(settings.encode() + training.tobytes()).hexdigest()[:16]
    if folder.exists():
        try:
            if SAE.from_pretrained(folder).config.training.get("fitted_to") == fitted_to:
                return
        except CheckpointError as error:
            say(f"{error}; the baseline is fitted again")
    patches = _sample_patches(source, training, config.seed)
    sae = fit_baseline(
        name,
        patches,
        allowed_n_latents(name, config.n_latents, d_model=source.info.d_model, n_patches=len(patches)),
        k=config.k,
        seed=config.seed,
        backbone=source.info,
    )
    sae.config = replace(sae.config, training=sae.config.training | {"fitted_to": fitted_to})
    measure_on_held_out([sae], source, collection, device)
    with replacing(folder) as partial:
        sae.save_pretrained(partial)


def _sample_patches(source: FeatureSource, training: np.ndarray, seed: int) -> torch.Tensor:
    """All patches of random training images, at most BASELINE_PATCHES `[n, d_model]`."""
    order = np.random.default_rng(seed).permutation(training)
    n_until = np.cumsum(source.patch_counts()[order])
    n_images = max(1, int(np.searchsorted(n_until, BASELINE_PATCHES, side="right")))
    return torch.cat([shard.features.float() for shard in source.shards(np.sort(order[:n_images]))])
