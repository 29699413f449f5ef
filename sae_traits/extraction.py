"""The first steps of a run: read the collection, and extract the features of its images, or say what that takes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from sae_traits import images
from sae_traits.config import FeaturesConfig
from sae_traits.errors import ConfigError
from sae_traits.features.backbone import Backbone, load_backbone, restore_backbone
from sae_traits.features.estimate import ExtractionEstimate, estimate_extraction
from sae_traits.features.extract import check_launch, extract
from sae_traits.features.source import FeatureSource, ImageSource
from sae_traits.features.store import FeatureStore
from sae_traits.io import write_csv
from sae_traits.logging import say
from sae_traits.runs.run import Run, opens
from sae_traits.sae.extractor import check_features
from sae_traits.sae.model import SAE
from sae_traits.schema import Collection


def extract_features(run: Run, accelerator: Accelerator | None = None) -> None:
    """Read the collection, then extract the features of every image (all processes take part).

    With `stream` no features are kept: the step only makes sure that the backbone can be had.
    """
    accelerator = accelerator or Accelerator()
    check_launch(accelerator.num_processes)
    if accelerator.is_main_process:
        collect(run)
    accelerator.wait_for_everyone()
    config = run.config.features
    collection = Collection.load(run.images_file)
    backbone = backbone_of(run)
    inputs = {
        "images": digest(collection, "image_id", "sha256", "width", "height"),
        "backbone": backbone.info.to_dict(),
        "dtype": config.dtype,
    }

    def work() -> dict[str, Any]:
        if config.stream:
            source = ImageSource(collection, backbone)
            return {"n_patches": int(source.patch_counts().sum()), "d_model": backbone.info.d_model}
        store = extract(
            collection,
            backbone,
            run.activations,
            dtype=config.dtype,
            image_batch_size=config.image_batch_size,
            workers=config.workers,
        )
        return {"n_patches": store.n_patches, "d_model": store.info.d_model}

    def is_complete() -> bool:
        return config.stream or opens(FeatureStore.open, run.activations)

    run.steps.do("extract", inputs, is_complete, work, keep_record=accelerator.is_main_process)
    accelerator.wait_for_everyone()


def estimate_features(run: Run) -> ExtractionEstimate:
    """Read the collection, and say how many bytes its features are going to take.

    Raises:
        ConfigError: with `stream` none are kept.
    """
    if run.config.features.stream:
        raise ConfigError(
            "with --stream no features are written, so there is nothing to estimate; leave out one of them"
        )
    collect(run)
    collection = Collection.load(run.images_file)
    return estimate_extraction(collection, backbone_of(run).info, run.config.features.dtype, run.activations)


def features_of(run: Run, collection: Collection) -> FeatureSource:
    """The features of a run: what was extracted, or, with `stream`, the images and the backbone."""
    config = run.config.features
    if not config.stream:
        return FeatureStore.open(run.activations)
    return ImageSource(collection, backbone_of(run), image_batch_size=config.image_batch_size, workers=config.workers)


def rows_of(collection: Collection, split: str) -> NDArray[np.int64]:
    """Rows of the images of a split, in their order `[n]`."""
    return np.array([row for row, s in enumerate(collection.images) if s.split == split], dtype=np.int64)


def digest(collection: Collection, *fields: str) -> str:
    """Hash of some fields of all images, in order."""
    found = hashlib.sha256()
    for record in collection.images:
        found.update(repr([getattr(record, field) for field in fields]).encode())
    return found.hexdigest()


def collect(run: Run) -> None:
    """Read the collection into RUN/images.parquet; a step of the run.

    Raises:
        CollectionError: it cannot be used.
    """
    config = run.config.collection
    listing = images.list_source(config)
    inputs = {"source": images.fingerprint(config, listing)}

    def work() -> dict[str, Any]:
        collection = images.read_collection(config, listing=listing, workers=run.config.features.workers)
        return _keep_collection(run, collection)

    run.steps.do("collect", inputs, run.images_file.is_file, work)


def _keep_collection(run: Run, collection: Collection) -> dict[str, Any]:
    collection.save(run.images_file)
    problems = [(problem.file, problem.reason) for problem in collection.problems]
    problems += [(pair.file, str(pair)) for pair in collection.near_identical]
    write_csv(run.problems_file, ["file", "reason"], problems)
    for problem in collection.problems[:5]:
        say(f"left out {problem.file}: {problem.reason}")
    if len(collection.problems) > 5:
        say(f"… and {len(collection.problems) - 5} more; all are in {run.problems_file}")
    return {
        "n_images": len(collection.images),
        "n_species": len({s.taxon.species for s in collection.images} - {None}),
        "n_problems": len(collection.problems),
        "n_near_identical": {
            differ: sum(pair.differ == differ for pair in collection.near_identical) for differ in ("split", "species")
        },
    }


def backbone_of(run: Run) -> Backbone:
    """The configured backbone; with --sae and nothing said about features, the one that the SAE was trained on."""
    features = run.config.features
    if run.config.train.sae is None:
        return load_backbone(features)
    sae = SAE.from_pretrained(run.config.train.sae, revision=run.config.train.sae_revision)
    default = FeaturesConfig()
    names = ("backbone", "revision", "layer", "framing")
    info = sae.config.backbone
    if info is not None and all(getattr(features, n) == getattr(default, n) for n in names):
        if features.precision != default.precision:
            check_features(sae, replace(info, precision=features.precision))
        return restore_backbone(info, device=features.device)
    backbone = load_backbone(features)
    check_features(sae, backbone.info)
    return backbone
