"""Losses and their gradients against open_clip's, BioCLIP 2's and our definition, in the golden set."""

import numpy as np
import pytest
import torch
from golden_models import model_of, needs_golden, read

from sae_traits.contrastive.objectives import Pairs, clip_loss, multi_positive_loss, siglip_loss, summed_loss

BY_THEIR_NAMES = {"ClipLoss": clip_loss, "SigLipLoss": siglip_loss}


def leaf(values, dtype=torch.float64):
    return torch.as_tensor(values, dtype=dtype).clone().requires_grad_()


def pairs_of(settings, tensors, dtype):
    case = settings["case"]
    image, text = leaf(tensors[f"{case}.image"], dtype), leaf(tensors[f"{case}.text"], dtype)
    groups = tensors.get(f"{case}.labels")
    scale = leaf(settings["logit_scale"], dtype)
    offset = None if settings["logit_bias"] is None else leaf(settings["logit_bias"], dtype)
    return image, text, scale, offset, Pairs.of_one_process(image, text, groups)


@needs_golden
def test_losses_and_gradients_are_those_of_open_clip():
    settings, tensors = read("losses", "losses")
    assert len(settings["cases"]) > 10
    for case in settings["cases"]:
        objective = BY_THEIR_NAMES.get(case["loss_function"], multi_positive_loss)
        image, text, scale, offset, pairs = pairs_of(case, tensors, torch.float64)
        loss = objective(pairs, scale, offset)
        loss.backward()
        name = case["case"]
        assert loss.item() == pytest.approx(case["loss_float64"], abs=1e-9), name
        np.testing.assert_allclose(image.grad, tensors[f"{name}.grad_image"], rtol=0, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(text.grad, tensors[f"{name}.grad_text"], rtol=0, atol=1e-9, err_msg=name)
        assert scale.grad.item() == pytest.approx(case["grad_logit_scale"], abs=1e-9), name
        if offset is not None:
            assert offset.grad.item() == pytest.approx(case["grad_logit_bias"], abs=1e-9), name
        if case["loss_float32"] is not None:
            *_, scale, offset, pairs = pairs_of(case, tensors, torch.float32)
            assert objective(pairs, scale, offset).item() == pytest.approx(case["loss_float32"], rel=1e-5), name


@needs_golden
def test_a_replay_has_the_losses_and_gradients_of_bioclip_2():
    settings, tensors = read("replay", "replay")
    n = settings["n_biology"]
    image, replayed = leaf(tensors["image_features"]), leaf(tensors["continual_features"])
    text, scale = leaf(tensors["text_features"]), leaf(settings["logit_scale"])
    parts = [Pairs.of_one_process(image[:n], text[:n]), Pairs.of_one_process(replayed[n:], text[n:])]
    assert clip_loss(parts[0], scale).item() == pytest.approx(settings["losses"]["contrastive_loss"], abs=1e-9)
    assert clip_loss(parts[1], scale).item() == pytest.approx(settings["losses"]["continual_loss"], abs=1e-9)
    total = summed_loss(clip_loss, parts, scale)
    total.backward()
    assert total.item() == pytest.approx(settings["total"], abs=1e-9)
    assert scale.grad.item() == pytest.approx(settings["grad_logit_scale"], abs=1e-9)
    for ours, theirs in ((image, "grad_image"), (replayed, "grad_continual"), (text, "grad_text")):
        np.testing.assert_allclose(ours.grad, tensors[theirs], rtol=0, atol=1e-9)


@needs_golden
def test_the_second_projection_of_bioclip_2_is_read_and_used():
    settings, tensors = read("replay", "replay")
    model = model_of(settings, tensors, "model.")
    pixels, token_ids = tensors["pixel_values"], tensors["token_ids"]
    with torch.no_grad():
        own = model(pixels, token_ids)
        replayed = model(pixels, token_ids, n_replayed=len(pixels))
    np.testing.assert_allclose(own.image, tensors["forward.image_features"], atol=1e-5)
    np.testing.assert_allclose(replayed.image, tensors["forward.continual_features"], atol=1e-5)
    np.testing.assert_allclose(own.text, tensors["forward.text_features"], atol=1e-5)
    assert own.scale.item() == pytest.approx(tensors["forward.logit_scale"].item(), rel=1e-5)


def test_repeated_species_cost_nothing_where_they_are_right():
    features = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1, 0], [0, 1]]), dim=1)
    groups = torch.tensor([7, 7, 3])
    pairs, scale = Pairs.of_one_process(features, features, groups), torch.tensor(100.0)
    assert multi_positive_loss(pairs, scale).item() == pytest.approx(2 / 3 * np.log(2), abs=1e-6)
    assert clip_loss(pairs, scale).item() == pytest.approx(2 / 3 * np.log(2), abs=1e-6)
    without = multi_positive_loss(Pairs.of_one_process(features, features, torch.arange(3)), scale)
    assert without.item() == pytest.approx(clip_loss(pairs, scale).item())
