"""What decoders are before the first step."""

from itertools import islice

import pytest
import torch
from accelerate import Accelerator
from torch.nn import functional
from train_configs import train_config

from sae_traits.errors import ConfigError
from sae_traits.sae.architectures import new_sae
from sae_traits.sae.initialisation import initialisation_of, start_from_centroids
from sae_traits.sae.training_state import Stack, TrainingState

D_MODEL, N_LATENTS, N = 8, 6, 64
CENTRES = functional.normalize(torch.randn(N_LATENTS, D_MODEL, generator=torch.Generator().manual_seed(7)), dim=1)
MEAN = torch.full((D_MODEL,), 3.0)


def batches(n_batches=10):
    """Patches close to one of six directions, at lengths from 5 to 10."""
    for step in range(n_batches):
        generator = torch.Generator().manual_seed(step)
        length = 5 * (1 + torch.rand(N, 1, generator=generator))
        chosen = CENTRES[torch.randint(N_LATENTS, (N,), generator=generator)]
        yield MEAN + length * chosen + 0.01 * torch.randn(N, D_MODEL, generator=generator)


def begun(*kinds, n_latents=N_LATENTS, seed=0):
    accelerator = Accelerator(cpu=True)
    configs = [train_config(n_latents=n_latents, k=1, batch_size=N, initialisation=kind, seed=seed) for kind in kinds]
    saes = [new_sae(config, D_MODEL) for config in configs]
    states = [
        TrainingState(sae, config, accelerator, sae.penalty(config.architecture, 1.0))
        for sae, config in zip(saes, configs, strict=True)
    ]
    return states, Stack(states), accelerator


def test_rows_start_at_the_directions_of_the_clusters_and_no_batch_is_lost():
    (state,), stack, accelerator = begun("k_means")
    rest = start_from_centroids([state], batches(), MEAN, 10, accelerator)
    alike = state.sae.W_dec.detach() @ CENTRES.T
    assert alike.amax(1).min() > 0.999
    assert sorted(alike.argmax(1).tolist()) == list(range(N_LATENTS)), "every cluster has its row"
    assert torch.equal(state.sae.W_enc, state.sae.W_dec.T)
    found = list(rest)
    assert len(found) == 10
    assert all(torch.equal(batch, expected) for batch, expected in zip(found, batches(), strict=True))
    pre = stack.pre_activations(found[0] - MEAN)[0]
    assert torch.allclose(pre, (found[0] - MEAN) @ state.sae.W_dec.T, atol=1e-4), "the stack's encoder is the new one"


def test_no_more_patches_are_taken_than_the_sample_needs():
    """64 for each of 6 latents: six batches."""
    states, _, accelerator = begun("k_means")
    source = batches()
    rest = start_from_centroids(states, source, MEAN, 10, accelerator)
    assert len(list(source)) == 4
    assert len(list(rest)) == 6


def test_random_directions_stay_and_saes_of_one_size_and_seed_share_their_centroids():
    states, _, accelerator = begun("random", "k_means", "k_means")
    before = states[0].sae.W_dec.detach().clone()
    start_from_centroids(states, batches(), MEAN, 10, accelerator)
    assert torch.equal(states[0].sae.W_dec, before)
    assert torch.equal(states[1].sae.W_dec, states[2].sae.W_dec)
    assert not torch.equal(states[1].sae.W_dec, before)


def test_nothing_is_read_where_all_start_at_random():
    states, _, accelerator = begun("random")
    source = batches()
    assert start_from_centroids(states, source, MEAN, 10, accelerator) is source
    assert len(list(source)) == 10


def test_patches_that_are_all_alike_leave_random_directions():
    states, _, accelerator = begun("k_means")
    before = states[0].sae.W_dec.detach().clone()
    start_from_centroids(states, iter(MEAN.expand(2, N, D_MODEL)), MEAN, 2, accelerator)
    assert torch.equal(states[0].sae.W_dec, before)


def test_features_that_are_not_finite_are_named():
    states, _, accelerator = begun("k_means")
    broken = next(batches())
    broken[3, 1] = torch.nan
    with pytest.raises(ConfigError, match="1 of the first 64 patches have NaN or infinities"):
        start_from_centroids(states, iter([broken]), MEAN, 1, accelerator)


def test_topk_alone_starts_from_centroids_unless_something_else_is_said():
    kinds = ("topk", "batch_topk", "jump_relu", "relu")
    assert [initialisation_of(train_config(kind)) for kind in kinds] == ["k_means", "random", "random", "random"]
    assert initialisation_of(train_config("topk", initialisation="random")) == "random"
    assert initialisation_of(train_config("relu", initialisation="k_means")) == "k_means"


def test_more_latents_than_patches_are_refused():
    states, _, accelerator = begun("k_means", n_latents=2 * N)
    with pytest.raises(ConfigError, match=r"128 latents cannot start from centroids of 64 patches; .* random"):
        start_from_centroids(states, islice(batches(), 1), MEAN, 1, accelerator)
