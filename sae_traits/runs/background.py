"""What a run knows of the backgrounds of its photographs: learnt from them or in an earlier run, or read off masks."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sae_traits.config.regions import RegionsOfLatents, ReleasedLatents, SpecimenContrast
from sae_traits.errors import BackboneError, ConfigError
from sae_traits.evaluation.part_truth import opened_mask
from sae_traits.features.background import (
    MIN_INDIVIDUALS,
    MIN_OF_A_KIND,
    MIN_SEPARATION,
    VERSION,
    Background,
    PatchBackground,
    learn_background,
)
from sae_traits.features.store import FeatureShard
from sae_traits.io import hash_of_file
from sae_traits.logging import say, warn
from sae_traits.runs.context import Context
from sae_traits.runs.folder import RunFolder
from sae_traits.sae.model import SAE
from sae_traits.schema import BackboneInfo, Collection
from sae_traits.traits.chosen import ON_BACKGROUND
from sae_traits.traits.known_background import KnownBackground
from sae_traits.traits.organism_patches import MIN_PATCHES, with_organism

_KNOWN = "learnt what the organism looks like from patches where latents of a species agree"
_NOT_RELEASED = "what the run of the dataset of --latents knew of it, if it did, is not there or of another SAE"
_UNKNOWN = (
    f"fewer than {MIN_PATCHES} patches surely show the organism, or surely do not, which is too few to learn what it "
    "looks like; regions are held to where latents agree in each photograph"
)


def background_kind(regions: RegionsOfLatents) -> str:
    """How the background is found: auto (learnt), masks or off; with latents of a run's dataset as `released` there."""
    if (run := _run_of_latents(regions)) is None:
        return regions.background
    return "released" if regions.background == "auto" and run.background.is_file() else "off"


def _run_of_latents(regions: RegionsOfLatents) -> RunFolder | None:
    """The run that made the dataset of --latents, or a folder of no run where it lies in none; None without it."""
    if not isinstance(regions.contrast, ReleasedLatents):
        return None
    dataset = Path(regions.contrast.latents).resolve()
    run = RunFolder(dataset.parent)
    return run if run.dataset == dataset else RunFolder(run.dataset)


def find_background(
    context: Context, regions: RegionsOfLatents, thresholds: NDArray[np.float32]
) -> PatchBackground | None:
    """Learn what is background, say how well it is known, and keep it in the run's folder.

    Where labels are contrasted, too, what the organism looks like is learnt besides, from patches where latents agree.

    Args:
        thresholds: above which activation each latent fires `[n_latents]`.

    Returns:
        What tells which patches show background; None where it is not looked for, or nothing can be learnt.

    Raises:
        BackboneError: the backbone cannot be had any more.
        CollectionError: a mask cannot be read.
        ConfigError: masks are to be used and no image has one.
    """
    path = context.folder.background
    path.unlink(missing_ok=True)
    if background_kind(regions) == "released":
        _taken_over(context, regions).save(path)
    elif background_kind(regions) == "auto":
        try:
            backbone = context.backbone
        except BackboneError as error:
            raise BackboneError(f"{error}; to go on without it, leave out what it learns: --background off") from error
        background = learn_background(context.collection, backbone, context.features)
        if not background.is_known:
            why = _why_unknown(background, context.collection)
            warn(f"background: {why}; no latent is left out for it, and regions may lie on it (look at regions.png)")
        else:
            say(f"background: edges and middles of photographs told apart with an AUC of {background.separation:.2f}")
            if isinstance(regions.contrast, SpecimenContrast):
                assert context.dictionary is not None
                images = context.collection.images
                background = with_organism(background, context.dictionary, context.features, thresholds, images)
                say(f"background: {_KNOWN if background.organism else _UNKNOWN}")
        background.save(path)
    return background_of(context, regions)


def _taken_over(context: Context, regions: RegionsOfLatents) -> Background:
    """What was learnt in the run that made the dataset of the latents, unless it has another SAE by now."""
    run = _run_of_latents(regions)
    assert run is not None
    assert context.dictionary is not None
    if SAE.from_pretrained(run.sae).weights_hash() == context.dictionary.weights_hash():
        return Background.open(run.background)
    warn(f"background: {run.path} has another SAE than its dataset, so what it learnt of backgrounds is not used")
    return Background.unknown(context.features.info.d_model)


def background_of(context: Context, regions: RegionsOfLatents) -> PatchBackground | None:
    """What tells which patches show background, as `find_background` left it.

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
            return PatchBackground(partial(_outside_masks, context.collection, info))
        case "auto" | "released":
            return Background.open(context.folder.background).of_patches(info)
        case _:
            return None


def background_inputs(context: Context, regions: RegionsOfLatents) -> tuple[str, str | None]:
    """How the background is found, and what decides it besides the photographs: labels, masks, or an earlier run."""
    match kind := background_kind(regions):
        case "masks":
            return kind, context.collection.digest("mask_file")
        case "released":
            run = _run_of_latents(regions)
            assert run is not None
            return kind, hash_of_file(run.background)
        case "auto":
            labels = context.collection.digest("taxon") if isinstance(regions.contrast, SpecimenContrast) else ""
            return kind, f"version {VERSION} {labels}".strip()
        case _:
            return kind, None


def known_background(context: Context) -> KnownBackground | None:
    """What an annotated run knew of its backgrounds, and what it left out for it; None where it has no latents.

    Raises:
        StoreError: what was learnt is missing or damaged.
    """
    regions = context.config.regions
    if not isinstance(regions, RegionsOfLatents):
        return None
    kind, learnt = background_kind(regions), None
    if kind in ("auto", "released"):
        learnt = Background.open(context.folder.background)
    is_known = kind == "masks" or (learnt is not None and learnt.is_known)
    counts = context.steps.counts("annotate")
    return KnownBackground(
        is_known=is_known,
        how=_said_of(regions, learnt, context.collection),
        by_masks=kind == "masks",
        separation=learnt.separation if learnt is not None and not math.isnan(learnt.separation) else None,
        n_latents=context.steps.counts("encode")["n_latents_used"],
        n_left_out=sum(ON_BACKGROUND in reason for reason in counts["dropped_latents"]),
        mean_by_species=counts["mean_background"],
        only_on_background=counts.get("species_only_on_background", {}),
    )


def _said_of(regions: RegionsOfLatents, learnt: Background | None, collection: Collection) -> str:
    """A sentence: what told background from organism, or why nothing did."""
    kind = background_kind(regions)
    if kind == "masks":
        return "What lies outside the masks of the collection is background (--background masks)."
    if learnt is None:
        return f"Background is not known: {'--background off' if regions.background == 'off' else _NOT_RELEASED}."
    if not learnt.is_known:
        why = _why_unknown(learnt, collection) if kind == "auto" else _NOT_RELEASED
        return f"Background is not known: {why}."
    whose = "" if kind == "auto" else " in the run that made the dataset of --latents"
    organism = ", and what the organism looks like was learnt, too" if learnt.organism else ""
    return (
        f"Edges and middles of photographs were told apart{whose} with an AUC of {learnt.separation:.2f} (0.5 is "
        f"chance, and below {MIN_SEPARATION} nothing is left out){organism}."
    )


def background_digest(context: Context, regions: RegionsOfLatents) -> str:
    """Hash of what decides the probability of background: what was learnt, or the masks."""
    match background_kind(regions):
        case "auto" | "released":
            return hash_of_file(context.folder.background)
        case "masks":
            return context.collection.digest("mask_file")
        case _:
            return ""


def _why_unknown(background: Background, collection: Collection) -> str:
    """Why what was learnt of a collection's photographs says nothing."""
    n_individuals = len({record.individual_id for record in collection.images if record.split == "train"})
    if n_individuals < MIN_INDIVIDUALS:
        return f"{n_individuals} individuals to train on are too few (at least {MIN_INDIVIDUALS}) to learn what it is"
    if math.isnan(background.separation):
        return (
            f"fewer than {MIN_OF_A_KIND} individuals have photographs that can be read and show more than plain ground "
            "in their middles"
        )
    return (
        f"photographs look alike at their edges and in their middles (AUC {background.separation:.2f}), so the "
        "organism fills them or lies anywhere"
    )


def _outside_masks(collection: Collection, info: BackboneInfo, shard: FeatureShard) -> NDArray[np.float32]:
    """Share of each patch outside its image's mask `[n_patches]`, NaN where the image has none."""
    shares = []
    for number, row in enumerate(shard.images.tolist()):
        record, patches = collection.images[row], shard.of(number)[1]
        mask = collection.mask_path(record)
        outside = np.full(len(patches), np.nan)
        if mask is not None:
            outside = 1 - info.grid((record.width, record.height)).patch_means(opened_mask(mask))[patches]
        shares.append(outside)
    return np.concatenate(shares).astype(np.float32) if shares else np.empty(0, np.float32)
