"""The step `extract`: patch features of every image; all processes take part."""

from __future__ import annotations

from sae_traits.features.extract import extract as extract_features
from sae_traits.features.source import threads_of
from sae_traits.features.store import SHARDS
from sae_traits.runs.context import Context
from sae_traits.runs.record import Counts


def extract(context: Context) -> None:
    """Extract the features; with `stream` none are kept, and the step only makes sure that the backbone can be had."""
    config, collection, backbone = context.config.features, context.collection, context.backbone

    def work() -> Counts:
        if config.stream:
            n_patches = int(context.features.patch_counts().sum())
        else:
            n_patches = extract_features(
                collection,
                backbone,
                context.folder.activations,
                storage_dtype=config.storage_dtype,
                image_batch_size=config.image_batch_size,
                workers=config.workers,
                deterministic=config.deterministic,
            ).n_patches
        context.accelerator.wait_for_everyone()
        return {"n_patches": n_patches, "d_model": backbone.info.d_model}

    inputs = {
        "images": collection.digest("image_id", "sha256", "width", "height"),
        "backbone": backbone.info.to_dict(),
        "storage_dtype": config.storage_dtype,
        "stream": config.stream,
    } | threads_of(config.deterministic)
    outputs = [] if config.stream else [context.folder.activations]
    context.steps.do("extract", inputs, outputs, work, checked_by_readers=SHARDS)
