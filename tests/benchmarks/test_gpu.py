"""The benchmark for GPUs runs whole on a CPU, on a tiny problem."""

# pyright: reportMissingImports=false

import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # benchmarks are scripts, not a package

import gpu
import gpu_finetuning


@pytest.fixture
def forgetful():
    """The benchmark trains in several precisions, and leaves the last one behind in Accelerate's state."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.slow
def test_every_figure_is_measured(forgetful, capsys):
    gpu.main(["--tiny", "--device", "cpu"])
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("CPU; ")
    rows = dict(line.strip("| ").split(" | ")[:2] for line in lines if line.startswith("|") and "---" not in line)
    assert len(rows) == 17
    trained = {what: figure for what, figure in rows.items() if what.startswith("finetune tiny, bf16, ")}
    assert [what.removeprefix("finetune tiny, bf16, ") for what in trained] == [
        "4 pairs per step",
        "8 pairs per step, chunks of 4",
    ]
    assert all(figure.endswith("TFLOP/s") for figure in trained.values()), "whose peak nobody knows"
    assert all("out of memory" not in figure for figure in rows.values())
    assert 0.95 < float(next(figure for what, figure in rows.items() if what.startswith("fired set")).split()[1]) < 1
    assert all(figure.endswith("images/s") for what, figure in rows.items() if what.startswith("forward"))


def test_memory_that_does_not_suffice_is_a_row_and_not_the_end(capsys):
    def too_large():
        raise torch.OutOfMemoryError("CUDA out of memory")

    bench = gpu.Bench(torch.device("cpu"), gpu.TINY)
    bench.add("large", too_large)
    bench.add("small", lambda: "3 images/s")
    gpu.print_table(bench)
    assert capsys.readouterr().out.splitlines()[-2:] == ["| large | out of memory |  |", "| small | 3 images/s |  |"]


def test_the_peak_of_a_gpu_is_known_by_its_name():
    names = ("NVIDIA H200", "NVIDIA A100-SXM4-80GB", "NVIDIA L4", "NVIDIA L40", "Quadro")
    assert [gpu_finetuning.peak_of(name) for name in names] == [989e12, 312e12, 121e12, None, None]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU")
def test_without_a_gpu_it_says_so(capsys):
    gpu.main([])
    assert capsys.readouterr().out == "There is no CUDA GPU here: nothing was measured.\n"
