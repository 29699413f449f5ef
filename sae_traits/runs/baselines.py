"""Baselines of a run: dictionaries in the place of its SAE, their codes and regions, and what was measured of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from sae_traits.config.regions import (
    Contrast,
    KMeansRegions,
    NMFRegions,
    PCARegions,
    RandomRegions,
    RegionsOfLatents,
    ReleasedLatents,
    SpecimenContrast,
)
from sae_traits.errors import CheckpointError, ConfigError
from sae_traits.evaluation.part_regions import Method
from sae_traits.features.backbone import choose_device
from sae_traits.io import hash_of_file, replacing, write_text
from sae_traits.logging import say
from sae_traits.runs.background import background_digest, background_of
from sae_traits.runs.context import Context
from sae_traits.sae.baselines import fit_to_source
from sae_traits.sae.measuring import measure_on_held_out
from sae_traits.sae.model import SAE
from sae_traits.schema import Collection
from sae_traits.traits.codes import Codes
from sae_traits.traits.encode import VERSION, encode_collection, training_weights
from sae_traits.traits.plan import Plan, thresholds_of

BASELINES = ("random", "k_means")
"""With which an evaluation compares."""
MADE_OF_FILE = "made_of.txt"
"""Beside the codes of a baseline: the hash of what they were made of, and of them."""
_REGIONS = {cls.kind: cls for cls in (PCARegions, NMFRegions, KMeansRegions, RandomRegions)}


def methods_of(context: Context, baselines: Sequence[str], sample: frozenset[int] | None = None) -> dict[str, Method]:
    """The regions of the run, and those of baselines, all planned with the options of the run.

    Baselines that are not there are fitted and encoded first, and kept in the run's folder.

    Args:
        context: of a run whose regions are those of latents.
        baselines: kinds of regions; that of the run itself is left out.
        sample: rows of the images that are planned; None plans all.

    Raises:
        ConfigError: there are no training images to fit a baseline to.
    """
    regions = context.config.regions
    assert isinstance(regions, RegionsOfLatents)
    codes = replace(Codes.open(context.folder.codes), sample=sample)
    plan = context.plan if sample is None else context.plan_of(regions, context.collection, codes)
    methods = {regions.kind: Method(plan, codes)}
    for kind in baselines:
        if kind != regions.kind:
            names = (field.name for field in fields(_REGIONS[kind]) if field.name != "kind")
            of_kind = _REGIONS[kind](**{name: getattr(regions, name) for name in names})
            codes = replace(_baseline_codes(context, of_kind), sample=sample)
            methods[kind] = Method(context.plan_of(of_kind, context.collection, codes), codes)
    return methods


def plan_with_labels_of(context: Context, collection: Collection, sample: frozenset[int] | None = None) -> Plan:
    """The regions of the run, or of a sample of its images, had these the labels of another collection."""
    codes = replace(Codes.open(context.folder.codes), sample=sample)
    return context.plan_of(context.config.regions, collection, codes)


def can_be_compared(context: Context) -> bool:
    """Whether the regions of a run are those of latents that a contrast of labels chose, as those of baselines are."""
    regions = context.config.regions
    has_labels = any(record.taxon.species for record in context.collection.images)
    return isinstance(regions, RegionsOfLatents) and not isinstance(regions.contrast, ReleasedLatents) and has_labels


def _baseline_codes(context: Context, regions: RegionsOfLatents) -> Codes:
    """The codes of a baseline, made unless they are there."""
    make_baseline(context, regions.kind)
    dictionary = SAE.from_pretrained(context.folder.baseline(regions.kind))
    source, folder = context.features, context.folder.baseline_codes(regions.kind)
    individuals, digest = context.collection.digest("individual_id", "split"), background_digest(context, regions)
    contrast = _as_sparse(regions.contrast, dictionary, context)
    made_from = VERSION, dictionary.weights_hash(), source.fingerprint, contrast, individuals, digest
    made_of = hashlib.sha256(str(made_from).encode()).hexdigest()
    mark = folder / MADE_OF_FILE
    if mark.is_file() and mark.read_bytes() == _mark(made_of, folder).encode():
        return Codes.open(folder)
    say(f"codes of the baseline {regions.kind}")
    mark.unlink(missing_ok=True)
    dictionary = dictionary.to(choose_device(context.config.features.device))
    thresholds = thresholds_of(contrast, dictionary, source, context.collection)
    weights = training_weights(context.collection.images)
    background = background_of(context, regions)
    codes = encode_collection(dictionary, source, thresholds, folder, background=background, weights=weights)
    write_text(mark, _mark(made_of, folder))
    return codes


def _as_sparse(contrast: Contrast, dictionary: SAE, context: Context) -> Contrast:
    """The contrast by which no more latents of a baseline fire per patch than of the SAE.

    Of PCA, of which one half of every component is active, nearly all would fire in every image otherwise.
    """
    ratio = dictionary.config.training["metrics"]["l0"] / _k(context.sae)
    if not isinstance(contrast, SpecimenContrast) or ratio <= 1:
        return contrast
    info = context.features.info
    return replace(contrast, firing_quantile=1 - (1 - contrast.quantile_for(info.rows * info.columns)) / ratio)


def _k(sae: SAE) -> int:
    """Active latents per patch."""
    return sae.config.k or max(1, round(sae.config.training["metrics"]["l0"]))


def _mark(made_of: str, folder: Path) -> str:
    """What stands beside codes that were made of this, and are as they are now."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MADE_OF_FILE)
    return f"{made_of} {hash_of_file(*files)}"


def make_baseline(context: Context, kind: str) -> None:
    """Fit a baseline as large and as sparse as the SAE, measure it and keep it, unless that is done."""
    source, rows, folder = context.features, context.collection.rows("train"), context.folder.baseline(kind)
    if not len(rows):
        raise ConfigError(f"there are no training images to fit --regions {kind} to; lower the shares of the others")
    config = context.sae.config
    n_latents, seed = config.n_latents, int(config.training.get("settings", {}).get("seed", 0))
    k = _k(context.sae)
    settings = f"{source.fingerprint} {n_latents} {k} {seed}".encode()
    fitted_to = hashlib.sha256(settings + rows.tobytes()).hexdigest()[:16]
    if folder.exists():
        try:
            kept = SAE.from_pretrained(folder)
            made = kept.config.training
            if (made.get("fitted_to"), made.get("weights")) == (fitted_to, kept.weights_hash()):
                return
        except CheckpointError as error:
            say(f"{error}; the baseline is fitted again")
    sae = fit_to_source(kind, source, rows, n_latents, k=k, seed=seed)
    measure_on_held_out([sae], source, context.collection, choose_device(context.config.features.device))
    training = sae.config.training | {"fitted_to": fitted_to, "weights": sae.weights_hash()}
    sae.config = replace(sae.config, training=training)
    with replacing(folder) as partial:
        sae.save_pretrained(partial)
