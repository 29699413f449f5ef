from dataclasses import replace

import numpy as np
import pytest
import torch
from made_traits import record_of

from sae_traits import SAE, SAEConfig
from sae_traits.features.store import FeatureShard
from sae_traits.geometry import Framing
from sae_traits.schema import BackboneInfo, Taxon
from sae_traits.traits.organism_patches import (
    MIN_PATCHES,
    N_PHOTOGRAPHS,
    PER_PHOTOGRAPH,
    PER_SPECIES,
    organism_patches,
    sampled_photographs,
)

SIDE, N_LATENTS = 6, 6
INSIDE = np.zeros((SIDE, SIDE), dtype=bool)
INSIDE[2:4, 1:5] = True
"""Where every organism is: eight patches of 36."""
SPECIES = ("Aus bus", "Aus cus", "Aus dus")
INFO = BackboneInfo(
    backbone="none", revision="0", layer=0, d_model=N_LATENTS, rows=SIDE, columns=SIDE, patch=None,
    framing=Framing(mode="squash", size=(64, 64)), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
)  # fmt: skip


class Photographs:
    """Features in which latent i alone stands for species i, on its organism; latent 4 for what lies around it."""

    def __init__(self, species, inside=INSIDE):
        self.info = replace(INFO, rows=len(inside), columns=len(inside))
        self.reads = 0
        self.features = []
        for row, name in enumerate(species):
            features = np.random.default_rng(row).uniform(0, 0.2, (inside.size, N_LATENTS)).astype(np.float32)
            features[inside.ravel(), SPECIES.index(name)] += 2
            features[~inside.ravel(), 4] += 2
            self.features.append(torch.from_numpy(features))

    def count_shards(self, rows=None):
        return -(-len(rows) // 7)

    def shards(self, rows=None):
        self.reads += 1
        for some in np.array_split(np.asarray(rows), self.count_shards(rows)):
            n_patches = self.info.rows * self.info.columns
            patches = np.tile(np.arange(n_patches, dtype=np.int32), len(some))
            offsets = np.arange(len(some) + 1) * n_patches
            yield FeatureShard(some, offsets, patches, torch.cat([self.features[row] for row in some]))


def of_taxon(record, name):
    return replace(record, taxon=Taxon(genus="Aus", species=name))


@pytest.fixture
def collection():
    species = [SPECIES[row % 3] for row in range(270)]
    return Photographs(species), [of_taxon(record_of(row), name) for row, name in enumerate(species)]


@pytest.fixture
def sae():
    """Latents that are the features themselves."""
    sae = SAE.from_config(SAEConfig(architecture="topk", d_model=N_LATENTS, n_latents=N_LATENTS, k=2), seed=0)
    with torch.no_grad():
        for weight in (sae.W_enc, sae.W_dec):
            weight.copy_(torch.eye(N_LATENTS))
        for bias in (sae.b_enc, sae.b_dec):
            bias.zero_()
    return sae


def outside(shard):
    """Around the organism probably background; as sure of its lowest row, where it is wrong."""
    known = np.where(INSIDE, 0.2, 0.9)
    known[3] = np.where(INSIDE[3], 0.7, 0.9)
    return np.tile(known.ravel(), len(shard.images)).astype(np.float32)


def test_patches_where_the_latents_of_a_species_agree_show_the_organism(collection, sae):
    photographs, records = collection
    thresholds = np.full(N_LATENTS, 1.0, np.float32)
    features, shows_it = organism_patches(sae, photographs, thresholds, records, outside)
    assert photographs.reads == 2
    assert shows_it.sum() * 2 == len(shows_it) == len(features)
    assert (features[shows_it][:, :3].max(axis=1) > 1.9).all(), "of a latent that one species alone has"
    assert (features[~shows_it][:, 4] > 1.9).all(), "probably background, and none of the species' latents fires"
    again, _ = organism_patches(sae, photographs, thresholds, records, outside)
    assert np.array_equal(features, again)
    other, _ = organism_patches(sae, photographs, thresholds, records, outside, seed=1)
    assert not np.array_equal(features, other)


def test_nothing_is_learnt_where_labels_say_nothing_or_too_little_is_shown(collection, sae):
    photographs, records = collection
    thresholds = np.full(N_LATENTS, 1.0, np.float32)

    def learnt(some, background=outside):
        return organism_patches(sae, photographs, thresholds, some, background)

    assert learnt([replace(record, taxon=Taxon()) for record in records]) is None
    shuffled = np.random.default_rng(0).permutation(len(records))
    wrong = [of_taxon(record, records[other].taxon.species) for record, other in zip(records, shuffled, strict=True)]
    assert learnt(wrong) is None, "no latent is significant"
    assert learnt(records, lambda shard: np.zeros(len(shard.patches), np.float32)) is None, "nothing is background"
    # Four patches of each photograph lie on the organism and are no background.
    assert learnt(records[: MIN_PATCHES // 4 - 3]) is None
    assert learnt(records[: MIN_PATCHES // 4 + 3]) is not None


def test_species_without_significant_latents_teach_nothing_as_their_organism_may_look_like_background(collection, sae):
    photographs, records = collection
    rare = np.arange(0, 270, 3)[2:]
    for row in rare:  # but for two photographs, the first species has no latent of its own, and is no background
        photographs.features[row] = torch.zeros(SIDE * SIDE, N_LATENTS)
        photographs.features[row][:, 5] = 3
    learnt, shows_it = organism_patches(sae, photographs, np.full(N_LATENTS, 1.0, np.float32), records, outside)
    assert (learnt[shows_it][:, 1:3].max(axis=1) > 1.9).all()
    assert (learnt[:, 5] < 1).all(), "neither as the organism nor as background"


def test_no_photograph_gives_more_than_its_share_of_patches(sae):
    species = [SPECIES[row % 3] for row in range(30)]
    large = np.zeros((12, 12), dtype=bool)
    large[3:9, 1:11] = True  # 60 patches of 144
    photographs, records = Photographs(species, large), [of_taxon(record_of(r), name) for r, name in enumerate(species)]

    def around(shard):
        return np.tile(np.where(large, 0.1, 0.9).ravel(), len(shard.images)).astype(np.float32)

    thresholds = np.full(N_LATENTS, 1.0, np.float32)
    features, shows_it = organism_patches(sae, photographs, thresholds, records, around)
    assert shows_it.sum() == PER_PHOTOGRAPH * len(records) < large.sum() * len(records)
    assert len(np.unique(features, axis=0)) == len(features)


def sampled(records, seed=0):
    return sampled_photographs(records, np.random.default_rng(seed)).tolist()


def test_photographs_are_of_many_species_one_per_individual():
    names = [f"Aus {number:03d}" for number in range(150) for _ in range(12)] + ["Aus rarus"] * 3
    records = [of_taxon(record_of(row), name) for row, name in enumerate(names)]
    rows = sampled(records)
    assert rows == sorted(set(rows))
    assert len(rows) == N_PHOTOGRAPHS
    counts = {name: sum(names[row] == name for row in rows) for name in names}
    assert set(counts.values()) == {PER_SPECIES, 0}
    chosen = [name for name, count in counts.items() if count]
    assert max(chosen) > "Aus 110", "not the first of the alphabet"
    assert counts["Aus rarus"] == 0, "there are enough of the others"
    assert sampled(records) == rows
    assert sampled(records, seed=1) != rows
    few = [record for record, name in zip(records, names, strict=True) if name in ("Aus 001", "Aus 002", "Aus rarus")]
    assert len(sampled(few)) == 27, "all, where there are few"


def test_neither_other_splits_nor_unnamed_photographs_nor_second_ones_of_an_individual_are_learnt_from():
    records = [of_taxon(record_of(row), SPECIES[row % 2]) for row in range(12)]
    records[3] = replace(records[3], split="test")
    records[4] = replace(records[4], taxon=Taxon())
    records[6] = replace(records[6], individual_id=records[8].individual_id)
    rows = sampled(records)
    assert {3, 4}.isdisjoint(rows)
    assert len({6, 8}.intersection(rows)) == 1
    assert len(rows) == 9
    assert sampled([]) == []
