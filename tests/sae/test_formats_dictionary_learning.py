import contextlib
import io
import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_saes import D_MODEL, N_LATENTS, assert_same, features, random_sae
from safetensors.torch import load_file

from sae_traits import SAE
from sae_traits.errors import CheckpointError
from sae_traits.sae.formats.files import Weights, read_pickle

COUNTS = {"k": torch.tensor(5, dtype=torch.int), "threshold": torch.tensor(0.4)}
GROUPS = [10, 15, 15]


def linear(sae, b_dec):
    """The tensors of a dictionary made of torch.nn.Linear."""
    tensors = sae.state_dict()
    return {
        "encoder.weight": tensors["W_enc"].T,
        "encoder.bias": tensors["b_enc"],
        "decoder.weight": tensors["W_dec"].T,
        b_dec: tensors["b_dec"],
    }


def plain(sae):
    return {name: tensor for name, tensor in sae.state_dict().items() if name != "threshold"}


def written_by(dict_class):
    """An SAE of ours, its tensors as that class of dictionary_learning has them, and its settings."""
    match dict_class:
        case "AutoEncoder":
            sae = random_sae("relu")
            return sae, linear(sae, "bias"), {}
        case "AutoEncoderNew":
            sae = random_sae("relu", subtract_decoder_bias=False)
            return sae, linear(sae, "decoder.bias"), {}
        case "AutoEncoderTopK":
            sae = random_sae("topk")
            return sae, linear(sae, "b_dec") | COUNTS, {"k": 5}
        case "BatchTopKSAE":
            sae = random_sae("batch_topk")
            return sae, linear(sae, "b_dec") | COUNTS, {"k": 5}
        case "MatryoshkaBatchTopKSAE":
            sae = random_sae("batch_topk", prefixes=(10, 25))
            tensors = plain(sae) | COUNTS | {"group_sizes": torch.tensor(GROUPS)}
            return sae, tensors, {"k": 5, "group_sizes": GROUPS}
        case "JumpReluAutoEncoder":
            sae = random_sae("jump_relu", subtract_decoder_bias=False)
            return sae, sae.state_dict(), {}
    raise ValueError(dict_class)


def write(folder, tensors, dict_class, **more):
    folder.mkdir(exist_ok=True)
    torch.save(tensors, folder / "ae.pt")
    trainer = {"dict_class": dict_class, "activation_dim": D_MODEL, "dict_size": N_LATENTS} | more
    (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {"ctx_len": 128}}))


CLASSES = [
    "AutoEncoder",
    "AutoEncoderNew",
    "AutoEncoderTopK",
    "BatchTopKSAE",
    "MatryoshkaBatchTopKSAE",
    "JumpReluAutoEncoder",
]


@pytest.mark.parametrize("dict_class", CLASSES)
def test_every_class_gives_the_sae_that_it_was_written_from(dict_class, tmp_path):
    original, tensors, settings = written_by(dict_class)
    write(tmp_path, tensors, dict_class, **settings)
    sae = SAE.from_pretrained(tmp_path)
    assert_same(original, sae, features())
    for field in ("architecture", "k", "prefixes", "subtract_decoder_bias"):
        assert getattr(sae.config, field) == getattr(original.config, field)
    assert sae.config.training["format"] == "dictionary_learning"
    assert sae.config.training["settings"]["trainer"]["dict_class"] == dict_class
    assert torch.equal(sae.W_dec, original.W_dec)  # with the norms that it had


def test_the_weights_file_alone_is_enough_to_find_the_settings_beside_it(tmp_path):
    original, tensors, settings = written_by("AutoEncoderTopK")
    write(tmp_path, tensors, "AutoEncoderTopK", **settings)
    assert_same(original, SAE.from_pretrained(tmp_path / "ae.pt"), features())


def test_a_threshold_that_training_never_set_lets_all_positive_latents_through(tmp_path):
    original, tensors, settings = written_by("BatchTopKSAE")
    write(tmp_path, tensors | {"threshold": torch.tensor(-1.0)}, "BatchTopKSAE", **settings)
    x = features()
    with torch.no_grad():
        assert torch.equal(SAE.from_pretrained(tmp_path).encode(x), original.pre_activations(x).relu())


@pytest.mark.parametrize(
    ("dict_class", "tensors", "settings", "message"),
    [
        ("GatedAutoEncoder", {}, {}, r"config\.json: dict_class is 'GatedAutoEncoder' \(a gated SAE .* reads AutoEnc"),
        ("CrossCoder", {}, {}, "dict_class is 'CrossCoder'; sae-traits reads"),
        ("AutoEncoderTopK", {}, {"k": 7}, r"ae\.pt: the tensor 'k' is 5; config\.json says 7"),
        ("AutoEncoderTopK", {}, {"k": 0}, "k must be a whole number from 1 to 40"),
        ("AutoEncoder", {}, {"dict_size": 41}, r"ae\.pt: the tensor 'encoder\.weight' has the shape \[40, 12\]"),
        ("BatchTopKSAE", {"threshold": torch.zeros(40)}, {}, r"the tensor 'threshold' has the shape \[40\]"),
        ("AutoEncoder", {"bias": torch.full((12,), torch.inf)}, {}, "the tensor 'bias' has numbers that are not fin"),
        ("AutoEncoder", {"r_mag": torch.zeros(40)}, {}, r"ae\.pt has a tensor 'r_mag'"),
        ("MatryoshkaBatchTopKSAE", {}, {"group_sizes": [10, 15]}, r"group_sizes must sum to dict_size \(40\)"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, dict_class, tensors, settings, message):
    _, whole, fitting = written_by(dict_class if dict_class in CLASSES else "AutoEncoder")
    write(tmp_path, whole | tensors, dict_class, **(fitting | settings))
    with pytest.raises(CheckpointError, match=message):
        SAE.from_pretrained(tmp_path)


def test_settings_without_a_trainer_are_named(tmp_path):
    write(tmp_path, {}, "AutoEncoder")
    (tmp_path / "config.json").write_text('{"model_type": "dinov2"}')
    with pytest.raises(CheckpointError, match=r"config\.json: trainer must be a JSON object, not None"):
        SAE.from_pretrained(tmp_path)


class _Bomb:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (os.mkdir, (self.folder,))


def test_pickled_code_is_not_run(tmp_path):
    write(tmp_path, {}, "AutoEncoder")
    (tmp_path / "ae.pt").write_bytes(pickle.dumps(_Bomb(str(tmp_path / "exploited")), protocol=2))
    with pytest.raises(CheckpointError, match=r"ae\.pt: the weights cannot be read without executing code"):
        SAE.from_pretrained(tmp_path)
    assert not (tmp_path / "exploited").exists()


@pytest.fixture(scope="module", params=[True, False], ids=["zip", "legacy"])
def pickled(request):
    """A small state dict in one of the two layouts that torch.save has."""
    content = io.BytesIO()
    torch.save({"bias": torch.ones(3)}, content, _use_new_zipfile_serialization=request.param)
    return content.getvalue()


@given(cut=st.floats(0, 1), place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
@settings(max_examples=100, deadline=None)
def test_whatever_is_damaged_in_a_pickle_is_a_checkpoint_error(pickled, cut, place, byte):
    damaged = bytearray(pickled)
    damaged[int(place * len(damaged))] = byte
    del damaged[max(1, int(cut * len(damaged))) :]
    with contextlib.suppress(CheckpointError):
        assert isinstance(read_pickle(Path("ae.pt"), io.BytesIO(bytes(damaged))), Weights)


@pytest.mark.parametrize("content", [[1, 2], {"encoder.weight": "text"}, torch.zeros(3)])
def test_a_pickle_that_is_no_state_dict_is_named(tmp_path, content):
    write(tmp_path, content, "AutoEncoder")
    with pytest.raises(CheckpointError, match=r"ae\.pt holds no state dict"):
        SAE.from_pretrained(tmp_path)


@pytest.mark.slow
def test_dictionary_learning_itself_gives_the_same_latents(tmp_path, run_peer):
    run_peer("dictionary_learning", "train_dictionary_learning.py", tmp_path)
    for dict_class in CLASSES:
        expected = load_file(tmp_path / dict_class / "expected.safetensors")
        sae = SAE.from_pretrained(tmp_path / dict_class)
        with torch.no_grad():
            latents = sae.encode(expected["x"])
            torch.testing.assert_close(latents, expected["latents"], atol=1e-5, rtol=0)
            torch.testing.assert_close(sae.decode(latents), expected["reconstruction"], atol=1e-5, rtol=0)
        assert 0 < (latents > 0).float().mean() < 1
    with pytest.raises(CheckpointError, match="a gated SAE"):
        SAE.from_pretrained(tmp_path / "GatedAutoEncoder")
