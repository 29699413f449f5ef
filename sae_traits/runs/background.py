"""What a run knows of the backgrounds of its photographs: learnt from them, or read off the collection's masks."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from sae_traits.config.regions import LatentRegions, RegionsOfLatents, ReleasedLatents
from sae_traits.errors import BackboneError, ConfigError
from sae_traits.features.background import MIN_INDIVIDUALS, Background, learn_background
from sae_traits.features.store import FeatureShard
from sae_traits.images.decode import open_mask
from sae_traits.io import hash_of_file
from sae_traits.logging import say, warn
from sae_traits.runs.context import Context
from sae_traits.schema import BackboneInfo, Collection
from sae_traits.traits.encode import BackgroundOfShard


def background_kind(regions: LatentRegions) -> str:
    """How the background is found; latents of a dataset were chosen before, so for them it is not looked for."""
    contrast = regions.contrast if isinstance(regions, RegionsOfLatents) else None
    return "off" if isinstance(contrast, ReleasedLatents) else regions.background


def find_background(context: Context, regions: LatentRegions) -> BackgroundOfShard | None:
    """Learn what is background, say how well it is known, and keep it in the run's folder.

    Returns:
        What gives the probability of background; None where it is not looked for, or nothing can be learnt.

    Raises:
        BackboneError: the backbone cannot be had any more.
        CollectionError: a mask cannot be read.
        ConfigError: masks are to be used and no image has one.
    """
    path = context.folder.background
    path.unlink(missing_ok=True)
    if background_kind(regions) == "auto":
        try:
            backbone = context.backbone
        except BackboneError as error:
            raise BackboneError(f"{error}; to go on without it, leave out what it learns: --background off") from error
        background = learn_background(context.collection, backbone, context.features)
        background.save(path)
        if not background.is_known:
            warn(_why_unknown(background, context.collection))
        else:
            say(f"background: edges and middles of photographs told apart with an AUC of {background.separation:.2f}")
    return background_of(context, regions)


def background_of(context: Context, regions: LatentRegions) -> BackgroundOfShard | None:
    """What gives the probability of background, as `find_background` left it.

    Raises:
        ConfigError: masks are to be used and no image has one.
        StoreError: what was learnt is missing or damaged.
    """
    info = context.features.info
    match background_kind(regions):
        case "masks":
            if not any(record.mask_file for record in context.collection.images):
                raise ConfigError(
                    "--background masks, but no image of the collection has a mask; name their files in the column "
                    "mask_file of a table, or use --background auto"
                )
            return partial(_outside_masks, context.collection, info)
        case "auto":
            background = Background.open(context.folder.background)
            return partial(background.of_shard, info=info) if background.is_known else None
        case _:
            return None


def background_digest(context: Context, regions: LatentRegions) -> str:
    """Hash of what decides the probability of background: what was learnt, or the masks."""
    match background_kind(regions):
        case "auto":
            return hash_of_file(context.folder.background)
        case "masks":
            return context.collection.digest("mask_file")
        case _:
            return ""


def _why_unknown(background: Background, collection: Collection) -> str:
    n_individuals = len({record.individual_id for record in collection.images if record.split == "train"})
    if n_individuals < MIN_INDIVIDUALS:
        why = f"{n_individuals} individuals to train on are too few (at least {MIN_INDIVIDUALS}) to learn what it is"
    else:
        why = (
            f"photographs look alike at their edges and in their middles (AUC {background.separation:.2f}), so the "
            "organism fills them or lies anywhere"
        )
    return f"background: {why}; no latent is left out for it, and regions may lie on it (look at regions.png)"


def _outside_masks(collection: Collection, info: BackboneInfo, shard: FeatureShard) -> NDArray[np.float32]:
    """Share of each patch outside its image's mask `[n_patches]`, NaN where the image has none."""
    shares = []
    for number, row in enumerate(shard.images.tolist()):
        record, patches = collection.images[row], shard.of(number)[1]
        mask = collection.mask_path(record)
        outside = np.full(len(patches), np.nan)
        if mask is not None:
            outside = 1 - info.grid((record.width, record.height)).patch_means(open_mask(mask))[patches]
        shares.append(outside)
    return np.concatenate(shares).astype(np.float32) if shares else np.empty(0, np.float32)
