import json

import pytest
import torch
from random_saes import D_MODEL, N_LATENTS, assert_same, features, random_sae
from safetensors.torch import load_file, save_file

from sae_traits import SAE
from sae_traits.errors import CheckpointError

SETTINGS = {"activation": "topk", "expansion_factor": 32, "num_latents": N_LATENTS, "k": 5, "d_in": D_MODEL}


@pytest.fixture
def original():
    return random_sae("topk")


@pytest.fixture
def checkpoint(original, tmp_path):
    """A folder as sparsify writes it: the encoder is a torch.nn.Linear, the decoder has one row a latent."""
    tensors = original.state_dict()
    theirs = {
        "encoder.weight": tensors["W_enc"].T.contiguous(),
        "encoder.bias": tensors["b_enc"],
        "W_dec": tensors["W_dec"],
        "b_dec": tensors["b_dec"],
    }
    save_file(theirs, tmp_path / "sae.safetensors")
    (tmp_path / "cfg.json").write_text(json.dumps(SETTINGS))
    return tmp_path


def change_settings(checkpoint, **changes):
    (checkpoint / "cfg.json").write_text(json.dumps(SETTINGS | changes))


def test_it_is_a_topk_sae_that_subtracts_the_decoder_bias_and_keeps_its_norms(original, checkpoint):
    sae = SAE.from_pretrained(checkpoint)
    assert_same(original, sae, features())
    assert (sae.config.architecture, sae.config.k, sae.config.subtract_decoder_bias) == ("topk", 5, True)
    assert sae.config.training == {"format": "sparsify", "settings": SETTINGS}


def test_the_latents_are_those_of_its_own_formula(checkpoint):
    theirs, x = load_file(checkpoint / "sae.safetensors"), features()
    pre = torch.nn.functional.linear(x - theirs["b_dec"], theirs["encoder.weight"], theirs["encoder.bias"]).relu()
    values, latents = pre.topk(5)
    reconstruction = torch.stack([v @ theirs["W_dec"][i] for v, i in zip(values, latents, strict=True)])
    sae = SAE.from_pretrained(checkpoint)
    with torch.no_grad():
        torch.testing.assert_close(sae.encode(x).gather(1, latents), values, atol=1e-5, rtol=0)
        torch.testing.assert_close(sae(x), reconstruction + theirs["b_dec"], atol=1e-5, rtol=0)


def test_half_precision_becomes_single(original, checkpoint):
    tensors = load_file(checkpoint / "sae.safetensors")
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, checkpoint / "sae.safetensors")
    sae = SAE.from_pretrained(checkpoint)
    assert sae.W_enc.dtype == torch.float32
    assert torch.equal(sae.W_enc, original.W_enc.bfloat16().float())


def test_without_num_latents_the_expansion_factor_says_how_many(checkpoint):
    change_settings(checkpoint, num_latents=0, expansion_factor=3)
    with pytest.raises(CheckpointError, match=r"'encoder\.weight' has the shape \[40, 12\]; its settings say \[36, 12"):
        SAE.from_pretrained(checkpoint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "groupmax"}, r"cfg\.json: the activation is 'groupmax'; sae-traits reads topk"),
        ({"transcode": True}, "transcode is on, and sae-traits has no such SAE: it predicts the output"),
        ({"skip_connection": True}, "skip_connection is on"),
        ({"signed": True}, "signed is on.*negative"),
        ({"k": None}, r"cfg\.json: k must be a whole number from 1 to 40, not None"),
        ({"k": 41}, "k must be a whole number from 1 to 40, not 41"),
        ({"d_in": "12"}, "d_in must be a whole number above 0, not '12'"),
    ],
)
def test_what_is_no_plain_topk_sae_is_refused_with_the_reason(checkpoint, changes, message):
    change_settings(checkpoint, **changes)
    with pytest.raises(CheckpointError, match=message):
        SAE.from_pretrained(checkpoint)


@pytest.mark.parametrize("name", ["encoder.weight", "encoder.bias", "W_dec", "b_dec"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tensor: {}, r"sae\.safetensors has no tensor '{}'"),
        (lambda tensor: {"": tensor[:-1]}, r"sae\.safetensors: the tensor '{}' has the shape"),
        (lambda tensor: {"": tensor * torch.nan}, r"sae\.safetensors: the tensor '{}' has numbers that are not finite"),
        (lambda tensor: {"": tensor, "_too": tensor.clone()}, r"sae\.safetensors has a tensor '{}_too'"),
    ],
    ids=["missing", "short", "nan", "unknown"],
)
def test_a_damaged_tensor_is_named_with_its_file(checkpoint, name, damage, message):
    tensors = load_file(checkpoint / "sae.safetensors")
    damaged = {name + suffix: tensor for suffix, tensor in damage(tensors.pop(name)).items()}
    save_file(tensors | damaged, checkpoint / "sae.safetensors")
    with pytest.raises(CheckpointError, match=message.format(name.replace(".", r"\."))):
        SAE.from_pretrained(checkpoint)


@pytest.mark.parametrize("content", ["", "not json", "[1, 2]", "\ud800".encode("utf-8", "surrogatepass")])
def test_settings_that_are_no_json_object_are_named(checkpoint, content):
    (checkpoint / "cfg.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CheckpointError, match=r"cfg\.json (is not JSON|must hold a JSON object)"):
        SAE.from_pretrained(checkpoint)


def test_truncated_weights_are_named(checkpoint):
    weights = checkpoint / "sae.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r"sae\.safetensors: the weights cannot be read"):
        SAE.from_pretrained(checkpoint)


def test_weights_that_git_lfs_did_not_fetch_are_named(checkpoint):
    (checkpoint / "sae.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    with pytest.raises(CheckpointError, match=r"sae\.safetensors: the weights cannot be read: .*`git lfs pull`"):
        SAE.from_pretrained(checkpoint)
