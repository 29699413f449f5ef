import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from tiny_stores import info_of

from sae_traits.features.background import Background
from sae_traits.features.organism import N_FREQUENCIES, Organism, learn_organism
from sae_traits.features.store import FeatureShard


def ring_and_disc(n, seed):
    """Points of a disc, and of a ring around it that no line tells from it; a third feature is the same in all."""
    generator = np.random.default_rng(seed)
    inside = np.arange(n) % 2 == 0
    radius = np.where(inside, generator.uniform(0, 1, n), generator.uniform(1.5, 2.5, n))
    angle = generator.uniform(0, 2 * np.pi, n)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(n, 7.0)], axis=1)
    return (points * [5, 0.1, 1] + [100, 0, 0]).astype(np.float32), inside


def test_what_no_line_tells_apart_is_learnt_in_any_units_and_holds_for_other_patches():
    features, inside = ring_and_disc(1200, seed=0)
    organism = learn_organism(features, inside)
    others, truth = ring_and_disc(600, seed=1)
    line = LogisticRegression().fit(features, inside).decision_function(others)
    assert roc_auc_score(truth, line) < 0.65
    assert roc_auc_score(truth, organism.odds(others)) > 0.98
    centre, rim = organism.odds(np.array([[100, 0, 7], [104.5, 0, 7]], np.float32))
    assert centre > rim > 0, "it is surer of the inside than of what lies at the border"


def test_odds_are_those_of_the_kernel_and_the_same_for_a_seed():
    features, inside = ring_and_disc(300, seed=2)
    organism, again, other = (learn_organism(features, inside, seed=seed) for seed in (0, 0, 1))
    assert organism.frequencies.shape == (3, N_FREQUENCIES)
    assert np.array_equal(organism.odds(features), again.odds(features))
    assert not np.array_equal(organism.odds(features), other.odds(features))
    by_hand = np.cos(features[:2] @ organism.frequencies + organism.phases) @ organism.weights + organism.bias
    assert organism.odds(features[:2]) == pytest.approx(by_hand, abs=1e-5)
    shares = [organism.odds(features)[inside] > 0, organism.odds(features)[~inside] < 0]
    assert all(share.mean() > 0.95 for share in shares)


def shard_of(features):
    n = len(features)
    return FeatureShard(np.array([0]), np.array([0, n]), np.arange(n, dtype=np.int32), torch.from_numpy(features))


def test_a_background_that_knows_the_organism_is_what_does_not_look_like_it_and_is_kept(tmp_path):
    features, inside = ring_and_disc(400, seed=3)
    linear = Background(np.array([9, 9, 9], np.float32), -1.0, 0.9)
    background = Background(linear.weights, linear.bias, 0.9, learn_organism(features, inside))
    disc = np.repeat(features[inside][:1], 16, axis=0)
    assert background.of_shard(shard_of(disc), info_of(3)).max() < 0.2
    assert linear.of_shard(shard_of(disc), info_of(3)).min() > 0.8
    ring = np.repeat(features[~inside][:1], 16, axis=0)
    assert background.of_shard(shard_of(ring), info_of(3)).min() > 0.8
    path = tmp_path / "background.safetensors"
    background.save(path)
    again = Background.open(path)
    assert isinstance(again.organism, Organism)
    mixed = shard_of(features[:16])
    assert np.array_equal(again.of_shard(mixed, info_of(3)), background.of_shard(mixed, info_of(3)))
    linear.save(path)
    assert Background.open(path).organism is None
