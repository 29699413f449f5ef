"""`--deterministic`: one thread from photographs to SAE, however many there are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sae_traits import SAE
from sae_traits.cli import main
from sae_traits.testbench.drawn import draw_collection

TRAINING = ["--n-latents", "64", "--k", "4", "--n-patches", "4000", "--batch-size", "500"]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "collection"
    draw_collection(folder, images_per_species=1, workers=1)
    return folder


@pytest.fixture
def two_threads() -> Iterator[None]:
    former = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(former)


def extract(collection: Path, run: Path, *options: str) -> int:
    words = ["extract", str(collection), "--out", str(run), "--backbone", "texture", "--workers", "0", *options]
    return main(words)


def fingerprint(run: Path) -> str:
    return json.loads((run / "steps.json").read_text())["extract"]["fingerprint"]


@pytest.mark.parametrize(
    "storage",
    [pytest.param([], id="stored"), pytest.param(["--stream"], id="streamed", marks=pytest.mark.slow)],
)
def test_one_thread_computes_features_and_sae_and_those_of_several_are_not_kept(
    collection: Path, tmp_path: Path, two_threads: None, storage: list[str]
):
    run = tmp_path / "run"
    assert extract(collection, run, *storage) == 0
    assert main(["train", str(run), *TRAINING]) == 0
    assert SAE.from_pretrained(run / "sae").config.training["n_threads"] == 2
    of_two = fingerprint(run)
    assert extract(collection, run, "--deterministic", *storage) == 0
    assert fingerprint(run) != of_two
    assert main(["train", str(run), *TRAINING]) == 0
    assert SAE.from_pretrained(run / "sae").config.training["n_threads"] == 1
    assert torch.get_num_threads() == 2


def test_on_another_device_than_a_cpu_it_is_refused(
    collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert extract(collection, tmp_path / "run", "--deterministic", "--device", "meta") == 2
    assert "--deterministic holds on a CPU only, and this would compute on meta" in capsys.readouterr().err
