"""Training on features that are sparse sums of known directions, so that success can be told."""

import itertools
import logging
import multiprocessing
import os
import signal
import time

import pytest
import torch
from accelerate import Accelerator
from kept_tracker import KeptTracker
from train_configs import train_config

from sae_traits.errors import CheckpointError, ConfigError, StoreError
from sae_traits.logging import progress_to
from sae_traits.sae.metrics import measure_sae
from sae_traits.sae.trainer import FeatureScale, learning_rate, train_saes

N_DIRECTIONS, D_MODEL = 24, 16
MEAN = 3.0


def patches(step, n):
    """Sums of three known directions around a mean, in raw units of about 10; the same for a step each time."""
    generator = torch.Generator().manual_seed(step)
    directions = torch.nn.functional.normalize(
        torch.randn(N_DIRECTIONS, D_MODEL, generator=torch.Generator().manual_seed(99)), dim=1
    )
    active = torch.rand(n, N_DIRECTIONS, generator=generator).topk(3, dim=1).indices
    weight = torch.zeros(n, N_DIRECTIONS).scatter_(1, active, 10 * (1 + torch.rand(n, 3, generator=generator)))
    return weight @ directions + MEAN


def batches(start):
    step = start
    while True:
        yield patches(step, 256)
        step += 1


SCALE = FeatureScale(mean=torch.full((D_MODEL,), MEAN), scale=5.0)
OPTIONS = {"n_latents": 48, "k": 3, "batch_size": 256, "warmup_steps": 10, "learning_rate": 3e-3}


def settings(architecture="topk", **changes):
    return train_config(architecture, **OPTIONS | changes)


CONFIG = settings()
RANDOM = settings(initialisation="random")
"""Whose training has begun with the first batch."""


def fit(config=CONFIG, n_steps=300, checkpoint=None, tmp_path=None, source=batches, data="drawn", **arguments):
    (sae,) = train_saes(
        source,
        [config],
        SCALE,
        n_steps=n_steps,
        checkpoint=checkpoint or tmp_path / "training.checkpoint",
        data=data,
        accelerator=Accelerator(cpu=True),
        **arguments,
    )
    return sae


def test_topk_learns_to_reconstruct_raw_features(tmp_path):
    sae = fit(tmp_path=tmp_path, n_steps=600)
    metrics = measure_sae(sae, [patches(10_000, 2000)])
    assert metrics.explained_variance > 0.85
    assert metrics.l0 <= 3
    assert torch.allclose(sae.W_dec.norm(dim=1), torch.ones(48), atol=1e-5), "the saved decoder is unit norm"


def test_a_larger_l1_coefficient_gives_fewer_active_latents(tmp_path):
    l0 = []
    for coefficient in (1e-3, 1.0):
        config = settings("relu", l1_coefficient=coefficient)
        sae = fit(config, tmp_path=tmp_path)
        l0.append(measure_sae(sae, [patches(10_000, 1000)]).l0)
    assert l0[1] < 0.6 * l0[0]


def test_the_l1_penalty_weighs_raw_features_whatever_the_scale(tmp_path):
    config = settings("relu", l1_coefficient=0.3)
    reconstructions = []
    for scale in (5.0, 2.5):
        (sae,) = train_saes(
            batches,
            [config],
            FeatureScale(mean=SCALE.mean, scale=scale),
            n_steps=600,
            checkpoint=tmp_path / "c",
            data="drawn",
            accelerator=Accelerator(cpu=True),
        )
        reconstructions.append(measure_sae(sae, [patches(10_000, 1000)]))
    assert reconstructions[0].l0 == pytest.approx(reconstructions[1].l0, rel=0.25)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path):
    first, second = fit(tmp_path=tmp_path, n_steps=40), fit(tmp_path=tmp_path, n_steps=40)
    other = fit(settings(seed=1), tmp_path=tmp_path, n_steps=40)
    assert torch.equal(first.W_dec, second.W_dec)
    assert not torch.equal(first.W_dec, other.W_dec)


def test_the_learning_rate_warms_up_holds_and_decays():
    config = train_config(learning_rate=1.0, warmup_steps=9)
    rates = [learning_rate(step, 100, config, D_MODEL) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:80] == [1.0] * 71
    assert rates[99] == pytest.approx(0.05)
    assert all(a >= b for a, b in itertools.pairwise(rates[80:]))


@pytest.mark.parametrize(
    ("architecture", "d_model", "given", "expected"),
    [
        ("topk", 100, None, 1e-3),
        ("batch_topk", 900, None, 1e-3),
        ("jump_relu", 900, None, 1e-3),
        ("relu", 100, None, 1e-2),
        ("relu", 900, None, 1e-1 / 30),
        ("relu", 100, 2e-3, 2e-3),
        ("topk", 100, 2e-3, 2e-3),
    ],
)
def test_the_learning_rate_of_relu_follows_the_width_unless_one_is_given(architecture, d_model, given, expected):
    config = train_config(architecture, learning_rate=given, warmup_steps=0)
    assert learning_rate(50, 100, config, d_model) == pytest.approx(expected)


def test_the_learning_rate_that_was_used_is_recorded(tmp_path):
    config = settings("relu", learning_rate=None)
    assert fit(config, tmp_path=tmp_path, n_steps=2).config.training["learning_rate"] == pytest.approx(0.1 / 4)


def test_relu_with_its_own_learning_rate_is_sparser_and_explains_as_much_as_with_that_of_topk(tmp_path):
    measured = {}
    for rate in (None, 1e-3):
        config = settings("relu", l1_coefficient=0.3, learning_rate=rate)
        measured[rate] = measure_sae(fit(config, tmp_path=tmp_path), [patches(10_000, 1000)])
    assert measured[None].l0 < 0.7 * measured[1e-3].l0
    assert measured[None].explained_variance > measured[1e-3].explained_variance


def train_slowly(checkpoint):
    """In a process that will be killed: saves at every step."""

    def slow(start):
        for batch in batches(start):
            time.sleep(0.02)
            yield batch

    fit(RANDOM, n_steps=60, checkpoint=checkpoint, source=slow, seconds_between_checkpoints=0.0)


def test_a_killed_training_resumes_to_the_same_weights(tmp_path):
    whole = fit(RANDOM, n_steps=60, checkpoint=tmp_path / "whole")
    checkpoint = tmp_path / "killed"
    process = multiprocessing.get_context("spawn").Process(target=train_slowly, args=(checkpoint,))
    process.start()
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    step = torch.load(checkpoint, weights_only=True)["step"]
    assert 0 < step < 60, "the kill came in the middle"
    seen = []

    def counted(start):
        seen.append(start)
        return batches(start)

    resumed = fit(RANDOM, n_steps=60, checkpoint=checkpoint, source=counted)
    assert seen == [step]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_a_training_that_began_from_centroids_resumes_without_looking_for_them_again(tmp_path):
    """They are those of the first twelve batches: 64 patches for each of 48."""
    whole = fit(n_steps=20, checkpoint=tmp_path / "whole")

    def stopping(start):
        yield from itertools.islice(batches(start), 15)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(n_steps=20, checkpoint=tmp_path / "c", source=stopping, seconds_between_checkpoints=0.0)
    read = []

    def counted(start):
        for step, batch in enumerate(batches(start), start):
            read.append(step)
            yield batch

    resumed = fit(n_steps=20, checkpoint=tmp_path / "c", source=counted)
    assert read == [15, 16, 17, 18, 19]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    "other", [{"config": settings(initialisation="random", seed=7)}, {"config": RANDOM, "data": "of another backbone"}]
)
def test_a_checkpoint_of_other_settings_or_data_is_not_continued(tmp_path, other):
    checkpoint = tmp_path / "c"

    def stopping(start):
        yield from itertools.islice(batches(start), 10)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(n_steps=20, checkpoint=checkpoint, source=stopping, seconds_between_checkpoints=0.0, **other)
    assert checkpoint.exists()
    fresh = fit(RANDOM, n_steps=20, tmp_path=tmp_path)
    assert torch.equal(fit(RANDOM, n_steps=20, checkpoint=checkpoint).W_dec, fresh.W_dec)


def test_a_broken_checkpoint_is_explained(tmp_path):
    (tmp_path / "c").write_bytes(b"\x00" * 20)
    with pytest.raises(StoreError, match="delete it to train from the start"):
        fit(checkpoint=tmp_path / "c", n_steps=2)


def test_divergence_is_an_error(tmp_path):
    def broken(start):
        while True:
            yield torch.full((256, D_MODEL), torch.nan)

    with pytest.raises(CheckpointError, match="diverged"):
        fit(RANDOM, tmp_path=tmp_path, n_steps=2, source=broken)


def test_a_training_that_diverges_ends_at_once_and_keeps_the_last_good_checkpoint(tmp_path):
    def breaking(start):
        yield from itertools.islice(batches(start), 3)
        while True:
            yield torch.full((256, D_MODEL), torch.nan)

    with pytest.raises(CheckpointError, match=r"training diverged: the loss of step 4 is not finite"):
        fit(RANDOM, checkpoint=tmp_path / "c", n_steps=20, source=breaking, seconds_between_checkpoints=0.0)
    (state,) = torch.load(tmp_path / "c", weights_only=True)["states"]
    assert all(torch.isfinite(tensor).all() for tensor in state["sae"].values())


@pytest.mark.parametrize("architecture", ["topk", "batch_topk", "jump_relu", "relu"])
@pytest.mark.parametrize("prefixes", [(), (12, 24)])
def test_every_architecture_learns_about_k_latents_a_patch(tmp_path, architecture, prefixes):
    config = settings(architecture, prefixes=prefixes, l1_coefficient=0.5)
    sae = fit(config, tmp_path=tmp_path, n_steps=600)
    metrics = measure_sae(sae, [patches(10_000, 2000)])
    assert metrics.explained_variance > 0.7
    assert metrics.l0 == pytest.approx(
        3, abs={"topk": 0.01, "batch_topk": 0.3, "jump_relu": 2, "relu": 9}[architecture]
    )
    assert torch.allclose(sae.W_dec.norm(dim=1), torch.ones(48), atol=1e-5)


def test_a_matryoshka_prefix_reconstructs_better_than_the_same_latents_trained_without(tmp_path):
    def error_of_prefix(prefixes):
        sae = fit(settings(prefixes=prefixes), tmp_path=tmp_path, n_steps=600)
        x = patches(10_000, 2000)
        latents = sae.encode(x)
        latents[:, 12:] = 0
        return (sae.decode(latents) - x).square().mean().item()

    assert error_of_prefix((12,)) < 0.9 * error_of_prefix(())


def test_the_threshold_of_batch_topk_keeps_about_k_latents_of_any_batch(tmp_path):
    sae = fit(settings("batch_topk"), tmp_path=tmp_path, n_steps=600)
    x = patches(10_000, 2000)
    together = sae.encode(x)
    assert float((together > 0).sum() / len(x)) == pytest.approx(3, abs=0.3)
    assert torch.allclose(sae.encode(x[:1]), together[:1], atol=1e-5), "a patch alone gets the same latents"


def test_a_sweep_gives_the_saes_that_trainings_of_their_own_give(tmp_path):
    configs = [
        CONFIG,
        settings(k=5),
        settings("relu", n_latents=32),
        settings("jump_relu", seed=3),
    ]
    together = train_saes(
        batches,
        configs,
        SCALE,
        n_steps=60,
        checkpoint=tmp_path / "sweep",
        data="drawn",
        accelerator=Accelerator(cpu=True),
    )
    assert [sae.config.n_latents for sae in together] == [48, 48, 32, 48]
    for config, sae in zip(configs, together, strict=True):
        alone = fit(config, tmp_path=tmp_path, n_steps=60)
        for name, tensor in alone.state_dict().items():
            assert torch.allclose(sae.state_dict()[name], tensor, atol=2e-3), name


def test_saes_of_a_sweep_share_their_batches(tmp_path):
    with pytest.raises(ConfigError, match="same batch_size"):
        train_saes(
            batches,
            [CONFIG, settings(batch_size=128)],
            SCALE,
            n_steps=1,
            checkpoint=tmp_path / "c",
            data="drawn",
            accelerator=Accelerator(cpu=True),
        )


def test_the_learning_curve_is_kept_over_a_kill(tmp_path):
    def stopping(start):
        yield from itertools.islice(batches(start), 25 - start)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(RANDOM, n_steps=50, checkpoint=tmp_path / "c", source=stopping, seconds_between_checkpoints=0.0)
    curve = fit(RANDOM, n_steps=50, checkpoint=tmp_path / "c").config.training["curve"]
    whole = fit(RANDOM, n_steps=50, tmp_path=tmp_path).config.training["curve"]
    assert curve["step"] == list(range(1, 51))
    assert curve == whole
    assert whole["explained_variance"][-1] > whole["explained_variance"][0]


@pytest.mark.parametrize(("n_steps", "is_timed"), [(1, False), (2, True)])
def test_the_first_step_says_nothing_of_the_pace_of_the_others(tmp_path, caplog, n_steps, is_timed):
    caplog.set_level(logging.INFO, logger="sae_traits")
    fit(n_steps=n_steps, tmp_path=tmp_path)
    (line,) = (record.message for record in caplog.records if record.message.startswith(f"train: step {n_steps} of"))
    assert ("patches/s" in line and "0 s left" in line) is is_timed


def test_who_wants_to_know_is_told_of_every_step(tmp_path):
    told = []
    with progress_to(lambda *words: told.append(words)):
        fit(n_steps=5, tmp_path=tmp_path)
    assert told == [("train", step, 5, "step") for step in (1, 2, 3, 4, 5)]


def test_trackers_get_the_measures(tmp_path):

    kept = KeptTracker()
    accelerator = Accelerator(cpu=True, log_with=[kept])
    accelerator.init_trackers("sae")
    train_saes(batches, [CONFIG], SCALE, n_steps=5, checkpoint=tmp_path / "c", data="d", accelerator=accelerator)
    assert list(kept.steps) == [1, 2, 3, 4, 5]
    assert set(kept.steps[5]) == {"loss", "explained_variance", "l0", "dead_share"}
