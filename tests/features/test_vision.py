"""Any vision model at any hidden state, and what can be wrong with a model."""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from huggingface_hub import HfApi
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from tiny_models import KINDS, PREPROCESSOR, SIDE, reference_states, save_model
from torch import nn

from sae_traits.config.features import VisionModel
from sae_traits.errors import BackboneError
from sae_traits.features.backbone import Backbone, choose_device, load_backbone, restore_backbone
from sae_traits.features.vision import _Tap, _Taps
from sae_traits.sae.extractor import Extractor
from sae_traits.schema import BackboneInfo

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": SIDE,
    "patch_size": 14,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: save_model(kind, root / kind) for kind in KINDS}


def loaded(folder: Path, layer: int, *, framing: Any = "auto", **options: Any) -> Backbone:
    model = VisionModel(model=str(folder), layer=layer, **options)
    return load_backbone(model, framing=framing, device="cpu")


@contextmanager
def counting_calls() -> Iterator[Counter[str]]:
    """How often modules of each class are called, anywhere."""
    calls: Counter[str] = Counter()
    hook = torch.nn.modules.module.register_module_forward_pre_hook(lambda m, _: calls.update([type(m).__name__]))
    try:
        yield calls
    finally:
        hook.remove()


@pytest.mark.parametrize("layer", [0, 2, -2, -1])
@pytest.mark.parametrize("kind", KINDS)
def test_features_are_the_hidden_state_of_the_patches_and_nothing_runs_after_it(folders, kind, layer):
    backbone = loaded(folders[kind], layer, second_layer=layer)
    pixels = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with counting_calls() as calls:
        features = backbone.encode(pixels)

    states = reference_states(folders[kind], pixels)
    expected = states[layer]
    if expected.dim() == 4:
        n, channels, rows, columns = expected.shape
        expected = expected.permute(0, 2, 3, 1).reshape(n, rows * columns, channels)
        assert backbone.info.patch is None
    else:
        rows = columns = SIDE // 14
        expected = expected[:, KINDS[kind].n_prefix :]
        assert backbone.info.patch == 14
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-5 * max(1.0, float(expected.abs().max())))
    assert features.dtype == torch.float32
    assert (backbone.info.rows, backbone.info.columns) == (rows, columns)
    assert backbone.info.d_model == features.shape[2]
    assert backbone.info.layer == layer % len(states)

    # Hidden state 0 is what goes into the first block, except in MobileNetV2, where it is what the first gives.
    blocks_needed = backbone.info.layer + (kind == "mobilenet")
    assert calls[KINDS[kind].block] == blocks_needed


@pytest.mark.parametrize(("layer", "second"), [(3, 1), (1, 3), (-1, 2)])
@pytest.mark.parametrize("kind", ["dinov2-registers", "clip", "vit", "mobilenet"])
def test_two_layers_stand_side_by_side_each_at_unit_length_and_nothing_runs_after_the_later_one(
    folders, kind, layer, second
):
    if kind == "mobilenet":  # of which these have as many patches
        layer, second = {(3, 1): (11, 7), (1, 3): (7, 11), (-1, 2): (-5, 6)}[layer, second]
    backbone = loaded(folders[kind], layer, second_layer=second)
    pixels = torch.randn(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with counting_calls() as calls:
        features = backbone.encode(pixels)

    n_patches = backbone.info.rows * backbone.info.columns
    states = reference_states(folders[kind], pixels)
    expected = []
    for state in (states[layer], states[second]):
        patches = state.flatten(2).transpose(1, 2) if state.dim() == 4 else state[:, -n_patches:]
        expected.append(patches / patches.norm(dim=2, keepdim=True))
    torch.testing.assert_close(features, torch.cat(expected, dim=2), rtol=0, atol=1e-5)
    info = backbone.info
    assert (info.layer, info.second_layer) == (layer % len(states), second)
    assert info.d_model == features.shape[2]
    later = max(info.layer, second)
    assert calls[KINDS[kind].block] == 2 * (later + (kind == "mobilenet"))  # five images are two passes on a CPU

    restored = restore_backbone(BackboneInfo.from_dict(json.loads(json.dumps(info.to_dict()))), device="cpu")
    assert torch.equal(restored.encode(pixels), features)


@pytest.mark.parametrize(
    ("kind", "layer", "second"),
    [
        *(("mobilenet", 10, 8), ("mobilenet", -5, 9), ("mobilenet", 7, 5), ("mobilenet", 6, None)),
        *(("mobilenet", 1, None), ("dinov2", 4, None), ("vit", -1, None)),
    ],
)
def test_convolutional_networks_get_the_layer_two_before_if_it_has_as_many_patches(folders, kind, layer, second):
    by_default = loaded(folders[kind], layer).info
    assert by_default.second_layer == second
    if second is not None:
        assert loaded(folders[kind], layer, second_layer=second).info == by_default
        assert loaded(folders[kind], layer, second_layer=layer).info.second_layer is None


def test_a_second_layer_has_to_be_of_as_many_patches(folders):
    with pytest.raises(BackboneError, match=r"For --second-layer choose one of 5, 6, 7, 8, 9, 10$"):
        loaded(folders["mobilenet"], 11, second_layer=3)
    with pytest.raises(BackboneError, match=r"hidden states 0 to 4, not 7\. Choose --second-layer between 0 and 4 "):
        loaded(folders["dinov2"], 2, second_layer=7)


def test_what_was_recorded_of_one_layer_names_no_second(folders):
    values = loaded(folders["vit"], 2).info.to_dict()
    assert "second_layer" not in values  # so that records of earlier versions stay the same
    assert BackboneInfo.from_dict(values).layers == "layer 2"
    assert BackboneInfo.from_dict(values | {"second_layer": 1}).layers == "layers 2 and 1"


def test_a_patch_sees_the_pixels_it_is_made_of(folders):
    backbone = loaded(folders["vit"], 0, framing="squash")
    plain = Image.new("RGB", (230, 110), "white")
    for patch in (0, 3, 6, 13, 15):
        marked = plain.copy()
        x, y, width, height = backbone.info.grid(plain.size).box(patch)
        ImageDraw.Draw(marked).ellipse((x + 8, y + 8, x + width - 9, y + height - 9), fill="black")
        before, _ = Extractor(backbone)(plain)
        after, grid = Extractor(backbone)(marked)
        assert (after - before).norm(dim=1).argmax() == patch
        assert len(after) == grid.n_patches == 16


def test_only_patches_on_the_image_come_back_from_a_letterboxed_image(folders):
    backbone = loaded(folders["dinov2"], 2, framing="letterbox")
    features, grid = Extractor(backbone)(Image.new("RGB", (200, 100), "white"))
    assert grid.valid.tolist() == [4, 5, 6, 7, 8, 9, 10, 11]
    assert features.shape == (8, 32)


def test_what_workers_copy_is_small_and_holds_no_weights(folders):
    backbone = loaded(folders["dinov2"], 2)
    pickled = pickle.dumps(backbone.prepare)
    image = Image.effect_noise((90, 70), 60).convert("RGB")
    assert len(pickled) < 2000
    assert torch.equal(pickle.loads(pickled)(image), backbone.prepare(image))


def test_an_sae_can_train_on_the_features(folders):
    features = loaded(folders["vit"], 2).encode(torch.zeros(1, 3, SIDE, SIDE))
    weight = torch.ones(32, 4, requires_grad=True)
    (features @ weight).sum().backward()
    assert weight.grad is not None


def test_a_backbone_is_restored_from_what_was_recorded(folders, tmp_path):
    folder = shutil.copytree(folders["clip"], tmp_path / "clip")
    backbone = loaded(folder, -2, framing="letterbox")
    (folder / "preprocessor_config.json").unlink()  # what was recorded is enough
    restored = restore_backbone(
        type(backbone.info).from_dict(json.loads(json.dumps(backbone.info.to_dict()))), device="cpu"
    )
    image = Image.effect_noise((90, 70), 60).convert("RGB")
    assert restored.info == backbone.info
    assert torch.equal(Extractor(restored)(image)[0], Extractor(backbone)(image)[0])


@pytest.mark.parametrize("compute_dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["dinov2", "dinov3", "resnet"])
def test_a_model_computes_in_the_dtype_that_is_asked_for(folders, kind, compute_dtype, caplog):
    backbone = loaded(folders[kind], 2, compute_dtype=compute_dtype)
    assert f"computes in {compute_dtype} on a CPU, some five times slower than in float32" in caplog.text
    pixels = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    features, dtype = backbone.encode(pixels), getattr(torch, compute_dtype)
    model = hf.AutoModel.from_pretrained(folders[kind], dtype=dtype).eval()
    with torch.no_grad():
        expected = model(pixel_values=pixels.to(dtype), output_hidden_states=True).hidden_states[2].float()
    expected = expected.flatten(2).transpose(1, 2) if expected.dim() == 4 else expected[:, KINDS[kind].n_prefix :]
    assert features.dtype == torch.float32
    rounding = torch.finfo(dtype).eps
    torch.testing.assert_close(features, expected, rtol=0, atol=4 * rounding * float(expected.abs().max()))
    caplog.clear()
    exact = loaded(folders[kind], 2).encode(pixels)
    assert 0 < (features - exact).norm() < 8 * rounding * exact.norm()
    assert "slower" not in caplog.text


def test_the_dtype_is_restored_also_under_its_old_name_and_was_float32_before_it_was_recorded(folders, caplog):
    info = loaded(folders["vit"], 2, compute_dtype="bfloat16").info
    recorded = json.loads(json.dumps(info.to_dict()))
    assert recorded["compute_dtype"] == "bfloat16"
    restored = restore_backbone(BackboneInfo.from_dict(recorded), device="cpu")
    assert restored.info == info
    del recorded["compute_dtype"]
    assert BackboneInfo.from_dict(recorded | {"precision": "bfloat16"}) == info
    older = restore_backbone(BackboneInfo.from_dict(recorded), device="cpu")
    assert older.info == replace(info, compute_dtype="float32")
    pixels = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(older.encode(pixels), restored.encode(pixels))


def test_features_too_large_for_float16_are_not_passed_on(folders, tmp_path):
    folder = shutil.copytree(folders["vit"], tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    tensors = {name: tensor * 1e6 if "projection" in name else tensor for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    pixels = torch.ones(1, 3, SIDE, SIDE)
    assert loaded(folder, 2, compute_dtype="bfloat16").encode(pixels).isfinite().all()
    with pytest.raises(BackboneError, match="float16 cannot hold; choose --compute-dtype bfloat16 or float32"):
        loaded(folder, 2, compute_dtype="float16").encode(pixels)


def test_features_of_damaged_weights_are_not_passed_on(folders, tmp_path):
    folder = shutil.copytree(folders["vit"], tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {name: tensor * math.nan for name, tensor in tensors.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(BackboneError, match="not finite; its weights are damaged"):
        loaded(folder, 2).encode(torch.ones(1, 3, SIDE, SIDE))


def test_other_weights_are_not_taken_for_those_that_made_the_features(folders, tmp_path):
    info = loaded(folders["vit"], 2).info
    save_model("vit", tmp_path, seed=1)
    with pytest.raises(BackboneError, match=r"has revision sha256:\w{16}, not sha256:\w{16}"):
        restore_backbone(replace(info, backbone=str(tmp_path)), device="cpu")


def test_a_record_that_the_weights_do_not_keep_is_refused_by_what_differs(folders, tmp_path):
    folder = shutil.copytree(folders["vit"], tmp_path / "moved")
    info = loaded(folders["vit"], 2).info
    assert restore_backbone(replace(info, backbone=str(folder)), device="cpu").info.backbone == str(folder)
    recorded = replace(info, rows=info.rows + 1, d_model=7)
    with pytest.raises(BackboneError) as refused:
        restore_backbone(replace(recorded, backbone=str(folder)), device="cpu")
    assert f"d_model {info.d_model}, not 7; rows {info.rows}, not {info.rows + 1}; install" in str(refused.value)
    assert "BackboneInfo" not in str(refused.value)
    other = replace(info, framing=replace(info.framing, resample="bilinear"), mean=(0.0, 0.0, 0.0))
    assert [text.split()[0] for text in info.differences(other)] == ["mean", "framing.resample"]


@pytest.mark.parametrize("layer", [5, 11, -6])
def test_a_layer_that_does_not_exist_names_those_that_do(folders, layer):
    with pytest.raises(BackboneError, match=rf"hidden states 0 to 4, not {layer}\. Choose --layer between 0 and 4 "):
        loaded(folders["dinov2"], layer)


def test_a_folder_without_config_or_weights_is_refused(folders, tmp_path):
    with pytest.raises(BackboneError, match=r"has no config\.json"):
        loaded(tmp_path, 1)
    shutil.copy(folders["vit"] / "config.json", tmp_path)
    with pytest.raises(BackboneError, match="no weights"):
        loaded(tmp_path, 1)
    with pytest.raises(BackboneError, match=r"folder .*nowhere does not exist"):
        loaded(tmp_path / "nowhere", 1)


def test_a_language_model_is_refused(tmp_path):
    config = hf.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=9
    )
    hf.BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match=r"\(bert\) is not a vision model"):
        loaded(tmp_path, 1)


def test_a_config_that_no_one_knows_is_refused(folders, tmp_path):
    folder = shutil.copytree(folders["vit"], tmp_path / "m")
    (folder / "config.json").write_text('{"model_type": "herbarium"}')
    with pytest.raises(BackboneError, match=r"not of a model that transformers knows: .*herbarium"):
        loaded(folder, 1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architecture": "resnet50", "pretrained_cfg": {}}, "not of a model that transformers knows: .* timm"),
        ({"model_type": "timm_backbone", "backbone": "resnet50"}, "cannot load the weights of .* timm"),
        ({"model_type": "dinat"}, "cannot load the weights of .* natten"),
    ],
)
def test_a_model_that_wants_a_library_which_is_not_there_is_refused_in_one_line(folders, tmp_path, config, message):
    folder = shutil.copytree(folders["vit"], tmp_path / "m")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match=message) as caught:
        loaded(folder, 1)
    assert "\n" not in str(caught.value)


def test_a_missing_preprocessor_is_not_guessed(folders, tmp_path):
    folder = shutil.copytree(folders["vit"], tmp_path / "m")
    nested = {"image_processor": PREPROCESSOR, "processor_class": "SomeProcessor"}
    (folder / "preprocessor_config.json").rename(folder / "processor_config.json")
    (folder / "processor_config.json").write_text(json.dumps(nested))
    assert loaded(folder, 1).info.framing.shortest_side == 64
    (folder / "processor_config.json").unlink()
    with pytest.raises(BackboneError, match=r"has no preprocessor_config\.json"):
        loaded(folder, 1)


def test_weights_that_lack_a_tensor_are_refused_where_it_matters(folders, tmp_path):
    folder = shutil.copytree(folders["vit"], tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    lacking = next(name for name in tensors if ".2." in name and "weight" in name)
    save_file({k: v for k, v in tensors.items() if k != lacking}, folder / "model.safetensors", {"format": "pt"})
    assert loaded(folder, 2).info.layer == 2  # block 2 makes hidden state 3
    with pytest.raises(BackboneError, match=r"lack 1 tensors of its config, for example .*2\."):
        loaded(folder, 3)


def test_truncated_weights_are_refused(folders, tmp_path):
    folder = shutil.copytree(folders["vit"], tmp_path / "m")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(BackboneError, match="cannot load the weights") as caught:
        loaded(folder, 2)
    assert "\n" not in str(caught.value)
    weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    with pytest.raises(BackboneError, match=r"model\.safetensors holds no weights: .*`git lfs pull`"):
        loaded(folder, 2)


SHUFFLED = {
    "mae": (hf.ViTMAEModel, hf.ViTMAEConfig(**SMALL), "gives 5 tokens at this layer, fewer than 4 x 4 patches"),
    "mae-all": (hf.ViTMAEModel, hf.ViTMAEConfig(**SMALL, mask_ratio=0.0), "does not keep its patches in the order"),
    "hiera": (
        hf.HieraModel,
        hf.HieraConfig(
            embed_dim=16,
            image_size=[64, 64],
            patch_size=[4, 4],
            patch_padding=[0, 0],
            depths=[1, 1],
            num_heads=[1, 2],
            num_query_pool=1,
        ),
        "does not keep its patches in the order",
    ),
    "pixtral": (hf.PixtralVisionModel, hf.PixtralVisionConfig(**SMALL), "puts the patches of all images into one row"),
    "naflex": (
        hf.Siglip2VisionModel,
        hf.Siglip2VisionConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, patch_size=14
        ),
        r"needs more than pixel_values \(pixel_attention_mask, spatial_shapes\); .* NaFlex",
    ),
}


@pytest.mark.parametrize("kind", SHUFFLED)
def test_a_model_whose_tokens_cannot_be_placed_is_refused_in_one_line(tmp_path, kind):
    torch.manual_seed(0)
    model, config, reason = SHUFFLED[kind]
    model(config).save_pretrained(tmp_path)
    size = {"size": {"height": 64, "width": 64}, "do_center_crop": False} if kind == "hiera" else {}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR | size))
    with pytest.raises(BackboneError, match=reason) as refused:
        loaded(tmp_path, 0)
    assert "\n" not in str(refused.value)


def test_a_token_of_the_head_is_none_of_the_sequence(tmp_path):
    torch.manual_seed(0)
    hf.Aimv2VisionModel(hf.Aimv2VisionConfig(**SMALL)).save_pretrained(tmp_path)  # its pooling head has a cls_token
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    pixels = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    expected = reference_states(tmp_path, pixels)[2]
    assert expected.shape[1] == 16
    torch.testing.assert_close(loaded(tmp_path, 2).encode(pixels), expected, rtol=0, atol=1e-5)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(BackboneError, match="the device 'toaster' cannot be used here"):
        choose_device("toaster")


_BY_ID = """
import sys
from sae_traits.config.features import VisionModel
from sae_traits.errors import BackboneError
from sae_traits.features.backbone import load_backbone, restore_backbone
backbone = load_backbone(VisionModel(model="museum/tiny", layer=2), device="cpu")
restored = restore_backbone(backbone.info, device="cpu")
assert restored.info == backbone.info
print(backbone.info.backbone, backbone.info.revision)
for name, revision in (("museum/nothing", None), ("museum/tiny", "v9"), ("not an id", None)):
    try:
        load_backbone(VisionModel(model=name, revision=revision))
    except BackboneError as error:
        print(error)
"""


def test_a_model_on_the_hub_is_pinned_to_its_commit(folders, hub, hub_environment):
    api = HfApi(endpoint=hub.url, token=hub.token)
    api.create_repo("museum/tiny")
    commit = api.upload_folder(repo_id="museum/tiny", folder_path=folders["dinov2"]).oid
    done = subprocess.run(
        [sys.executable, "-c", _BY_ID], env=hub_environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    loaded, nothing, no_revision, no_id = done.stdout.splitlines()
    assert loaded == f"museum/tiny {commit}"
    assert nothing.startswith("there is no folder museum/nothing, and no model museum/nothing on the Hub")
    assert no_revision == "museum/tiny has no revision 'v9' on the Hub"
    assert no_id.startswith("'not an id' is neither a folder nor a Hub id")


_BY_WEIGHTS = """
import sys
from dataclasses import replace
from sae_traits.config.features import VisionModel
from sae_traits.errors import BackboneError
from sae_traits.features.backbone import load_backbone, restore_backbone
info = load_backbone(VisionModel(model=sys.argv[1], layer=2), device="cpu").info
assert info.revision.startswith("sha256:")
on_hub = replace(info, backbone="museum/tiny")
assert restore_backbone(on_hub, device="cpu").info == on_hub
try:
    restore_backbone(replace(info, backbone="museum/other"), device="cpu")
except BackboneError as error:
    print(error)
"""


def test_weights_that_were_in_a_folder_are_known_again_on_the_hub(folders, hub, hub_environment, tmp_path):
    api = HfApi(endpoint=hub.url, token=hub.token)
    for name, kind in (("museum/tiny", "dinov2"), ("museum/other", "vit")):
        api.create_repo(name)
        api.upload_folder(repo_id=name, folder_path=folders[kind])
    done = subprocess.run(
        [sys.executable, "-c", _BY_WEIGHTS, str(folders["dinov2"])],
        env=hub_environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.match(r"the model\.safetensors of museum/other@\w+ is not the weights sha256:\w+, which", done.stdout)


@pytest.mark.parametrize("network", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_without_network_the_message_says_what_to_do(tmp_path, network):
    code = (
        "from sae_traits.config.features import VisionModel\nfrom sae_traits.features.backbone import load_backbone\n"
        "load_backbone(VisionModel())"
    )
    environment = os.environ | network | {"HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert "facebook/dinov2-base is neither a folder nor in the Hub cache" in last
    assert "--backbone texture" in last
    assert "Retrying" not in done.stderr


@pytest.mark.skipif(not os.environ.get("SAE_TRAITS_SHARED"), reason="SAE_TRAITS_SHARED does not name real weights")
def test_real_weights_see_the_insect(tmp_path):
    shared = Path(os.environ["SAE_TRAITS_SHARED"])
    folder = shared / "models" / "mobilenet_v2_inat_insect"
    backbone = loaded(folder, 11)
    info = backbone.info
    assert (info.rows, info.columns, info.d_model, info.patch) == (14, 14, 192, None)
    assert info.layers == "layers 11 and 9"
    assert (info.framing.mode, info.framing.size, info.framing.resample) == ("squash", (224, 224), "bilinear")
    assert info.mean == info.std == (0.5, 0.5, 0.5)

    images = sorted((shared / "data" / "leeds_butterfly" / "images" / "Danaus_plexippus").iterdir())[:16]
    batch = torch.stack([backbone.prepare(Image.open(path).convert("RGB")) for path in images])
    started = time.monotonic()
    features = backbone.encode(batch)
    print(f"{len(images) / (time.monotonic() - started):.0f} images/s")
    states = [state.flatten(2).transpose(1, 2) for state in reference_states(folder, batch)]
    expected = torch.cat([torch.nn.functional.normalize(states[layer], dim=2) for layer in (11, 9)], dim=2)
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-4)
    # BatchNorm in train mode would make an image's features depend on the others of its batch.
    torch.testing.assert_close(backbone.encode(batch[:1]), features[:1], rtol=1e-4, atol=1e-4)


def test_a_shared_module_is_tapped_at_its_first_call():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = hf.ViTConfig(image_size=2)
            self.block, self.last = nn.Identity(), nn.Identity()

        def forward(self, pixel_values: torch.Tensor, **_: Any) -> torch.Tensor:
            twice = self.block(pixel_values) * 2
            return self.last(self.block(twice))

    model = Shared()
    taps = _Taps(model, [_Tap(model.last, "output", 5), _Tap(model.block, "output", 1)])
    last, first = taps.hidden(torch.ones(1, 3, 2, 2))
    assert (float(last.mean()), float(first.mean())) == (2, 1)
