"""Servers that other people wrote, with tiny models of random weights: every candidate ends, and says how it ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from describer_server import many, tiny_models, vllm_environment
from describer_server.many import TRAITS, ManyCandidates
from describer_server.tiny_models import make_llava
from describer_server.waiting import free_port, model_server

from sae_traits.config.describer import Server
from sae_traits.describers import make_describer
from sae_traits.traits.annotate import describe_candidates
from sae_traits.traits.ledger import MAX_ATTEMPTS, Ledger

N_IMAGES = 2
SERVES = find_spec("fastapi") is not None and find_spec("uvicorn") is not None
HAS_VLLM = vllm_environment.RECORD.is_file()

pytestmark = pytest.mark.slow
needs_vllm = pytest.mark.skipif(not HAS_VLLM, reason="no environment with vLLM; run make vllm-cpu-test")


def describe(folder: Path, **options) -> list:
    """The calls of the ledger, after all candidates were described."""
    config = Server(**{"workers": 1, "in_flight": 4} | options)
    with Ledger(folder / "ledger.sqlite") as ledger:
        plan = ManyCandidates(folder, N_IMAGES)
        describe_candidates(plan, make_describer(config), ledger, workers=1)  # pyright: ignore[reportArgumentType]
        return list(ledger)


def check_all_ended(calls: list) -> None:
    """Every candidate has a valid answer, or was asked three times and says why it has none."""
    assert len(calls) == N_IMAGES * TRAITS
    for call in calls:
        assert call.state == "ok" or (call.attempts == MAX_ATTEMPTS and call.error), call
        assert call.usage["completion_tokens"] > 0


@pytest.mark.skipif(not SERVES, reason="transformers[serving] is not installed")
def test_behind_transformers_serve_the_probe_says_that_the_schema_is_ignored(tmp_path, caplog):
    caplog.set_level("INFO", logger="sae_traits")
    llava, port = make_llava(tmp_path / "llava"), free_port()
    (tmp_path / "hf_home" / "hub").mkdir(parents=True)
    program = Path(sys.executable).with_name("transformers")
    command = [program, "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", str(llava)]
    environment = {"HF_HOME": str(tmp_path / "hf_home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with model_server(command, port, tmp_path / "log", **environment) as base_url:
        calls = describe(tmp_path, model=str(llava), base_url=base_url, max_tokens=40, temperature=1.0)
    assert caplog.text.count("does not enforce the JSON schema of answers (cut off after 40 tokens") == 1
    check_all_ended(calls)
    assert {call.state for call in calls} == {"invalid"}  # it babbles
    assert all(call.raw for call in calls)
    assert any("cut off after 40 tokens" in call.error for call in calls)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory) -> Path:
    """A tiny Qwen2.5-VL, made in the environment that has torchvision for its processor."""
    folder = tmp_path_factory.mktemp("models") / "qwen"
    subprocess.run([vllm_environment.PYTHON, tiny_models.__file__, folder], check=True, capture_output=True)
    return folder


VLLM_ON_CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "VLLM_NO_USAGE_STATS": "1"}


@needs_vllm
def test_behind_vllm_serve_the_schema_is_enforced(qwen, tmp_path, caplog):
    caplog.set_level("INFO", logger="sae_traits")
    port = free_port()
    command = [
        vllm_environment.PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", qwen,
        "--served-model-name", "tiny-qwen", "--host", "127.0.0.1", "--port", str(port),
        "--max-model-len", "4096", "--enforce-eager", "--dtype", "float32",
    ]  # fmt: skip
    with model_server(command, port, tmp_path / "log", **VLLM_ON_CPU) as base_url:
        calls = describe(tmp_path, model="tiny-qwen", base_url=base_url, max_tokens=300, temperature=1.0)
    assert "does not enforce" not in caplog.text
    check_all_ended(calls)
    check_held_to_the_schema(calls)


@needs_vllm
def test_vllm_in_this_process_enforces_the_schema(qwen, tmp_path):
    """In a process of the environment that has vLLM, through the same script as the tests of kills."""
    options = {"class": "VLLM", "model": str(qwen), "max_tokens": 300, "temperature": 1.0}
    command = [vllm_environment.PYTHON, many.__file__, str(tmp_path), str(N_IMAGES), json.dumps(options)]
    process = subprocess.run(command, env=os.environ | VLLM_ON_CPU, capture_output=True, text=True, timeout=1800)
    assert process.returncode == 0, process.stderr[-3000:]
    # vLLM writes to stdout, too, even after the last line of the script.
    (counts,) = (line for line in process.stdout.splitlines() if line.startswith('{"annotation"'))
    assert json.loads(counts)["annotation"]["n_open"] == 0
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        calls = list(ledger)
    check_all_ended(calls)
    check_held_to_the_schema(calls)
    assert {call.describer for call in calls} == {"vllm"}
    assert all(call.model.startswith("qwen@sha256:") for call in calls)


def check_held_to_the_schema(calls: list) -> None:
    """Random weights write endless strings; but whatever ends is an answer, and the rest begins like one."""
    assert all(call.raw.lstrip().startswith("{") for call in calls)
    assert all("cut off" in call.error or "sentence" in call.error for call in calls if call.state != "ok")
