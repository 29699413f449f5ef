"""The step `encode`: where each latent of the SAE, or of a baseline in its place, fires in each image."""

from __future__ import annotations

import numpy as np

from sae_traits.config import GradCAMRegions, ReleasedLatents, WholeImage
from sae_traits.config.regions import LatentRegions, RegionsOfLatents
from sae_traits.config.tree import as_dict
from sae_traits.features.backbone import choose_device
from sae_traits.features.gradcam import load_gradcam
from sae_traits.runs.background import background_inputs, background_kind, find_background
from sae_traits.runs.baselines import make_baseline
from sae_traits.runs.context import Context
from sae_traits.runs.record import Counts
from sae_traits.traits.class_maps import write_class_maps
from sae_traits.traits.encode import encode_collection, training_weights
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
    match regions:
        case WholeImage():
            context.steps.do("encode", {"regions": regions.kind}, [], dict)
        case GradCAMRegions():
            gradcam = load_gradcam(context.features.info, choose_device(context.config.features.device))
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
        case LatentRegions():
            outputs = [folder.codes]
            if (dictionary := context.dictionary_folder) not in (None, folder.sae):
                outputs.append(dictionary)
            if background_kind(regions) in ("auto", "released"):
                outputs.append(folder.background)
            context.steps.do("encode", _inputs(context, regions), outputs, lambda: _write_codes(context, regions))


def _inputs(context: Context, regions: RegionsOfLatents) -> Counts:
    """What decides the codes: whose latents, and above which activation each fires."""
    contrast = as_dict(regions.contrast)
    names = ("kind", "firing_quantile", "firing_threshold")
    firing = {name: contrast[name] for name in names if name in contrast}
    if isinstance(regions.contrast, ReleasedLatents):
        assert context.released_latents is not None
        firing["latents"] = context.released_latents.digest
    individuals = context.collection.digest("individual_id", "split")
    background = list(background_inputs(context, regions))
    return {"regions": regions.kind, "firing": firing, "individuals": individuals, "background": background}


def _write_codes(context: Context, regions: RegionsOfLatents) -> Counts:
    device = choose_device(context.config.features.device)
    if context.dictionary_folder != context.folder.sae:
        make_baseline(context, regions.kind)
    dictionary = context.dictionary
    assert dictionary is not None
    if (released := context.released_latents) is not None:
        check_sae(released, str(context.dictionary_folder), dictionary.weights_hash(), context.hash_of_published_sae)
    thresholds = thresholds_of(regions.contrast, dictionary.to(device), context.features, context.collection, released)
    codes = encode_collection(
        dictionary,
        context.features,
        thresholds,
        context.folder.codes,
        background=find_background(context, regions),
        weights=training_weights(context.collection.images),
    )
    dictionary.cpu()
    return {
        "n_latents_used": int(np.isfinite(codes.thresholds).sum()),
        "n_parts": len(codes.parts),
        "background": background_kind(regions) if codes.backgrounds else None,
    }
