import json
import pickle

import pytest
import torch
from safetensors.torch import load_file

from sae_traits import SAE
from sae_traits.errors import CheckpointError


def test_the_papers_checkpoint_gives_the_golden_latents_and_reconstruction(golden):
    sae = SAE.from_pretrained(golden / "saev_v1" / "sae.pt")
    forward = load_file(golden / "saev_v1" / "forward.safetensors")
    with torch.no_grad():
        latents = sae.encode(forward["x"])
        reconstruction = sae.decode(latents)
    assert torch.allclose(latents, forward["f_x"], atol=1e-5)
    assert torch.allclose(reconstruction, forward["x_hat"], atol=1e-5)
    expected = json.loads((golden / "saev_v1" / "forward.json").read_text())
    mse = float((reconstruction - forward["x"]).square().mean())
    l1 = float(latents.sum(1).mean())
    assert mse == pytest.approx(expected["mse"], rel=1e-5)
    assert l1 == pytest.approx(expected["l1"], rel=1e-5)
    assert float((latents > 0).sum(1).float().mean()) == pytest.approx(expected["l0"], rel=1e-6)
    assert mse + expected["sparsity_coeff"] * l1 == pytest.approx(expected["loss"], rel=1e-5)


def test_its_settings_are_on_record(golden):
    training = SAE.from_pretrained(golden / "saev_v1" / "sae.pt").config.training
    assert training["format"] == "saev 1"
    assert (training["settings"]["d_vit"], training["settings"]["exp_factor"]) == (32, 8)


def test_it_saves_and_loads_in_our_layout(golden, tmp_path):
    sae = SAE.from_pretrained(golden / "saev_v1" / "sae.pt")
    sae.save_pretrained(tmp_path)
    again = SAE.from_pretrained(tmp_path)
    assert again.config == sae.config
    for name, tensor in sae.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


class _Bomb:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (open, (self.file, "w"))


def test_a_pickle_posing_as_a_checkpoint_is_refused_and_not_run(tmp_path):
    header = json.dumps({"d_vit": 4, "exp_factor": 2}).encode() + b"\n"
    (tmp_path / "bad.pt").write_bytes(header + pickle.dumps(_Bomb(str(tmp_path / "exploited")), protocol=2))
    with pytest.raises(CheckpointError, match="without executing code"):
        SAE.from_pretrained(tmp_path / "bad.pt")
    assert not (tmp_path / "exploited").exists()


@pytest.mark.parametrize("length", [200, 300, 5000, 60000])
def test_a_truncated_file_is_an_error_that_names_it(golden, tmp_path, length):
    whole = (golden / "saev_v1" / "sae.pt").read_bytes()
    (tmp_path / "short.pt").write_bytes(whole[:length])
    with pytest.raises(CheckpointError, match=r"short\.pt: the weights cannot be read"):
        SAE.from_pretrained(tmp_path / "short.pt")


def test_weights_that_do_not_fit_the_header_are_named(golden, tmp_path):
    _, rest = (golden / "saev_v1" / "sae.pt").read_bytes().split(b"\n", 1)
    (tmp_path / "sae.pt").write_bytes(json.dumps({"d_vit": 32, "exp_factor": 4}).encode() + b"\n" + rest)
    with pytest.raises(CheckpointError, match=r"sae\.pt: the tensor 'W_enc' has the shape \[32, 256\].*\[32, 128\]"):
        SAE.from_pretrained(tmp_path / "sae.pt")
