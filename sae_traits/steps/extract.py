"""The step `extract`: patch features of every image; all processes of a launcher take part, or each makes a shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sae_traits.features.extract import Extraction
from sae_traits.features.extract import extract as extract_features
from sae_traits.features.source import threads_of
from sae_traits.features.store import SHARDS
from sae_traits.runs.context import Context
from sae_traits.runs.record import Counts
from sae_traits.runs.sharding import Shard, ShardedStep, do_sharded


def extract(context: Context) -> None:
    """Extract the features; with `stream` none are kept, and the step only makes sure that the backbone can be had."""
    config, collection, backbone = context.config.features, context.collection, context.backbone
    names = ("storage_dtype", "image_batch_size", "workers", "deterministic")
    settings = {name: getattr(config, name) for name in names}

    def counts(n_patches: int) -> Counts:
        return {"n_patches": n_patches, "d_model": backbone.info.d_model}

    def whole() -> Counts:
        if config.stream:
            n_patches = int(context.features.patch_counts().sum())
        else:
            n_patches = extract_features(collection, backbone, context.folder.activations, **settings).n_patches
        context.accelerator.wait_for_everyone()
        return counts(n_patches)

    extraction = Extraction(collection, backbone, context.folder.activations, **settings)

    def shard(part: Shard) -> Iterator[Path]:
        if not config.stream:
            yield from extraction.write(part.share_of(len(extraction.units)))

    def join(files: Mapping[str, list[Any]]) -> Counts:
        if config.stream:
            return whole()
        return counts(
            extraction.join({Path(file).name: (state[0], state[2]) for file, state in files.items()}).n_patches
        )

    inputs = {
        "images": collection.digest("image_id", "sha256", "width", "height"),
        "backbone": backbone.info.identity(),
        "storage_dtype": config.storage_dtype,
        "stream": config.stream,
    } | threads_of(config.deterministic)
    step = ShardedStep(
        name="extract",
        inputs=inputs,
        outputs=[] if config.stream else [context.folder.activations],
        whole=whole,
        shard=shard,
        join=join,
        options={"checked_by_readers": SHARDS},
    )
    do_sharded(context.steps, context.folder, context.part, step)
