"""The step `encode`: where each latent of the SAE, or of a baseline in its place, fires in each image."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sae_traits.config import GradCAMRegions, ReleasedLatents, WholeImage
from sae_traits.config.regions import RegionsOfLatents
from sae_traits.config.tree import as_dict
from sae_traits.errors import ConfigError
from sae_traits.features.backbone import choose_device
from sae_traits.features.background import PatchBackground
from sae_traits.features.gradcam import load_gradcam
from sae_traits.io import write_whole
from sae_traits.runs.background import (
    background_inputs,
    background_kind,
    background_of,
    find_background,
)
from sae_traits.runs.baselines import make_baseline
from sae_traits.runs.context import Context
from sae_traits.runs.names import hash_of_published_sae
from sae_traits.runs.record import Counts
from sae_traits.runs.sharding import Shard, ShardedStep, do_sharded
from sae_traits.traits.class_maps import write_class_maps
from sae_traits.traits.codes import INDEX_FILE, Codes
from sae_traits.traits.encode import VERSION, encode_collection, encode_parts, join_parts, training_weights
from sae_traits.traits.plan import thresholds_of
from sae_traits.traits.released_latents import check_sae


def encode(context: Context) -> None:
    """Find where latents fire, or where Grad-CAM's classifier looks; the whole image needs neither.

    Raises:
        BackboneError: Grad-CAM, and the backbone has no classifier.
        CheckpointError: latents of a dataset are those of another SAE.
        ConfigError: there are no training images to fit a baseline to.
    """
    regions, folder = context.config.regions, context.folder
    if context.part is not None and not isinstance(regions, RegionsOfLatents):
        raise ConfigError(f"--regions {regions.kind} has no codes to make in shards; give `sae-traits encode` without")
    match regions:
        case WholeImage():
            context.steps.do("encode", {"regions": regions.kind}, [], dict)
        case GradCAMRegions():
            gradcam = load_gradcam(context.backbone.info, choose_device(context.config.features.device))
            features = context.config.features

            def write_maps() -> Counts:
                return write_class_maps(
                    context.collection,
                    gradcam,
                    folder.class_maps,
                    image_batch_size=features.image_batch_size,
                    workers=features.workers,
                )

            context.steps.do("encode", {"regions": regions.kind}, [folder.class_maps], write_maps)
        case _:
            do_sharded(context.steps, folder, context.part, _codes_step(context, regions))


def _codes_step(context: Context, regions: RegionsOfLatents) -> ShardedStep:
    """Codes of all images; the dictionary of a baseline, thresholds and what is background are for all of them."""
    folder = context.folder
    outputs = [folder.codes]
    if (dictionary := context.dictionary_folder) not in (None, folder.sae):
        outputs.append(dictionary)
    if background_kind(regions) in ("auto", "released"):
        outputs.append(folder.background)
    prepared = folder.shards("encode") / "thresholds.npy"

    def prepare() -> Iterator[Path]:
        thresholds, _ = _prepare(context, regions)
        buffer = io.BytesIO()
        np.save(buffer, thresholds)
        write_whole(prepared, buffer.getvalue())
        yield prepared
        if folder.background.is_file():
            yield folder.background

    def shard(part: Shard) -> Iterator[Path]:
        (folder.codes / INDEX_FILE).unlink(missing_ok=True)
        assert context.dictionary is not None
        yield from encode_parts(
            context.dictionary.to(choose_device(context.config.features.device)),
            context.features,
            np.load(prepared),
            folder.codes,
            part.share_of(len(context.features.units)),
            background=background_of(context, regions),
            made_of=context.steps.fingerprint_of("encode", _inputs(context, regions)),
        )

    def join(files: Mapping[str, list[Any]]) -> Counts:
        codes = join_parts(
            folder.codes,
            len(context.features.units),
            np.load(prepared),
            training_weights(context.collection.images),
            (context.features.info.rows, context.features.info.columns),
            background=background_of(context, regions),
        )
        return _counts(codes, regions)

    return ShardedStep(
        name="encode",
        inputs=_inputs(context, regions),
        outputs=outputs,
        whole=lambda: _write_codes(context, regions),
        prepare=prepare,
        shard=shard,
        join=join,
    )


def _inputs(context: Context, regions: RegionsOfLatents) -> dict[str, Any]:
    """What decides the codes: whose latents, and above which activation each fires."""
    contrast = as_dict(regions.contrast)
    names = ("kind", "firing_quantile", "firing_threshold")
    firing = {name: contrast[name] for name in names if name in contrast}
    if isinstance(regions.contrast, ReleasedLatents):
        assert context.released_latents is not None
        firing["latents"] = context.released_latents.digest
    individuals = context.collection.digest("individual_id", "split")
    background = list(background_inputs(context, regions))
    return {
        "version": VERSION, "regions": regions.kind, "firing": firing, "individuals": individuals,
        "background": background,
    }  # fmt: skip


def _prepare(context: Context, regions: RegionsOfLatents) -> tuple[NDArray[np.float32], PatchBackground | None]:
    """What all images share: the dictionary is made, where it is a baseline; thresholds, and what is background."""
    device = choose_device(context.config.features.device)
    if context.dictionary_folder != context.folder.sae:
        make_baseline(context, regions.kind)
    dictionary = context.dictionary
    assert dictionary is not None
    if (released := context.released_latents) is not None:
        check_sae(released, str(context.dictionary_folder), dictionary.weights_hash(), hash_of_published_sae)
    thresholds = thresholds_of(regions.contrast, dictionary.to(device), context.features, context.collection, released)
    return thresholds, find_background(context, regions, thresholds)


def _write_codes(context: Context, regions: RegionsOfLatents) -> Counts:
    thresholds, background = _prepare(context, regions)
    dictionary = context.dictionary
    assert dictionary is not None
    codes = encode_collection(
        dictionary,
        context.features,
        thresholds,
        context.folder.codes,
        background=background,
        weights=training_weights(context.collection.images),
    )
    dictionary.cpu()
    return _counts(codes, regions)


def _counts(codes: Codes, regions: RegionsOfLatents) -> Counts:
    return {
        "n_latents_used": int(np.isfinite(codes.thresholds).sum()),
        "n_parts": len(codes.parts),
        "background": background_kind(regions) if codes.backgrounds else None,
    }
