"""Do the traits help a vision-language model to recognise species? The protocol is that of `evaluate_zero_shot`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sae_traits.config.zero_shot import ZeroShotConfig
from sae_traits.evaluation.evidence import Evidence
from sae_traits.evaluation.prompts import TextEncoder
from sae_traits.evaluation.text import lacks_common_name, name_class, rank_traits, read_common_names, read_templates
from sae_traits.evaluation.zero_shot import evaluate_zero_shot
from sae_traits.evaluation.zero_shot_results import ZeroShotResult
from sae_traits.images.names import binomial
from sae_traits.logging import warn
from sae_traits.schema import Collection, Trait


class ZeroShot:
    """Classifies test images with texts made of names, and of traits of training images."""

    name, heading, result = "zero_shot", "Zero-shot classification", ZeroShotResult

    def run(self, evidence: Evidence) -> ZeroShotResult | None:
        """Embed the labelled validation and test images (kept on disk) and run the protocol.

        None without a CLIP, and where no image has a label, as in a run of `predict`.

        Raises:
            CollectionError: no image is of the split test, there are no two species, or no trait.
            ConfigError: no class name fits into the model's context, or the common names cannot be read.
        """
        clip, config, collection = evidence.clip, evidence.zero_shot, evidence.collection
        labelled = [row for row, record in enumerate(collection.images) if record.taxon.species is not None]
        if clip is None or config is None or not labelled:
            return None
        from sae_traits.evaluation.embedding import embed_collection  # loads torch

        rows = [row for row in labelled if collection.images[row].split != "train"]
        images = embed_collection(
            clip, collection, rows, cache=evidence.embeddings, batch_size=evidence.batch_size, workers=evidence.workers
        )
        result = evaluate_collection(clip, images, rows, collection, evidence.traits, config)
        return replace(result, model=clip.info.to_dict())

    def lines(self, result: ZeroShotResult) -> list[str]:
        """Say the top-1 accuracy of every condition, and whether it means anything."""
        scores = ", ".join(f"{condition.name} {condition.top1}" for condition in result.conditions)
        return [f"zero-shot {scores}", *([f"          {result.verdict}"] if result.verdict else [])]


def evaluate_collection(
    clip: TextEncoder,
    images: NDArray[np.float32],
    rows: Sequence[int],
    collection: Collection,
    traits: Iterable[Trait],
    config: ZeroShotConfig,
    seed: int = 0,
) -> ZeroShotResult:
    """Evaluate labelled images `[n_rows, embed_dim]`: classes are all species of the collection, traits of train."""
    records = [collection.images[row] for row in rows]
    # Of its first image.
    taxa = {record.species: record.taxon for record in reversed(collection.images) if record.taxon.species is not None}
    taxa = dict(sorted(taxa.items()))
    common_names = read_common_names(Path(config.common_names)) if config.common_names else {}
    if unknown := sorted(common_names.keys() - set(map(binomial, taxa))):
        warn(
            f"{len(unknown)} of {len(common_names)} names in {config.common_names} are of no species here, "
            f"such as {unknown[0]!r}"
        )
    result = evaluate_zero_shot(
        clip,
        images,
        [record.species for record in records],
        [record.split for record in records],
        rank_traits(collection, traits),
        individuals=[record.individual_id for record in records],
        names={species: name_class(taxon, config.text_type, common_names) for species, taxon in taxa.items()},
        templates=read_templates(config.templates),
        trait_text=config.trait_text,
        seed=seed,
    )
    settings = asdict(config) | result.settings
    nameless = tuple(species for species in taxa if lacks_common_name(species, config.text_type, common_names))
    return replace(result, settings=settings, without_common_name=nameless)
