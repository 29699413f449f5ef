import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from sae_traits import SAE, SAEConfig
from sae_traits.errors import CheckpointError, ConfigError
from sae_traits.geometry import Framing
from sae_traits.sae.architectures import ARCHITECTURES
from sae_traits.sae.architectures.topk import TopKSAE
from sae_traits.sae.card import bare_card
from sae_traits.schema import BackboneInfo

INFO = BackboneInfo(
    backbone="texture",
    revision="1",
    layer=0,
    d_model=6,
    rows=4,
    columns=4,
    patch=16.0,
    framing=Framing(mode="letterbox", size=(64, 64)),
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)


def make_sae(architecture="topk", n_latents=20, **arguments):
    k = 3 if architecture == "topk" else None
    return SAE.from_config(
        SAEConfig(architecture=architecture, d_model=6, n_latents=n_latents, k=k, **arguments), seed=1
    )


@given(k=st.integers(1, 20), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_topk_keeps_the_k_largest_pre_activations_and_nothing_negative(k, seed):
    sae = SAE.from_config(SAEConfig(architecture="topk", d_model=6, n_latents=20, k=k), seed=seed)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(seed))
    pre, latents = sae.pre_activations(x), sae.encode(x)
    for row_pre, row in zip(pre, latents, strict=True):
        largest = set(row_pre.topk(k).indices.tolist())
        expected = {i for i in largest if row_pre[i] > 0}
        assert set(row.nonzero().flatten().tolist()) == expected
        assert torch.equal(row[row > 0], row_pre[row > 0])


def test_relu_latents_follow_the_papers_equations():
    sae = make_sae("relu")
    with torch.no_grad():
        sae.b_enc.uniform_(-1, 1)
        sae.b_dec.uniform_(-1, 1)
    x = torch.randn(7, 6)
    latents = torch.relu((x - sae.b_dec) @ sae.W_enc + sae.b_enc)
    assert torch.allclose(sae.encode(x), latents, atol=1e-6)
    assert torch.allclose(sae(x), latents @ sae.W_dec + sae.b_dec, atol=1e-6)


def test_a_new_decoder_has_unit_rows_and_the_encoder_is_its_transpose():
    sae = make_sae()
    assert torch.allclose(sae.W_dec.norm(dim=1), torch.ones(20))
    assert torch.equal(sae.W_enc, sae.W_dec.T)


def test_tiles_cover_all_rows_within_the_memory_bound():
    sae = make_sae()
    x = torch.randn(23, 6)
    tiles = list(sae.encode_tiles(x, max_bytes=5 * 20 * 4))
    assert [start for start, _ in tiles] == [0, 5, 10, 15, 20]
    assert torch.allclose(torch.cat([latents for _, latents in tiles]), sae.encode(x), atol=1e-6)


@pytest.mark.parametrize("architecture", ["topk", "relu"])
def test_save_and_load_round_trip(architecture, tmp_path):
    sae = make_sae(architecture, backbone=INFO, training={"metrics": {"l0": 3.0}})
    sae.save_pretrained(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    again = SAE.from_pretrained(tmp_path)
    assert again.config == sae.config
    x = torch.randn(9, 6)
    assert torch.equal(again(x), sae(x))


def test_an_sae_in_a_subfolder_is_found(tmp_path):
    make_sae().save_pretrained(tmp_path / "k3")
    assert SAE.from_pretrained(tmp_path, subfolder="k3").config.n_latents == 20


def test_a_renamed_tensor_is_an_error_not_random_weights(tmp_path):
    make_sae().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["W_encoder"] = tensors.pop("W_enc")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"do not fit config\.json.*W_enc"):
        SAE.from_pretrained(tmp_path)


def test_a_truncated_file_is_an_error_that_names_the_folder(tmp_path):
    make_sae().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        SAE.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "bert"}, "not an SAE of sae-traits"),
        ({"architecture": "gated"}, "unknown architecture 'gated'"),
        ({"k": None}, "needs k"),
        ({"d_model": 7}, "do not fit"),
    ],
)
def test_a_config_that_does_not_fit_is_explained(change, message, tmp_path):
    make_sae().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        SAE.from_pretrained(tmp_path)


def test_a_folder_that_is_no_sae_and_an_id_that_is_none_are_explained(tmp_path):
    with pytest.raises(CheckpointError, match=r"needs config\.json and model\.safetensors"):
        SAE.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="neither a folder nor a file here, nor a Hub id"):
        SAE.from_pretrained("not/a/hub/id")


@pytest.mark.parametrize("k", [0, 21, "a", 2.5])
def test_a_k_that_no_patch_can_have_is_refused(k):
    with pytest.raises(CheckpointError, match="k"):
        SAE.from_config(SAEConfig(architecture="topk", d_model=6, n_latents=20, k=k))


def test_a_hub_that_cannot_be_reached_is_a_release_error():
    unreachable = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_secret"}
    program = """
from sae_traits import SAE, SAEConfig
from sae_traits.errors import ReleaseError
try:
    SAE.from_config(SAEConfig(architecture="relu", d_model=6, n_latents=20)).push_to_hub("museum/pushed")
except ReleaseError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], env=unreachable, capture_output=True, text=True, check=True)
    assert "cannot publish museum/pushed: " in done.stdout
    assert "check the network, and try again" in done.stdout
    assert len(done.stdout.splitlines()) == 1


ON_HUB = replace(INFO, backbone="facebook/dinov2-small", revision="ed25f3a31f01632728cabb09d1542f84ab7b0056")


@pytest.mark.parametrize(
    ("license", "expected"),
    [
        (None, {"license": "unknown"}),
        ("CC0", {"license": "cc0-1.0"}),
        (
            "Museum terms",
            {
                "license": "other",
                "license_name": "museum-terms",
                "license_link": "https://huggingface.co/museum/moth-sae#licence",
            },
        ),
    ],
)
def test_the_short_card_has_what_the_hub_reads(license, expected):
    card = ModelCard(bare_card(make_sae(backbone=ON_HUB).config.to_dict(), "museum/moth-sae", license=license))
    front = card.data.to_dict()
    assert {name: value for name, value in front.items() if name.startswith("license")} == expected
    assert (front["library_name"], front["pipeline_tag"]) == ("sae-traits", "image-feature-extraction")
    assert (front["base_model"], front["base_model_relation"]) == ("facebook/dinov2-small", "adapter")
    assert re.search(r"\]\(https://arxiv\.org/abs/2604\.01619\)", card.text), "the Hub takes links, not BibTeX"
    assert card.text.count("\n## Licence\n") == 1, "where the link of the licence leads"


def test_a_backbone_that_is_not_on_the_hub_is_no_base_model():
    card = ModelCard(bare_card(make_sae(backbone=INFO).config.to_dict(), "museum/moth-sae", license=None))
    assert not [name for name in card.data.to_dict() if name.startswith("base_model")]


def test_transformers_says_that_it_does_not_know_the_type(tmp_path):
    from transformers import AutoConfig

    make_sae().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="model type `sae-traits` but Transformers does not recognize"):
        AutoConfig.from_pretrained(tmp_path)


PUSH = """
from sae_traits import SAE, SAEConfig
from sae_traits.errors import ReleaseError

topk = SAE.from_config(SAEConfig(architecture="topk", d_model=6, n_latents=20, k=3), seed=1)
relu = SAE.from_config(SAEConfig(architecture="relu", d_model=6, n_latents=20), seed=2)
topk.push_to_hub("museum/pushed")
relu.push_to_hub("museum/pushed")
assert SAE.from_pretrained("museum/pushed").config.architecture == "relu"
relu.push_to_hub("museum/licensed", license="CC BY 4.0")
from huggingface_hub import HfApi, ModelCard

cards = {name: ModelCard.load(f"museum/{name}") for name in ("pushed", "licensed")}
assert [card.data.license for card in cards.values()] == ["unknown", "cc-by-4.0"]
assert "| architecture | relu |" in cards["pushed"].text
HfApi().upload_file(path_or_fileobj=b"# Mine", path_in_repo="README.md", repo_id="museum/pushed")
topk.push_to_hub("museum/pushed")
assert ModelCard.load("museum/pushed").text.strip() == "# Mine"
assert 'SAE.from_pretrained("museum/licensed")' in cards["licensed"].text

HfApi().upload_file(path_or_fileobj=b"{}", path_in_repo="sweep.json", repo_id="museum/pushed")
for repo_id, token in (("museum/pushed", None), ("museum/other", "hf_wrong"), ("a/b/c", None), ("x" * 200, None)):
    try:
        topk.push_to_hub(repo_id, token=token)
    except ReleaseError as error:
        print(error)
"""


def test_an_sae_is_pushed_in_the_place_of_the_one_before_but_not_into_a_sweep(hub_environment):
    done = subprocess.run(
        [sys.executable, "-c", PUSH], env=hub_environment, capture_output=True, text=True, check=True, timeout=120
    )
    sweep, token, *no_ids = done.stdout.splitlines()
    assert all("is no Hub id such as org/name" in line for line in no_ids)
    assert len(no_ids) == 2
    assert "holds a sweep" in sweep
    assert "token" in token
    assert "hf_wrong" not in done.stdout + done.stderr


@pytest.mark.parametrize("way", [SAE.encode, SAE.encode_sparse, SAE.__call__])
@pytest.mark.parametrize("architecture", ["topk", "relu", "k_means", "nmf"])
def test_features_of_another_width_are_refused_naming_both(way, architecture):
    k = 2 if architecture == "topk" else None
    sae = SAE.from_config(SAEConfig(architecture=architecture, d_model=INFO.d_model, n_latents=9, k=k, backbone=INFO))
    message = f"reads features of width {INFO.d_model}, of {INFO.backbone} at layer {INFO.layer}; these are of width 5"
    with pytest.raises(CheckpointError, match=message):
        way(sae, torch.zeros(3, 5))
    with pytest.raises(CheckpointError, match=r"features \[n, 6\], one row per patch, not \[2, 3, 6\]; bring the"):
        way(sae, torch.zeros(2, 3, INFO.d_model))


def test_every_architecture_of_the_registry_is_a_subclass_and_loads_as_itself(tmp_path):
    for name, subclass in ARCHITECTURES.items():
        sae = SAE.from_config(SAEConfig(architecture=name, d_model=6, n_latents=20, k=3))
        assert type(sae) is subclass
        sae.save_pretrained(tmp_path / name)
        assert type(SAE.from_pretrained(tmp_path / name)) is subclass
    assert isinstance(TopKSAE.from_pretrained(tmp_path / "topk"), SAE)
    with pytest.raises(CheckpointError, match="this is a ReLUSAE, not a TopKSAE; load it with SAE"):
        TopKSAE.from_pretrained(tmp_path / "relu")


def test_an_sae_whose_config_names_another_architecture_is_not_saved(tmp_path):
    sae = TopKSAE(SAEConfig(architecture="relu", d_model=6, n_latents=20, k=3))
    with pytest.raises(CheckpointError, match="a TopKSAE whose config says 'relu'"):
        sae.save_pretrained(tmp_path / "sae")
    assert not (tmp_path / "sae").exists()


@pytest.mark.parametrize(
    ("architecture", "facts", "expected"),
    [
        ("topk", {"backbone": INFO}, "TopKSAE(d_model=6, n_latents=20, k=3, backbone=texture, layer=0)"),
        ("relu", {}, "ReLUSAE(d_model=6, n_latents=20)"),
        ("k_means", {}, "KMeansDictionary(d_model=6, n_latents=20)"),
    ],
)
def test_an_sae_says_what_it_is_in_one_line(architecture, facts, expected):
    assert repr(make_sae(architecture, **facts)) == expected


def test_weights_can_be_loaded_in_half_precision(tmp_path):
    sae = make_sae()
    sae.save_pretrained(tmp_path)
    half = SAE.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in half.state_dict().values()} == {torch.bfloat16}
    x = torch.randn(9, 6)
    assert half(x).dtype == torch.bfloat16
    assert torch.allclose(half.encode(x).sum(1).float(), sae.encode(x).sum(1), rtol=0.05)
    assert torch.equal(half.bfloat16().encode(x.bfloat16()), half.encode(x.bfloat16()))
    for dtype in ("bfloat16", torch.int32):
        with pytest.raises(ConfigError, match=r"the dtype of an SAE is torch\.float32, .* or the like, not"):
            SAE.from_pretrained(tmp_path, dtype=dtype)


@pytest.mark.parametrize("way", [SAE.encode, SAE.encode_sparse, SAE.decode, SAE.__call__])
@pytest.mark.parametrize(
    ("x", "kind"), [([[0.0] * 6], "list"), (torch.zeros(2, 6, dtype=torch.int64), "a tensor of torch.int64")]
)
def test_what_is_no_tensor_of_real_numbers_is_refused_in_one_line(way, x, kind):
    with pytest.raises(CheckpointError, match=rf"as a torch tensor of real numbers, not {kind}$"):
        way(make_sae(), x)


@pytest.mark.parametrize("shape", [(20,), (2, 3, 20), (5, 19)])
def test_latents_of_another_shape_are_not_decoded(shape):
    with pytest.raises(CheckpointError, match=r"decodes latents \[n, 20\], one row per patch, not \["):
        make_sae().decode(torch.zeros(shape))


def test_the_hash_is_that_of_the_weights_and_of_what_encodes():
    sae = make_sae()
    with torch.no_grad():
        for tensor in sae.parameters():
            tensor.copy_(torch.arange(tensor.numel()).view(tensor.shape) / 8)
    assert sae.weights_hash() == make_sae_of(sae, training={"metrics": {}}).weights_hash() == "9d771352e0e1279e"
    assert sae.weights_hash() != make_sae_of(sae, k=4).weights_hash()
    with torch.no_grad():
        sae.b_dec[0] += 1
    assert sae.weights_hash() != "9d771352e0e1279e"


@pytest.mark.parametrize("architecture", ["topk", "relu"])
def test_an_sae_of_one_latent_is_an_sae(tmp_path, architecture):
    k = {"k": 1} if architecture == "topk" else {}
    sae = SAE.from_config(SAEConfig(architecture=architecture, d_model=59, n_latents=1, **k))
    sae.save_pretrained(tmp_path)
    again = SAE.from_pretrained(tmp_path)
    assert again.weights_hash() == sae.weights_hash()
    assert again.encode(torch.randn(4, 59)).shape == (4, 1)


def make_sae_of(sae, **changes):
    other = SAE.from_config(replace(sae.config, **changes))
    other.load_state_dict(sae.state_dict())
    return other
