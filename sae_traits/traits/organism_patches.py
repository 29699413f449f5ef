"""Which patches of training photographs show the organism, and which its background, by what latents agree on.

The latents that a species has more than its relatives lie on the organism, most of them, and where several of them fire
together it is hardly ever beside it. Those patches, and patches that are probably background and say nothing of the
species, are what `features.organism` learns from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from sae_traits.config.regions import SpecimenContrast
from sae_traits.features.background import Background
from sae_traits.features.organism import learn_organism
from sae_traits.features.source import FeatureSource
from sae_traits.features.store import FeatureShard
from sae_traits.logging import track
from sae_traits.sae.model import SAE
from sae_traits.schema import ChosenLatent, ImageRecord
from sae_traits.traits.candidates import evidence, known_background
from sae_traits.traits.codes import ImageCodes, firings_of, images_of, probabilities_of
from sae_traits.traits.encode import MeanOfLatents, codes_of_shard, stored_background, training_weights
from sae_traits.traits.plan import choose_by
from sae_traits.traits.species_counts import count_firings

N_PHOTOGRAPHS = 1000
"""Photographs that are learnt from at most. With 200 of ten species regions lay as much on organisms as with 400; more
are for collections of many species, whose organisms and backgrounds differ."""
PER_SPECIES = 10
"""Where there are many species, so many individuals of each: fewer could not be contrasted."""
SHOWS_ORGANISM, SHOWS_NONE = 0.5, 0.1
"""Share of a photograph's highest evidence that a patch of the organism has at least, and one of background at most."""
PROBABLY_BACKGROUND = 0.6
PER_PHOTOGRAPH = 20
"""Patches of either kind, so that memory is bounded."""
MIN_PATCHES = 150
"""Of either kind, below which nothing is learnt. Learnt from 156 to 410 regions of small collections lay better, or as
well, and there were more; from 26 and 42 nine photographs in ten lost theirs."""


def with_organism(
    background: Background,
    sae: SAE,
    source: FeatureSource,
    thresholds: NDArray[np.float32],
    records: Sequence[ImageRecord],
    *,
    seed: int = 0,
) -> Background:
    """What is known of backgrounds with what the organism looks like, where labels tell enough of it.

    Args:
        background: what lies at edges; the others are as in `organism_patches`.
    """
    of_shard = partial(background.of_shard, info=source.info)
    patches = organism_patches(sae, source, thresholds, records, of_shard, seed=seed)
    return background if patches is None else replace(background, organism=learn_organism(*patches, seed=seed))


def organism_patches(
    sae: SAE,
    source: FeatureSource,
    thresholds: NDArray[np.float32],
    records: Sequence[ImageRecord],
    background: Callable[[FeatureShard], NDArray[np.float32]],
    *,
    seed: int = 0,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
    """Features of patches that show the organism, and of as many that show background, and which are which.

    Photographs of the train split are encoded and their species contrasted, as a run with the defaults does with all.

    Args:
        sae: whose latents are contrasted.
        source: features of the photographs, read twice.
        thresholds: a latent fires above this activation `[n_latents]`.
        records: of all photographs; those without a species are passed over.
        background: what gives the probability of background of a shard's patches, as far as it is known without labels.
        seed: which photographs and patches.

    Returns:
        `[n, d_model]` and `[n]`; None where there are too few patches of either kind.
    """
    generator = np.random.default_rng(seed)
    rows = sampled_photographs(records, generator)
    if not len(rows):
        return None
    weights = training_weights(records)
    limits = torch.from_numpy(thresholds).to(sae.b_dec.device)
    n_patches = source.info.rows * source.info.columns
    mean = MeanOfLatents(len(thresholds), weights)
    tables: list[pa.Table] = []
    known: dict[int, NDArray[np.float32]] = {}
    for shard in track(source.shards(rows), "organism", source.count_shards(rows), "shard"):
        stored = stored_background(background(shard), shard, n_patches)
        tables.append(codes_of_shard(sae, shard, limits))
        mean.add(tables[-1], shard.images.astype(np.int32), stored)
        known |= dict(zip(shard.images.tolist(), probabilities_of(stored), strict=True))
    sampled = set(rows.tolist())
    taxa = [record.taxon if row in sampled else None for row, record in enumerate(records)]
    individuals = [record.individual_id for record in records]
    firings = (firings_of(table, len(thresholds)) for table in tables)
    counts = count_firings(firings, taxa, individuals, len(thresholds))
    chosen = choose_by(SpecimenContrast(), counts, thresholds, mean.value, places=None)
    patches: dict[int, tuple[NDArray[np.intp], ...]] = {}
    for table in tables:
        for fired in images_of(table, known):
            latents = chosen.of(records[fired.image])
            significant = {latent: choice for latent, choice in latents.items() if choice.contrast.significant}
            told = _told_apart(fired, significant, n_patches)
            patches[fired.image] = tuple(np.sort(generator.permutation(some)[:PER_PHOTOGRAPH]) for some in told)
    features = _features_of(source, rows, patches)
    n = min(map(len, features))
    if n < MIN_PATCHES:
        return None
    both = [of_kind[np.sort(generator.permutation(len(of_kind))[:n])] for of_kind in features]
    return np.concatenate(both), np.repeat([True, False], n)


def sampled_photographs(records: Sequence[ImageRecord], generator: np.random.Generator) -> NDArray[np.intp]:
    """Rows of up to N_PHOTOGRAPHS labelled photographs of the train split, one per individual, ascending.

    Of species drawn at random among those of at least PER_SPECIES individuals, and only where these are too few of the
    others, the commonest first.
    """
    of_species: dict[str, dict[str, int]] = defaultdict(dict)
    for row in generator.permutation(len(records)).tolist():
        record = records[row]
        if record.split == "train" and record.taxon.species is not None:
            of_species[record.taxon.species].setdefault(record.individual_id, row)
    # Species come in a random order, and sorting keeps it among equal ones.
    species = sorted(of_species.values(), key=lambda rows: -min(len(rows), PER_SPECIES))
    per_species = max(PER_SPECIES, -(-N_PHOTOGRAPHS // max(len(species), 1)))
    rows = [row for of_one in species for row in list(of_one.values())[:per_species]]
    return np.sort(np.array(rows[:N_PHOTOGRAPHS], dtype=np.intp))


def _told_apart(
    fired: ImageCodes, latents: Mapping[int, ChosenLatent], n_patches: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Patches of an image that show the organism, and those that show background."""
    background = known_background(fired, n_patches)
    of_species = [(latents[latent], where, values) for latent, where, values in fired.groups() if latent in latents]
    agreed = evidence(of_species, n_patches) * (1 - background)
    highest = agreed.max(initial=0)
    if highest == 0:  # nothing tells the organism, which may look like background
        return np.empty(0, np.intp), np.empty(0, np.intp)
    shows_it = agreed >= SHOWS_ORGANISM * highest
    shows_none = (background > PROBABLY_BACKGROUND) & (agreed <= SHOWS_NONE * highest)
    return np.flatnonzero(shows_it), np.flatnonzero(shows_none)


def _features_of(
    source: FeatureSource, rows: NDArray[np.intp], patches: Mapping[int, tuple[NDArray[np.intp], ...]]
) -> tuple[NDArray[np.float32], ...]:
    """Features of patches of either kind `[n, d_model]` each."""
    found: tuple[list[NDArray[np.float32]], ...] = ([], [])
    for shard in source.shards(rows):
        for number, row in enumerate(shard.images.tolist()):
            features, here = shard.of(number)
            if row in patches:
                for of_kind, some in zip(found, patches[row], strict=True):
                    of_kind.append(features[torch.from_numpy(np.searchsorted(here, some))].float().numpy())
    return tuple(np.concatenate(of_kind) if of_kind else np.empty((0, 0), np.float32) for of_kind in found)
