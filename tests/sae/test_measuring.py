"""Measures on held-out images, of one SAE or several, and of baselines fitted to a collection."""

import dataclasses

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from test_baselines import D_MODEL, patches, store_of
from train_configs import train_config

from sae_traits.sae.baselines import BASELINES, fit_to_source
from sae_traits.sae.collection_training import train_on_source
from sae_traits.sae.measuring import measure_on_held_out, measure_together
from sae_traits.sae.metrics import measure_sae
from sae_traits.sae.stability import mean_stability
from sae_traits.schema import Collection, ImageRecord, Taxon

CPU = torch.device("cpu")


@pytest.fixture
def store(tmp_path):
    return store_of(tmp_path / "activations", patches(40, seed=5))


def collection_of(*splits):
    record = ImageRecord(
        image_id="a", file="a.png", taxon=Taxon(species="Aus bus"), split="train", width=8, height=8, sha256=""
    )
    return Collection(root=None, images=[dataclasses.replace(record, split=split) for split in splits])


def train(store, rows, tmp_path, *configs):
    facts = {"collection": "drawn", "checkpoint": tmp_path / "checkpoint", "accelerator": Accelerator(cpu=True)}
    return train_on_source(store, np.array(rows), configs[0], list(configs), **facts)


@pytest.mark.parametrize(
    ("splits", "used", "name"),
    [
        (["train"] * 6 + ["test"] * 2 + ["validation"] * 2, [8, 9], "validation"),
        (["train"] * 6 + ["test"] * 4, [6, 7, 8, 9], "test"),
        (["train"] * 10, list(range(10)), "train"),
    ],
)
def test_an_sae_is_measured_on_validation_or_test_or_else_on_what_it_was_trained_on(store, splits, used, name):
    sae = fit_to_source("pca", store, np.arange(6), 8, k=2, seed=0)
    (fired,) = measure_on_held_out([sae], store, collection_of(*splits), CPU)
    metrics = sae.config.training["metrics"]
    expected = measure_sae(sae, [shard.features for shard in store.shards(used)])
    assert (metrics["measured_on"], metrics["n_patches"]) == (name, 4 * len(used))
    assert metrics["explained_variance"] == pytest.approx(expected.explained_variance)
    assert "mean_with_zeros" in metrics["monosemanticity"]
    assert fired.tolist() == (expected.firing_shares > 0).tolist()


def test_a_sweep_is_trained_on_the_given_images_and_its_seeds_are_compared(store, tmp_path):
    options = {"n_latents": 12, "batch_size": 16, "n_patches": 640, "k": 3}
    configs = [train_config(**options), train_config(**options, seed=1), train_config("relu", **options)]
    saes = train(store, range(6), tmp_path, *configs)
    assert [sae.config.training["n_images"] for sae in saes] == [6, 6, 6]
    assert saes[0].config.training["settings"]["k"] == 3
    assert saes[0].config.backbone == store.info
    measure_together(saes, configs, store, collection_of(*["train"] * 6, *["test"] * 4), Accelerator(cpu=True))
    metrics = [sae.config.training["metrics"] for sae in saes]
    held_out = [shard.features for shard in store.shards([6, 7, 8, 9])]
    live = [measure_sae(sae, held_out).firing_shares > 0 for sae in saes]
    alike = dataclasses.asdict(mean_stability(saes[:2], live=live[:2])) | {"seeds": [0, 1]}
    assert metrics[0]["stability"] == metrics[1]["stability"] == alike
    assert "stability" not in metrics[2]


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_of_a_collection_has_as_many_latents_as_the_sae_or_all_it_can(name, store):
    sae = fit_to_source(name, store, np.arange(6), 300, k=4, seed=0)
    assert sae.config.n_latents == {"pca": 2 * D_MODEL, "nmf": 2 * D_MODEL, "k_means": 24, "random": 300}[name]
    assert (sae.config.training["method"], sae.config.training["n_patches"]) == (name, 24)
    assert sae.config.backbone == store.info
