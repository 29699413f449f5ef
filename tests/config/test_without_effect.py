"""Options on the command line that would change nothing."""

import pytest
from traits.test_released_latents import dataset

from sae_traits.cli import main
from sae_traits.config.layers import resolve
from sae_traits.errors import ConfigError
from sae_traits.without_effect import refuse_options_without_effect

SERVER = {"describer": "server", "describer_model": "m"}


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"train": {"k": 8, "architecture": "relu"}}, "--k has no effect with --architecture relu"),
        ({"train": {"sae": "org/sae", "k": 8}}, "--sae uses an SAE as it is; leave out --k, or --sae"),
        ({"features": {"backbone": "texture", "layer": 5}}, "--layer has no effect with --backbone texture"),
        ({"contrast": {"firing_threshold": 0.5}}, "--firing-threshold has no effect with --contrast image"),
        ({"contrast": {"contrast": "paper", "everywhere": 0.5}}, "--everywhere has no effect with --contrast paper"),
        ({"contrast": {"regions": "whole", "contrast": "paper"}}, "--contrast has no effect with --regions whole"),
        ({"contrast": {"regions": "whole", "box_margin": 0.1}}, "--box-margin has no effect with --regions whole"),
        ({"contrast": {"regions": "gradcam", "overlap": 0.1}}, "--overlap has no effect with --regions gradcam"),
        ({"contrast": {"latents": "a/b", "everywhere": 0.5}}, "--everywhere has no effect with --latents"),
        ({"describe": {"temperature": 0.5}}, "--temperature has no effect with --describer measured"),
        ({"describe": SERVER | {"describer_device": "cpu"}}, "--describer-device has no effect with --describer serv"),
        (
            {"describe": SERVER | {"describer": "vllm", "base_url": "http://x"}},
            "--base-url has no effect with --describer vllm",
        ),
        ({"zero_shot": {"templates": "openai"}}, "--templates has no effect without --clip"),
    ],
)
def test_what_changes_nothing_is_refused(given, refused):
    with pytest.raises(ConfigError, match=refused):
        refuse_options_without_effect(given, resolve(given))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"train": {"k": 8}, "contrast": {"firing_quantile": 0.5}, "describe": {"use_masks": True}},
        {"train": {"sae": "org/sae", "sae_revision": "v1"}},
        {"train": {"sweep": "architecture=topk,relu", "l1_coefficient": 1e-3}},
        {"contrast": {"regions": "pca", "contrast": "paper", "firing_threshold": 0.5}},
        {"contrast": {"regions": "gradcam", "box_margin": 0.1}},
        {"contrast": {"latents": "a/b", "overlap": 0.3}},
        {"describe": {"describer": "measured", "describer_model": None}},
        {"describe": SERVER | {"base_url": "http://x", "temperature": 0.5}},
        {"zero_shot": {"clip": "a/b", "templates": "openai"}},
    ],
)
def test_what_is_read_is_not(given):
    refuse_options_without_effect(given, resolve(given))


@pytest.mark.parametrize("command", ["run", "describe"])
def test_a_run_does_not_keep_what_was_refused(tmp_path, capsys, command):
    (tmp_path / "photographs").mkdir()
    arguments = [command, str(tmp_path / "photographs"), "--out", str(tmp_path / "run"), "--max-tokens", "9"]
    latents = dataset(tmp_path / "traits")
    assert main([*arguments, "--latents", str(latents), "--sae", "org/sae"]) == 2
    assert "--max-tokens has no effect with --describer measured" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
