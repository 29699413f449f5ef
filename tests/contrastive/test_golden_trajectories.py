"""Our training step against open_clip's and BioCAP's own programs, step by step: losses, rates, scales, weights."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from golden_models import model_of, needs_golden, open_clip_gradients, open_clip_names, read

from sae_traits.config.finetune import OptimiserConfig
from sae_traits.contrastive.base_model import compute_layers_twice
from sae_traits.contrastive.objectives import clip_loss
from sae_traits.contrastive.optimisation import is_decayed
from sae_traits.contrastive.training_state import Batch, TrainingState

pytestmark = needs_golden


def state_of(model, settings, **options):
    optimiser, schedule = settings["optimizer"], settings["schedule"]
    config = OptimiserConfig(
        learning_rate=optimiser["lr"],
        warmup_steps=schedule["warmup"],
        weight_decay=optimiser["weight_decay"],
        beta1=optimiser["betas"][0],
        beta2=optimiser["betas"][1],
        epsilon=optimiser["eps"],
    )
    return TrainingState(model, config, clip_loss, Accelerator(cpu=True), n_steps=schedule["steps"], **options)


def batch_of(tensors, step, token_ids="token_ids", **options):
    rows = tensors["batches"][step]
    return Batch(pixels=tensors["images"][rows], token_ids=tensors[token_ids][rows], **options)


def assert_weights_are(model, tensors, atol):
    """No output depends on the bias of the keys: its gradient is noise in both programs, and Adam follows it."""
    ours = open_clip_names(model)
    expected = {name.removeprefix("final."): tensor for name, tensor in tensors.items() if name.startswith("final.")}
    assert ours.keys() == expected.keys()
    for name, tensor in expected.items():
        allowed = torch.full(tensor.shape, atol)
        if name.endswith("attn.in_proj_bias"):
            allowed.chunk(3)[1].fill_(max(atol, 1e-3))
        too_far = (ours[name].detach() - tensor).abs() > allowed
        assert not too_far.any(), (name, too_far.sum())


@pytest.mark.parametrize(("folder", "of_loss"), [("training", {"abs": 3e-5}), ("training_clamp", {"rel": 5e-5})])
def test_two_epochs_are_those_of_open_clip(folder, of_loss):
    settings, tensors = read(folder, "trajectory")
    state = state_of(model_of(settings, tensors, "init."), settings)
    losses, rates, scales = [], [], []
    for step in range(settings["schedule"]["steps"]):
        rates.append(state.learning_rate(step))
        scales.append(state.model.clip.logit_scale.exp().item())  # the golden set has what the step's loss is made with
        losses.append(state.step(step, batch_of(tensors, step)).item())
    assert rates == pytest.approx(settings["lr"], rel=1e-12)
    assert losses == pytest.approx(settings["loss"], **of_loss)
    assert scales == pytest.approx(settings["logit_scale_exp"], rel=1e-4)
    assert losses[-1] < losses[0]
    assert_weights_are(state.model, tensors, 5e-4)


@pytest.mark.parametrize("folder", ["training", "two_projections"])
def test_the_same_parameters_decay(folder):
    settings, tensors = read(folder, "trajectory" if folder == "training" else folder)
    model = model_of(settings, tensors, "init.")
    decayed = {name for name, parameter in model.named_parameters() if is_decayed(name, parameter)}
    for name, parameter in model.named_parameters():
        parameter.data.fill_(float(name in decayed))
    for name, tensor in open_clip_names(model).items():
        assert bool(tensor.any()) == (name in settings["optimizer"]["weight_decay_on"]), name


@pytest.mark.parametrize(("chunk_size", "twice"), [(None, False), (4, False), (3, True), (1, False)])
def test_gradient_caching_gives_the_gradients_of_the_whole_batch(chunk_size, twice):
    """Also where layers are computed twice."""
    settings, tensors = read("training", "trajectory")
    expected_settings, expected = read("gradient_caching", "gradients")
    model = model_of(settings, tensors, "init.", torch.float64)
    if twice:
        compute_layers_twice(model)
    state = state_of(model, settings, chunk_size=chunk_size)
    batch = batch_of(tensors, 0)
    loss = state.backward(0, Batch(pixels=batch.pixels.double(), token_ids=batch.token_ids))
    assert loss.item() == pytest.approx(expected_settings["loss_full"][0], abs=1e-9)
    ours = open_clip_gradients(model)
    assert {f"grad.{name}" for name in ours} == set(expected)
    for name, gradient in ours.items():
        np.testing.assert_allclose(gradient, expected[f"grad.{name}"], rtol=0, atol=1e-6, err_msg=name)
    scale = expected_settings["grad_logit_scale_full"]
    assert ours["logit_scale"].item() == pytest.approx(scale, abs=1e-9)
    assert scale != pytest.approx(expected_settings["grad_logit_scale_accum"])


@pytest.mark.parametrize("chunk_size", [None, 4])
def test_two_projections_are_trained_as_biocap_trains_them(chunk_size):
    settings, tensors = read("two_projections", "two_projections")
    state = state_of(model_of(settings, tensors, "init."), settings, chunk_size=chunk_size)
    losses = []
    for step, text_type in enumerate(settings["chosen_text_type"]):
        head = "caption" if text_type == "caption" else "taxonomy"
        batch = batch_of(tensors, step, f"token_ids.{text_type}", head=head)
        losses.append(state.step(step, batch).item())
    assert losses == pytest.approx(settings["loss"], abs=1e-5)
    assert_weights_are(state.model, tensors, 1e-4)


@pytest.mark.parametrize(("text_type", "head"), [("taxon", "taxonomy"), ("caption", "caption")])
def test_the_idle_projection_and_scale_get_no_gradient_at_all(text_type, head):
    settings, tensors = read("two_projections", "two_projections")
    model = model_of(settings, tensors, "init.")
    batch = batch_of(tensors, settings["forward"]["batch"], f"token_ids.{text_type}", head=head)
    encoded = model(batch.pixels, batch.token_ids, head)
    expected = tensors[f"forward.image_features_{'tax' if head == 'taxonomy' else head}"]
    np.testing.assert_allclose(encoded.image.detach(), expected, atol=1e-5)
    np.testing.assert_allclose(encoded.text.detach(), tensors[f"forward.text_features_{text_type}"], atol=1e-5)
    loss = state_of(model, settings).backward(0, batch)
    assert loss.item() == pytest.approx(settings["forward"][f"loss_{text_type}"], abs=1e-5)
    without = open_clip_names(model).keys() - open_clip_gradients(model).keys()
    assert without == set(settings["parameters_without_gradient"][text_type])
