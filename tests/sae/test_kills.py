"""SIGKILL at random moments of a training of four architectures, on one process and on two, and again until it ends."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

SCRIPT = Path(__file__).with_name("processes_script.py")
LAUNCHERS = {1: [], 2: ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]}
ENVIRONMENT = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}


def start(n_processes, folder, *seconds):
    command = [sys.executable, *LAUNCHERS[n_processes], str(SCRIPT), str(folder), *map(str, seconds)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=(folder / "stderr").open("a"))


@pytest.mark.slow
@pytest.mark.parametrize("n_processes", [1, 2])
def test_a_training_killed_at_random_moments_ends_with_the_weights_of_one_that_was_not(n_processes, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    assert start(n_processes, whole, 0.0).wait(300) == 0, (whole / "stderr").read_text()[-2000:]
    moments = random.Random(n_processes)
    checkpoint = killed / "training.checkpoint"
    steps = []
    for _ in range(4):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = start(n_processes, killed, 0.05)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
                break
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 0.5))
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:  # workers of torchrun have sessions of their own
            member.kill()
        psutil.wait_procs(family)
        process.wait()
        steps.append(torch.load(checkpoint, weights_only=True)["step"])
    assert steps == sorted(steps)
    assert 0 < steps[0] < 40, "the first kill came in the middle"
    assert start(n_processes, killed, 0.0).wait(300) == 0
    for one, other in zip(torch.load(whole / "weights.pt"), torch.load(killed / "weights.pt"), strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert torch.equal(one[name], other[name]), name
