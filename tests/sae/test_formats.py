import json
import pickle

import pytest
import torch
from safetensors.torch import load_file

from sae_traits import SAE
from sae_traits.errors import CheckpointError
from sae_traits.sae import objectives


def test_the_papers_checkpoint_gives_the_golden_latents_and_reconstruction(golden):
    sae = SAE.from_pretrained(golden / "saev_v1" / "sae.pt")
    forward = load_file(golden / "saev_v1" / "forward.safetensors")
    with torch.no_grad():
        latents = sae.encode(forward["x"])
        reconstruction = sae.decode(latents)
    assert torch.allclose(latents, forward["f_x"], atol=1e-5)
    assert torch.allclose(reconstruction, forward["x_hat"], atol=1e-5)
    expected = json.loads((golden / "saev_v1" / "forward.json").read_text())
    mse = objectives.mean_squared_error(forward["x"], reconstruction)
    assert float(mse) == pytest.approx(expected["mse"], rel=1e-5)
    assert float(objectives.l1_norm(latents)) == pytest.approx(expected["l1"], rel=1e-5)
    assert float((latents > 0).sum(1).float().mean()) == pytest.approx(expected["l0"], rel=1e-6)
    loss = mse + expected["sparsity_coeff"] * objectives.l1_norm(latents)
    assert float(loss) == pytest.approx(expected["loss"], rel=1e-5)


def test_a_foreign_checkpoint_saves_and_loads_in_our_layout(golden, tmp_path):
    sae = SAE.from_pretrained(golden / "saev_v1" / "sae.pt")
    sae.save_pretrained(tmp_path)
    again = SAE.from_pretrained(tmp_path)
    assert again.config == sae.config
    for name, tensor in sae.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


class _Bomb:
    def __reduce__(self):
        return (open, ("/tmp/sae-traits-was-exploited", "w"))


def test_a_pickle_posing_as_a_checkpoint_is_refused_and_not_run(tmp_path):
    header = json.dumps({"d_vit": 4, "exp_factor": 2}).encode() + b"\n"
    (tmp_path / "bad.pt").write_bytes(header + pickle.dumps(_Bomb()))
    with pytest.raises(CheckpointError, match="without executing code"):
        SAE.from_pretrained(tmp_path / "bad.pt")


@pytest.mark.parametrize("content", [b"", b"not json\nrest", b'{"d_vit": 4}\nrest', b"\x80\x04\x95"])
def test_an_unknown_file_is_refused_naming_what_was_looked_for(content, tmp_path):
    (tmp_path / "file.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"looked for a folder with config\.json"):
        SAE.from_pretrained(tmp_path / "file.pt")
