"""The images of a benchmark as its models see them: by a CLIP, whose embeddings are kept, or by the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sae_traits.config.benchmark import BenchmarkConfig
from sae_traits.config.tree import public_name
from sae_traits.errors import ConfigError
from sae_traits.evaluation.benchmarks.embeddings import read_embeddings, write_embeddings
from sae_traits.evaluation.benchmarks.examined import Examined
from sae_traits.evaluation.benchmarks.inputs import BenchmarkTask, EmbeddedImages, Inputs
from sae_traits.evaluation.prompts import unit_length
from sae_traits.images.cache import safe_name


def find_models(config: BenchmarkConfig) -> None:
    """Look for every model, of which only the configuration is fetched; a BackboneError where there is none."""
    from sae_traits.models.clip.model import find_clip  # loads torch

    for model in config.clip:
        find_clip(model, revision=config.revision)


def embedded_images(
    config: BenchmarkConfig, task: BenchmarkTask, inputs: Inputs, examined: Examined | None, out: Path
) -> Iterator[EmbeddedImages]:
    """Yield the images as every model sees them, one model after the other."""
    if not task.needs_models:
        yield EmbeddedImages(name=public_name(str(config.images)), images=np.empty((len(inputs.rows), 0), np.float32))
        return
    if config.embeddings is not None:
        yield _own_embeddings(config, inputs)
        return
    assert examined is not None
    for model in config.clip:
        yield _embedded(model, config, task, examined, out)


def _own_embeddings(config: BenchmarkConfig, inputs: Inputs) -> EmbeddedImages:
    """What the user has embedded, with the texts of the CLIP that is given beside it."""
    path = Path(str(config.embeddings))
    found, about = read_embeddings(path, [row.file for row in inputs.rows])
    images = unit_length(found)
    if not config.clip:
        return EmbeddedImages(name=path.name, info=about, images=images)
    from sae_traits.models.clip.model import load_clip

    clip = load_clip(config.clip[0], revision=config.revision, framing=config.framing, device=config.device)
    if about.get("revision", clip.info.revision) != clip.info.revision:
        raise ConfigError(
            f"{path} was made by {about.get('model')} ({about['revision']}), and --clip is {config.clip[0]} "
            f"({clip.info.revision}); images and texts must be embedded by one model"
        )
    name = f"{public_name(config.clip[0])} ({path.name})"
    info = clip.info.to_dict() | {"model": public_name(config.clip[0])}
    return EmbeddedImages(name=name, info=info, images=images, texts=clip, logit_scale=clip.logit_scale)


def _embedded(
    model: str, config: BenchmarkConfig, task: BenchmarkTask, examined: Examined, out: Path
) -> EmbeddedImages:
    """Embed the images by a CLIP, of which those that are kept are not opened again; and keep them in one file."""
    from sae_traits.evaluation.embedding import embed_collection, fingerprint  # loads torch
    from sae_traits.models.clip.model import load_clip

    clip = load_clip(model, revision=config.revision, framing=config.framing, device=config.device)
    head: Any = task.head if task.head in clip.info.heads else clip.info.heads[0]
    name, folder = public_name(model), out / "embeddings"
    images = embed_collection(
        clip,
        examined.collection,
        range(len(examined.collection.images)),
        cache=folder,
        batch_size=config.image_batch_size,
        workers=config.workers,
        head=head,
    )
    ids = [row.file for row in examined.labelled.rows]
    about = {"model": name, "revision": clip.info.revision, "head": head}
    file = f"{safe_name(Path(name).name)}-{head}-{fingerprint(clip.info, head)[:8]}.safetensors"
    write_embeddings(folder / file, images, ids, about)
    info = clip.info.to_dict() | {"model": name, "head": head}
    return EmbeddedImages(name=name, info=info, images=images, texts=clip, logit_scale=clip.logit_scale)
