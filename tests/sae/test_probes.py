import json

import numpy as np
import pytest
import torch

from sae_traits.errors import CollectionError
from sae_traits.features.store import FeatureShard
from sae_traits.sae.baselines import fit_pca
from sae_traits.sae.probes import probe_reconstructions

N_SPECIMENS, N_PATCHES, D_MODEL = 120, 5, 6
LABELS = [("Aus bus", "Cus dus", "Eus fus")[i % 3] for i in range(N_SPECIMENS)]
TRAINING = np.arange(N_SPECIMENS) < 80
SCORED = ~TRAINING


def shards():
    """Images whose species shows in a small component, under a large one that all species share."""
    rng = np.random.default_rng(0)
    x = rng.normal(scale=0.1, size=(N_SPECIMENS, N_PATCHES, D_MODEL))
    x[:, :, 0] += rng.normal(scale=30, size=(N_SPECIMENS, N_PATCHES))
    for i in range(N_SPECIMENS):
        x[i, :, 1 + i % 3] += 1
    for first in range(0, N_SPECIMENS, 50):
        own = torch.from_numpy(x[first : first + 50].astype(np.float32))
        rows = np.arange(first, first + len(own))
        patches = np.tile(np.arange(N_PATCHES, dtype=np.int32), len(own))
        yield FeatureShard(rows, np.arange(len(own) + 1) * N_PATCHES, patches, own.flatten(0, 1))


def patches():
    return torch.cat([shard.features for shard in shards()])


def test_a_dictionary_that_keeps_everything_loses_nothing():
    outcome = probe_reconstructions(fit_pca(patches(), 2 * D_MODEL), shards(), LABELS, TRAINING, SCORED)
    assert outcome.images.tolist() == np.flatnonzero(SCORED).tolist()
    assert outcome.original.mean() == outcome.reconstructed.mean() == 1
    assert (outcome.to_dict()["difference"], outcome.n_classes) == (0, 3)


def test_a_dictionary_that_keeps_the_largest_component_alone_loses_the_species():
    outcome = probe_reconstructions(fit_pca(patches(), 2), shards(), LABELS, TRAINING, SCORED)
    assert outcome.original.mean() == 1
    assert outcome.reconstructed.mean() < 0.6
    assert outcome.to_dict()["difference"] == pytest.approx(outcome.reconstructed.mean() - 1)
    plain = outcome.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["n_images"] == 40


def test_images_without_a_label_or_of_a_label_without_training_are_left_out():
    labels: list[str | None] = list(LABELS)
    labels[100], labels[101] = None, "Gus hus"
    outcome = probe_reconstructions(fit_pca(patches(), 2 * D_MODEL), shards(), labels, TRAINING, SCORED)
    assert outcome.images.tolist() == [row for row in np.flatnonzero(SCORED) if row not in (100, 101)]


def test_training_images_decide_and_scored_ones_do_not():
    """With the labels of the scored images swapped in a circle, everything is wrong."""
    labels = [label if TRAINING[i] else LABELS[i + 1 - 3 * (i % 3 == 2)] for i, label in enumerate(LABELS)]
    outcome = probe_reconstructions(fit_pca(patches(), 2 * D_MODEL), shards(), labels, TRAINING, SCORED)
    assert outcome.original.mean() == 0


@pytest.mark.parametrize(
    ("labels", "scored", "message"),
    [
        (["Aus bus"] * N_SPECIMENS, SCORED, "1 labels in training and 40 images"),
        (LABELS, np.zeros(N_SPECIMENS, bool), "3 labels in training and 0 images"),
        ([None] * N_SPECIMENS, SCORED, "none of the images"),
    ],
)
def test_a_probe_that_cannot_be_trained_or_scored_says_so(labels, scored, message):
    with pytest.raises(CollectionError, match=message):
        probe_reconstructions(fit_pca(patches(), 4), shards(), labels, TRAINING, scored)


def test_features_are_standardised_by_the_training_images_alone():
    """An image far from all others, which is only scored, changes nothing for the others."""

    def with_outlier():
        for shard in shards():
            shard.features[np.repeat(shard.images, N_PATCHES) == N_SPECIMENS - 1, 1:] *= 1e5
            yield shard

    sae = fit_pca(patches(), 2 * D_MODEL)
    outcome = probe_reconstructions(sae, with_outlier(), LABELS, TRAINING, SCORED)
    assert outcome.images[-1] == N_SPECIMENS - 1
    assert outcome.original[:-1].all()
    assert outcome.reconstructed[:-1].all()
