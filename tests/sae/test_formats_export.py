import json

import pytest
import torch
from random_saes import D_MODEL, assert_same, features, random_sae
from safetensors.torch import load_file, save_file

from sae_traits import SAE
from sae_traits.errors import CheckpointError, StoreError
from sae_traits.geometry import Framing
from sae_traits.sae.formats.export import convert, save_sae_lens
from sae_traits.schema import BackboneInfo

INFO = BackboneInfo(
    backbone="texture",
    revision="1",
    layer=0,
    d_model=D_MODEL,
    rows=4,
    columns=4,
    patch=16.0,
    framing=Framing(mode="letterbox", size=(64, 64)),
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)
EXPORTED = {
    "relu": ({}, "standard"),
    "relu_without_input_bias": ({"subtract_decoder_bias": False}, "standard"),
    "topk": ({}, "topk"),
    "batch_topk": ({}, "jumprelu"),
    "jump_relu": ({}, "jumprelu"),
    "matryoshka_relu": ({"prefixes": (10, 25)}, "standard"),
    "matryoshka_topk": ({"prefixes": (10, 25)}, "topk"),
    "matryoshka_batch_topk": ({"prefixes": (10, 25)}, "jumprelu"),
    "matryoshka_jump_relu": ({"prefixes": (10, 25)}, "jumprelu"),
}


def make(name):
    arguments, _ = EXPORTED[name]
    return random_sae(name.removeprefix("matryoshka_").removesuffix("_without_input_bias"), **arguments)


@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_sae_loads_back_with_the_same_latents(name, tmp_path):
    sae = make(name)
    save_sae_lens(sae, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cfg.json", "sae_weights.safetensors"]
    assert json.loads((tmp_path / "cfg.json").read_text())["architecture"] == EXPORTED[name][1]
    again = SAE.from_pretrained(tmp_path)
    assert_same(sae, again, features())
    assert again.config.prefixes == ()  # they matter to training alone


def test_the_backbone_survives_so_that_a_photograph_still_becomes_latents(tmp_path):
    save_sae_lens(random_sae("topk", backbone=INFO), tmp_path)
    assert SAE.from_pretrained(tmp_path).config.backbone == INFO


def test_a_threshold_that_training_has_not_set_is_written_as_zero(tmp_path):
    sae = random_sae("batch_topk")
    with torch.no_grad():
        sae.threshold.fill_(-1.0)
    save_sae_lens(sae, tmp_path)
    assert load_file(tmp_path / "sae_weights.safetensors")["threshold"].eq(0).all()


@pytest.mark.parametrize("architecture", ["k_means", "nmf"])
def test_baselines_cannot_be_exported(architecture, tmp_path):
    with pytest.raises(CheckpointError, match=f"a {architecture} dictionary cannot be written for SAELens"):
        save_sae_lens(random_sae(architecture), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=f"cannot write the SAE to {tmp_path}/file"):
        save_sae_lens(random_sae("relu"), tmp_path / "file")


@pytest.mark.parametrize("name", ["standard", "standard_no_input_bias", "topk", "jumprelu"])
def test_sae_lens_converts_to_ours_and_back(golden, tmp_path, name):
    source = golden / "sae_lens" / name
    ours = convert(str(source), tmp_path / "ours")
    assert (tmp_path / "ours" / "config.json").is_file()
    back = convert(str(tmp_path / "ours"), tmp_path / "back", to="sae_lens")
    expected = load_file(source / "expected.safetensors")
    for sae in (ours, back, SAE.from_pretrained(tmp_path / "ours"), SAE.from_pretrained(tmp_path / "back")):
        with torch.no_grad():
            torch.testing.assert_close(sae.encode(expected["x"]), expected["latents"], atol=1e-5, rtol=0)
    before, after = (json.loads((folder / "cfg.json").read_text()) for folder in (source, tmp_path / "back"))
    assert {key: after[key] for key in before if key != "metadata"} == {
        key: value for key, value in before.items() if key != "metadata"
    }


def test_the_papers_checkpoint_converts(golden, tmp_path):
    convert(str(golden / "saev_v1" / "sae.pt"), tmp_path / "new", to="sae_lens")
    forward = load_file(golden / "saev_v1" / "forward.safetensors")
    with torch.no_grad():
        latents = SAE.from_pretrained(tmp_path / "new").encode(forward["x"])
    torch.testing.assert_close(latents, forward["f_x"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("to", ["sae-traits", "sae_lens"])
def test_nothing_is_written_into_a_folder_that_is_not_empty(golden, tmp_path, to):
    (tmp_path / "keep.txt").write_text("mine")
    for destination in (tmp_path, tmp_path / "keep.txt"):
        with pytest.raises(CheckpointError, match="is not an empty folder"):
            convert(str(golden / "sae_lens" / "topk"), destination, to=to)
    assert [file.name for file in tmp_path.iterdir()] == ["keep.txt"]


@pytest.mark.parametrize("to", ["sae-traits", "sae_lens"])
def test_what_a_killed_conversion_left_is_not_in_the_way(golden, tmp_path, to):
    (tmp_path / ".new.sae-traits-partial").mkdir()
    (tmp_path / ".new.sae-traits-partial" / "cfg.json").write_text("{")
    convert(str(golden / "sae_lens" / "topk"), tmp_path / "new", to=to)
    assert SAE.from_pretrained(tmp_path / "new").config.architecture == "topk"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_source_that_is_no_sae_leaves_no_folder_behind(tmp_path):
    with pytest.raises(CheckpointError, match="neither a folder nor a file here"):
        convert("no/such/sae", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_sae_lens_itself_loads_what_we_export_and_the_golden_folders(golden, tmp_path, run_peer):
    saes = {name: make(name) for name in EXPORTED}
    for name, sae in saes.items():
        save_sae_lens(sae, tmp_path / name)
        save_file({"x": features()}, tmp_path / name / "x.safetensors")
    goldens = sorted((golden / "sae_lens").iterdir())
    for folder in goldens:  # exported back, through ours
        convert(str(folder), tmp_path / f"golden_{folder.name}", to="sae_lens")
        x = load_file(folder / "expected.safetensors")["x"]
        save_file({"x": x}, tmp_path / f"golden_{folder.name}" / "x.safetensors")
    run_peer("sae_lens", "read_sae_lens.py", *sorted(tmp_path.iterdir()))
    for name, sae in saes.items():
        found = load_file(tmp_path / name / "by_sae_lens.safetensors")
        with torch.no_grad():
            latents = sae.encode(features())
            torch.testing.assert_close(found["latents"], latents, atol=1e-5, rtol=0)
            torch.testing.assert_close(found["reconstruction"], sae.decode(latents), atol=1e-5, rtol=0)
    for folder in goldens:
        found = load_file(tmp_path / f"golden_{folder.name}" / "by_sae_lens.safetensors")
        expected = load_file(folder / "expected.safetensors")
        for key in ("latents", "reconstruction"):
            torch.testing.assert_close(found[key], expected[key], atol=1e-5, rtol=0)
