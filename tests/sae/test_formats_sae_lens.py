import json

import pytest
import torch
from random_saes import D_MODEL, N_LATENTS, assert_same, features, random_sae
from safetensors.torch import load_file, save_file

from sae_traits import SAE
from sae_traits.errors import CheckpointError

SETTINGS = {
    "d_in": D_MODEL,
    "d_sae": N_LATENTS,
    "dtype": "float32",
    "device": "cpu",
    "apply_b_dec_to_input": True,
    "normalize_activations": "none",
    "reshape_activations": "none",
    "metadata": {"sae_lens_version": "6.54.12", "sae_lens_training_version": "6.54.12"},
}


def write(folder, tensors, architecture, **more):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(SETTINGS | {"architecture": architecture} | more))


def without_threshold(sae):
    return {name: tensor for name, tensor in sae.state_dict().items() if name != "threshold"}


@pytest.mark.parametrize(
    ("name", "architecture", "k", "subtract"),
    [
        ("standard", "relu", None, True),
        ("standard_no_input_bias", "relu", None, False),
        ("topk", "topk", 8, True),
        ("jumprelu", "jump_relu", None, True),
    ],
)
def test_the_golden_folders_give_the_latents_and_reconstructions_of_sae_lens(golden, name, architecture, k, subtract):
    folder = golden / "sae_lens" / name
    sae = SAE.from_pretrained(folder)
    expected = load_file(folder / "expected.safetensors")
    with torch.no_grad():
        latents = sae.encode(expected["x"])
        torch.testing.assert_close(latents, expected["latents"], atol=1e-5, rtol=0)
        torch.testing.assert_close(sae.decode(latents), expected["reconstruction"], atol=1e-5, rtol=0)
    config = sae.config
    assert (config.architecture, config.k, config.subtract_decoder_bias) == (architecture, k, subtract)
    assert config.training["format"] == "sae_lens 6"
    assert config.training["settings"] == json.loads((folder / "cfg.json").read_text())


def test_latents_rescaled_by_the_decoder_norm_are_folded_exactly(tmp_path):
    original, x = random_sae("topk"), features()
    write(tmp_path, original.state_dict(), "topk", k=5, rescale_acts_by_decoder_norm=True)
    sae = SAE.from_pretrained(tmp_path)
    norms = original.W_dec.norm(dim=1)
    assert norms.max() / norms.min() > 1.5  # so that it matters which latents are largest
    with torch.no_grad():
        values, latents = (original.pre_activations(x) * norms).relu().topk(5)
        expected = torch.zeros(len(x), N_LATENTS).scatter(1, latents, values)
        torch.testing.assert_close(sae.encode(x), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(sae(x), original.decode(expected / norms), atol=1e-5, rtol=0)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(N_LATENTS))


@pytest.mark.parametrize("subtract", [True, False])
def test_a_known_factor_of_the_features_is_folded(tmp_path, subtract):
    """Latents are those of the scaled features, reconstructions those of the raw ones."""
    original, x = random_sae("relu", subtract_decoder_bias=subtract), features()
    write(
        tmp_path,
        original.state_dict(),
        "standard",
        normalize_activations="expected_average_only_in",
        apply_b_dec_to_input=subtract,
    )
    (tmp_path / "activation_scaler.json").write_text('{"scaling_factor": 0.25, "has_whitening": false}')
    sae = SAE.from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(sae.encode(4 * x), original.encode(x), atol=1e-5, rtol=0)
        torch.testing.assert_close(sae(4 * x), 4 * original(x), atol=1e-5, rtol=0)


def test_factor_norms_and_threshold_are_folded_in_the_order_that_keeps_the_unit_of_sae_lens(tmp_path):
    """SAELens folds the factor first: latents are in the unit of raw features, and so is their threshold."""
    original, x = random_sae("batch_topk"), features()
    tensors = without_threshold(original) | {"topk_threshold": torch.tensor(0.4, dtype=torch.float64)}
    scaling = {"normalize_activations": "expected_average_only_in", "rescale_acts_by_decoder_norm": True}
    write(tmp_path, tensors, "batchtopk", k=5, **scaling)
    (tmp_path / "activation_scaler.json").write_text('{"scaling_factor": 0.25}')
    sae = SAE.from_pretrained(tmp_path)
    norms = original.W_dec.norm(dim=1)
    with torch.no_grad():
        scaled = (original.pre_activations(x) * norms).relu()
        scaled = scaled * (scaled > 0.4)
        torch.testing.assert_close(sae.encode(4 * x), 4 * scaled, atol=1e-5, rtol=0)
        torch.testing.assert_close(sae(4 * x), 4 * original.decode(scaled / norms), atol=2e-5, rtol=0)


@pytest.mark.parametrize("scaler", [None, '{"scaling_factor": null}', '{"scaling_factor": 0}'])
def test_an_unknown_factor_is_an_error_that_says_why(tmp_path, scaler):
    write(tmp_path, random_sae("relu").state_dict(), "standard", normalize_activations="expected_average_only_in")
    if scaler:
        (tmp_path / "activation_scaler.json").write_text(scaler)
    with pytest.raises(CheckpointError, match=r"the factor is unknown.*activation_scaler\.json.*fold_activation_norm"):
        SAE.from_pretrained(tmp_path)


def test_a_matryoshka_checkpoint_of_training_is_read_as_the_jump_relu_that_it_becomes(tmp_path):
    original = random_sae("batch_topk", prefixes=(10, 25))
    tensors = without_threshold(original) | {"topk_threshold": torch.tensor(0.4, dtype=torch.float64)}
    write(tmp_path, tensors, "matryoshka_batchtopk", k=5.5, matryoshka_widths=[10, 25, 40])
    sae = SAE.from_pretrained(tmp_path)
    assert_same(original, sae, features())
    assert (sae.config.architecture, sae.config.prefixes) == ("jump_relu", (10, 25))


def test_the_widths_of_a_finished_matryoshka_sae_are_found_in_its_metadata(tmp_path):
    original = random_sae("jump_relu")
    details = {"training_architecture_details": {"matryoshka_widths": [10, 25, 40]}}
    write(tmp_path, original.state_dict(), "jumprelu", metadata=SETTINGS["metadata"] | details)
    assert SAE.from_pretrained(tmp_path).config.prefixes == (10, 25)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "gated"}, r"cfg\.json: the architecture is 'gated'; sae-traits reads standard, topk"),
        ({"architecture": None}, "the architecture is None"),
        ({"normalize_activations": "layer_norm"}, "normalize_activations is 'layer_norm'.*a factor of its own"),
        ({"metadata": {"sae_lens_version": "5.10.3"}}, "not of SAELens 6 or later.*'5.10.3'.*save it again"),
        ({"metadata": None}, "not of SAELens 6 or later"),
        ({"metadata": SETTINGS["metadata"] | {"sae_traits": {"backbone": {"layer": 1}}}}, "backbone is incomplete"),
        ({"matryoshka_widths": ["10"]}, r"cfg\.json: matryoshka_widths is no list of numbers"),
        ({"d_sae": 41}, r"sae_weights\.safetensors: the tensor 'W_enc' has the shape \[12, 40\].* \[12, 41\]"),
        ({"d_in": None}, r"cfg\.json: d_in must be a whole number"),
        ({"architecture": "jumprelu"}, r"sae_weights\.safetensors has no tensor 'threshold'; it has W_dec, W_enc, b_"),
        ({"architecture": "topk"}, "k must be a whole number from 1 to 40, not None"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(tmp_path, changes, message):
    write(tmp_path, random_sae("relu").state_dict(), **({"architecture": "standard"} | changes))
    with pytest.raises(CheckpointError, match=message):
        SAE.from_pretrained(tmp_path)


@pytest.mark.slow
def test_sae_lens_gives_the_same_for_what_it_saves_for_inference_and_as_checkpoints(tmp_path, run_peer):
    run_peer("sae_lens", "train_sae_lens.py", tmp_path)
    names = {folder.name for folder in tmp_path.iterdir()}
    assert names == {f"{name}{end}" for name in ("topk", "batchtopk", "matryoshka") for end in ("", "_checkpoint")}
    for folder in sorted(tmp_path.iterdir()):
        expected = load_file(folder / "expected.safetensors")
        sae = SAE.from_pretrained(folder)
        with torch.no_grad():
            latents = sae.encode(expected["x"])
            torch.testing.assert_close(latents, expected["latents"], atol=1e-5, rtol=0)
            torch.testing.assert_close(sae.decode(latents), expected["reconstruction"], atol=1e-5, rtol=0)
        assert sae.config.prefixes == ((10, 25) if "matryoshka" in folder.name else ())
