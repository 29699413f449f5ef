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


D_MODEL, N_LATENTS = 6, 24


def saev_file(path, header, *, seed=0, **more):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"W_enc": (D_MODEL, N_LATENTS), "b_enc": (N_LATENTS,), "W_dec": (N_LATENTS, D_MODEL), "b_dec": (D_MODEL,)}
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()} | more
    with path.open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        torch.save(tensors, file)
    return tensors


def of_schema(schema, activation, options, sizes=None):
    sizes = sizes or {"d_model": D_MODEL, "d_sae": N_LATENTS}
    return {"schema": schema, "cfg": {**sizes, "activation": {"cls": activation, "params": options}}, "lib": "0.2.0"}


OLD_SIZES = {"d_vit": D_MODEL, "exp_factor": 4}


@pytest.mark.parametrize(
    ("header", "architecture", "k"),
    [
        ({"schema": 1, "cls": "Relu", "cfg": OLD_SIZES}, "relu", None),
        ({"schema": 1, "cls": "TopK", "cfg": {**OLD_SIZES, "top_k": 5}}, "topk", 5),
        ({"schema": 1, "cls": "SparseAutoencoderConfig", "cfg": OLD_SIZES}, "relu", None),
        (of_schema(1, "TopK", {"top_k": 3}, OLD_SIZES) | {"cls": "SparseAutoencoderConfig"}, "topk", 3),
        (of_schema(2, "Relu", {}, OLD_SIZES), "relu", None),
        (of_schema(3, "BatchTopK", {"top_k": 4}), "topk", 4),
        (of_schema(4, "Relu", {"sparsity": {"coeff": 1e-3}}), "relu", None),
        (of_schema(5, "TopK", {"top_k": 99}), "topk", N_LATENTS),
    ],
)
def test_later_schemas_are_read_and_take_nothing_off_the_input(tmp_path, header, architecture, k):
    tensors = saev_file(tmp_path / "any.pt", header)
    sae = SAE.from_pretrained(tmp_path / "any.pt")
    assert (sae.config.architecture, sae.config.k, sae.config.n_latents) == (architecture, k, N_LATENTS)
    x = torch.randn(9, D_MODEL)
    expected = (x @ tensors["W_enc"] + tensors["b_enc"]).relu()
    if k is not None:
        expected = expected * (expected >= expected.topk(k).values[:, -1:])
    torch.testing.assert_close(sae.encode(x), expected)


def test_a_batch_topk_of_a_later_schema_fires_above_its_threshold(tmp_path):
    tensors = saev_file(
        tmp_path / "sae.pt", of_schema(5, "BatchTopK", {"top_k": 4}), **{"activation.threshold": torch.tensor(0.75)}
    )
    sae = SAE.from_pretrained(tmp_path)
    assert sae.config.architecture == "batch_topk"
    x = torch.randn(9, D_MODEL)
    pre = x @ tensors["W_enc"] + tensors["b_enc"]
    torch.testing.assert_close(sae.encode(x), pre * (pre > 0.75))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (of_schema(6, "Relu", {}), "is of saev's schema 6; schemas 1 to 5 are read"),
        (of_schema(5, "Gated", {}), "the activation is 'Gated'; sae-traits reads Relu, TopK, BatchTopK"),
        (of_schema(5, "TopK", {"top_k": 0}), "top_k must be a whole number above 0, not 0"),
        (of_schema(2, "Relu", {}, {"d_model": D_MODEL}), "exp_factor must be a whole number above 0, not None"),
        (of_schema(2, "Relu", {}, {"d_model": D_MODEL, "d_sae": 10**12}), r"W_enc.*shape \[6, 24\].*1000000000000"),
        ({"schema": 2, "cfg": [1]}, "cfg must be a JSON object"),
    ],
)
def test_a_header_that_cannot_be_used_is_one_line(tmp_path, header, message):
    saev_file(tmp_path / "sae.pt", header)
    with pytest.raises(CheckpointError, match=message):
        SAE.from_pretrained(tmp_path)


def test_a_header_that_is_nested_without_end_is_no_header(tmp_path):
    (tmp_path / "sae.pt").write_bytes(b"[" * 60_000 + b"\n")
    with pytest.raises(CheckpointError, match="is not an SAE"):
        SAE.from_pretrained(tmp_path)
