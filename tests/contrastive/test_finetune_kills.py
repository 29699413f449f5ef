"""SIGKILL in the middle of an epoch: two workers, mixed types of text, a moving average; and again until it ends."""

import json
import os
import random
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
from small_pairs import make_model, make_table
from streamed_data import noise_dataset, upload

SCRIPT = Path(__file__).with_name("finetune_script.py")
TESTS = Path(__file__).parents[1]
N_STEPS, STEPS_PER_EPOCH = 96, 4


def start(data, model, out, *words, environment=os.environ):
    environment = environment | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(SCRIPT), str(data), str(model), str(out), *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True], ids=["a table", "streamed from the Hub"])
def test_a_killed_training_ends_with_the_weights_of_one_that_was_not(tmp_path, hub, hub_environment, stream):
    model, whole, killed = make_model(tmp_path / "model"), tmp_path / "whole", tmp_path / "killed"
    if stream:
        data = upload(noise_dataset(tmp_path / "noise"), hub)
        train = partial(start, data, model, environment=hub_environment)
        words = ("stream",)
    else:
        train, words = partial(start, make_table(tmp_path / "squares"), model), ()
    assert train(whole, *words).wait(600) == 0
    moments, checkpoint, steps = random.Random(1), killed / "training.checkpoint", []
    for _ in range(2):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = train(killed, *words)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and process.poll() is None:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
                break
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.3))
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            member.kill()
        psutil.wait_procs(family)
        process.wait()
        steps.append(torch.load(checkpoint, weights_only=True)["step"])
    assert 0 < steps[0] < steps[1] < N_STEPS
    assert any(step % STEPS_PER_EPOCH for step in steps), "a kill came in the middle of an epoch"
    assert train(killed, *words).wait(600) == 0
    for file in ("model/model.safetensors", "training.json"):
        assert (whole / file).read_bytes() == (killed / file).read_bytes(), file
    assert json.loads((whole / "training.json").read_text())["n_steps"] == N_STEPS
    assert not checkpoint.exists()
