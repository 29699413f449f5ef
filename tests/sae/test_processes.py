"""Two processes on the CPU, started as users start them, against one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("processes_script.py")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for arguments in ([], launcher):
        command = [sys.executable, *arguments, str(SCRIPT), str(folder)]
        subprocess.run(command, check=True, env=environment, capture_output=True, timeout=300)
    return [json.loads((folder / f"{count}.json").read_text()) for count in (1, 2)]


@pytest.mark.parametrize("kind", ["common", "own"])
@pytest.mark.parametrize("architecture", ["topk", "batch_topk", "jump_relu", "relu"])
def test_two_processes_have_the_losses_of_one(results, architecture, kind):
    """Also where every process makes its share of a batch itself, as it does straight from images."""
    one, two = results[0]["common"][architecture], results[1][kind][architecture]
    assert (one["processes"], two["processes"]) == (1, 2)
    assert two["loss"] == pytest.approx(one["loss"], abs=1e-4)
    assert two["l0"] == pytest.approx(one["l0"], abs=0.05)
    assert two["thresholds"] == pytest.approx(one["thresholds"], abs=1e-3)
    assert one["loss"][-1] < one["loss"][0]
