"""Which layout lies where: folders, files and Hub repositories."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from random_saes import assert_same, features, random_sae
from safetensors.torch import load_file

from sae_traits import SAE
from sae_traits.errors import CheckpointError
from sae_traits.sae.formats.export import save_sae_lens

EVERY_LAYOUT = (
    r"config\.json and model\.safetensors \(sae-traits\), or cfg\.json and sae_weights\.safetensors \(SAELens\), "
    r"or cfg\.json and sae\.safetensors \(sparsify\), or config\.json and ae\.pt \(dictionary_learning\), "
    r"or sae\.pt \(saev\)"
)


@pytest.mark.parametrize("content", [b"", b"not json\nrest", b'{"d_vit": 4}\nrest', b"[1]\nrest", b"\x80\x04\x95"])
def test_an_unknown_file_is_refused_naming_everything_that_was_looked_for(content, tmp_path):
    (tmp_path / "file.pt").write_bytes(content)
    with pytest.raises(
        CheckpointError, match=rf"file\.pt is not an SAE: looked for a folder with {EVERY_LAYOUT}; a sa"
    ):
        SAE.from_pretrained(tmp_path / "file.pt")


@pytest.mark.parametrize("files", [(), ("config.json",), ("cfg.json",), ("model.safetensors",), ("ae.pt",)])
def test_an_unknown_folder_is_refused_naming_everything_that_was_looked_for(files, tmp_path):
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(
        CheckpointError, match=f"{tmp_path} is not an SAE: it needs {EVERY_LAYOUT}. Where there are sev"
    ):
        SAE.from_pretrained(tmp_path)


def test_the_weights_stand_for_their_folder(golden, tmp_path):
    sae = random_sae("topk")
    sae.save_pretrained(tmp_path)
    assert_same(sae, SAE.from_pretrained(tmp_path / "model.safetensors"), features())
    folder = golden / "sae_lens" / "topk"
    assert SAE.from_pretrained(folder / "sae_weights.safetensors").config == SAE.from_pretrained(folder).config


def test_a_saev_file_may_have_any_name_and_its_folder_is_known_by_the_published_one(golden, tmp_path):
    shutil.copy(golden / "saev_v1" / "sae.pt", tmp_path / "checkpoint_100000.bin")
    config = SAE.from_pretrained(tmp_path / "checkpoint_100000.bin").config
    assert config == SAE.from_pretrained(golden / "saev_v1").config
    assert config.n_latents == 256


def test_ours_goes_before_others_in_the_same_folder(golden, tmp_path):
    shutil.copytree(golden / "sae_lens" / "topk", tmp_path, dirs_exist_ok=True)
    random_sae("batch_topk").save_pretrained(tmp_path)
    assert SAE.from_pretrained(tmp_path).config.architecture == "batch_topk"


def test_a_hub_repository_of_any_layout_is_loaded_and_nothing_else_is_downloaded(
    golden, hub, hub_environment, tmp_path
):
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.url, token=hub.token)
    repo = tmp_path / "repo"
    shutil.copytree(golden / "sae_lens" / "topk", repo / "lens")
    shutil.copytree(golden / "saev_v1", repo / "paper")
    random_sae("jump_relu").save_pretrained(repo)
    (repo / "lens" / "activation_scaler.json").write_text("{}")
    (repo / "lens" / "trainer_state.pt").write_bytes(b"large")
    api.create_repo("museum/saes")
    api.upload_folder(repo_id="museum/saes", folder_path=repo)
    code = """
import json, sys
from pathlib import Path
from sae_traits import SAE
found = {}
for subfolder in ("", "lens", "paper"):
    cache = Path(sys.argv[1], subfolder or "root")
    sae = SAE.from_pretrained("museum/saes", subfolder=subfolder, cache_dir=cache)
    snapshot = next(cache.glob("models--*/snapshots/*"))
    files = sorted(str(file.relative_to(snapshot)) for file in snapshot.rglob("*") if not file.is_dir())
    found[subfolder] = [sae.config.architecture, sae.config.n_latents, files]
print(json.dumps(found))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "cache"], env=hub_environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "": ["jump_relu", 40, ["config.json", "model.safetensors"]],
        "lens": ["topk", 160, ["lens/activation_scaler.json", "lens/cfg.json", "lens/sae_weights.safetensors"]],
        "paper": ["relu", 256, ["paper/sae.pt"]],
    }


def test_shards_are_read(tmp_path):
    from huggingface_hub import save_torch_model

    sae = random_sae("relu")
    sae.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    save_torch_model(sae, tmp_path, max_shard_size=3000)
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 1
    again = SAE.from_pretrained(tmp_path)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in sae.state_dict().items())
    first = min(tmp_path.glob("model-*-of-*.safetensors"))
    assert load_file(first)
    first.unlink()
    with pytest.raises(CheckpointError, match=r"model-00001-of-0000\d.safetensors: the weights cannot be read"):
        SAE.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["", "model.safetensors"])
def test_a_revision_of_what_lies_here_is_refused(name, tmp_path):
    random_sae("topk").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"lies on this machine, .* the revision 'v1'; leave out the revision"):
        SAE.from_pretrained(tmp_path / name, revision="v1")


def test_a_subfolder_of_a_file_is_refused(tmp_path):
    random_sae("topk").save_pretrained(tmp_path / "topk-k5")
    with pytest.raises(CheckpointError, match=r"is a file and has no subfolder 'topk-k5'; leave out the subfolder, or"):
        SAE.from_pretrained(tmp_path / "topk-k5" / "model.safetensors", subfolder="topk-k5")
    assert SAE.from_pretrained(tmp_path, subfolder="topk-k5").config.architecture == "topk"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("architecture", "tensor"), [("topk", "W_enc"), ("relu", "b_dec"), ("batch_topk", "threshold")]
)
def test_weights_that_are_not_finite_are_refused(architecture, tensor, value, tmp_path):
    sae = random_sae(architecture)
    getattr(sae, tensor).data[..., 3] = value
    sae.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=rf"the tensor '{tensor}' has numbers that are not finite"):
        SAE.from_pretrained(tmp_path)


@pytest.mark.parametrize("architecture", ["topk", "nmf"])
@pytest.mark.parametrize("size", [{"n_latents": 10**12}, {"d_model": 10**12}, {"n_latents": 10**30}, {"n_latents": 39}])
def test_sizes_that_the_weights_do_not_have_are_refused_before_memory_is_taken(architecture, size, tmp_path):
    random_sae(architecture).save_pretrained(tmp_path)
    change(tmp_path / "config.json", **size)
    with pytest.raises(CheckpointError, match=r"the weights do not fit config\.json: .*'W_enc' has the shape"):
        SAE.from_pretrained(tmp_path)


def change(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"model_type": "sae-traits"}', "[]", "3", "\x00"])
def test_settings_of_any_kind_are_one_clear_error(text, tmp_path):
    random_sae("topk").save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json") as caught:
        SAE.from_pretrained(tmp_path)
    assert len(str(caught.value)) < 1000


def test_a_number_that_json_does_not_have_is_saved_as_null_and_read_as_none(tmp_path):
    sae = random_sae("topk", training={"metrics": {"mse": float("nan"), "per_step": [1.0, float("-inf")]}})
    sae.save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["training"]["metrics"] == {"mse": None, "per_step": [1.0, None]}
    (tmp_path / "config.json").write_text(text.replace("null", "NaN"))
    assert SAE.from_pretrained(tmp_path).config.training["metrics"]["mse"] is None


def test_an_index_names_files_beside_it_only(tmp_path):
    random_sae("relu").save_pretrained(tmp_path / "sae")
    (tmp_path / "sae" / "model.safetensors").rename(tmp_path / "model.safetensors")
    index = {"weight_map": dict.fromkeys(("W_enc", "b_enc", "W_dec", "b_dec"), "../model.safetensors")}
    (tmp_path / "sae" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"names a file '\.\./model\.safetensors', which is not one of weights"):
        SAE.from_pretrained(tmp_path / "sae")


@pytest.mark.parametrize("umask", [0o022, 0o007, 0o077])
def test_files_have_the_mode_that_the_umask_gives(umask, tmp_path):
    before = os.umask(umask)
    try:
        random_sae("topk").save_pretrained(tmp_path / "ours")
        save_sae_lens(random_sae("topk"), tmp_path / "theirs")
    finally:
        os.umask(before)
    files = [*(tmp_path / "ours").iterdir(), *(tmp_path / "theirs").iterdir()]
    assert len(files) == 4
    assert {file.stat().st_mode & 0o777 for file in files} == {0o666 & ~umask}


def test_where_saes_lie_in_subfolders_they_are_named(golden, tmp_path):
    for name in ("layers.10.mlp", "deep/layers.11.mlp"):
        shutil.copytree(golden / "sae_lens" / "topk", tmp_path / name)
    with pytest.raises(
        CheckpointError,
        match=r"There are SAEs in its folders deep/layers\.11\.mlp, layers\.10\.mlp: name one with --subfolder",
    ):
        SAE.from_pretrained(tmp_path)
    assert SAE.from_pretrained(tmp_path, subfolder="deep/layers.11.mlp").config.architecture == "topk"
    for i in range(20):
        shutil.copytree(golden / "sae_lens" / "topk", tmp_path / f"a{i:02}")
    with pytest.raises(CheckpointError, match=r"a00, .*a11 and 10 more: name one"):
        SAE.from_pretrained(tmp_path)


LOAD = """
import sys
from huggingface_hub import HfApi
from sae_traits import SAE
from sae_traits.cli import main
from sae_traits.errors import CheckpointError
from sae_traits.sae.formats.export import save_sae_lens

HfApi().create_repo("museum/saes")
HfApi().upload_folder(repo_id="museum/saes", folder_path=sys.argv[1])
assert SAE.from_pretrained("museum/saes", subfolder="inner/topk").config.architecture == "topk"
for subfolder in ("", "topk"):
    try:
        SAE.from_pretrained("museum/saes", subfolder=subfolder)
    except CheckpointError as error:
        print(error)
sys.exit(main(["convert", "museum/saes", sys.argv[2], "--subfolder", "inner/topk"]))
"""


def test_an_sae_in_a_subfolder_of_a_hub_repository_is_loaded_or_listed(hub_environment, golden, tmp_path):
    shutil.copytree(golden / "sae_lens" / "topk", tmp_path / "repository" / "inner" / "topk")
    done = subprocess.run(
        [sys.executable, "-c", LOAD, tmp_path / "repository", tmp_path / "converted"],
        env=hub_environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    at_root, in_topk, _ = done.stdout.splitlines()
    assert "museum/saes has no SAE at its root" in at_root
    assert "museum/saes has no folder 'topk' with an SAE" in in_topk
    for line in (at_root, in_topk):
        assert line.endswith(
            "There are SAEs in its folders inner/topk: name one with --subfolder (in Python subfolder=)"
        )
    assert SAE.from_pretrained(tmp_path / "converted").config.architecture == "topk"
