"""Which layout lies where: folders, files and Hub repositories."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from random_saes import assert_same, features, random_sae
from safetensors.torch import load_file

from sae_traits import SAE
from sae_traits.errors import CheckpointError

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
    with pytest.raises(CheckpointError, match=r"the weights do not fit config\.json"):
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
