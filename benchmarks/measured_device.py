"""A device that benchmarks are run on: its clock, its memory, its precisions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class MeasuredDevice:
    """A GPU, or the CPU, where memory is not measured."""

    device: torch.device

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], object], repeats: int) -> float:
        """Of one call, over `repeats` calls after two that are not timed; the peak of memory starts anew."""
        self.forget_peak()
        for _ in range(2):
            work()
        self.wait()
        started = time.perf_counter()
        for _ in range(repeats):
            work()
        self.wait()
        return (time.perf_counter() - started) / repeats

    def forget_peak(self) -> None:
        """Measure the peak of memory from here on."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def empty(self) -> None:
        """Give back the memory that is not in use."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def peak(self) -> str:
        """Device memory that was in use at most since `forget_peak`."""
        if self.device.type != "cuda":
            return ""
        return f"{torch.cuda.max_memory_allocated(self.device) / 2**30:.1f} GiB"

    def accelerator(self, precision: Precision) -> Accelerator:
        """A new one: a process has only one state of Accelerate, and here precisions follow one another."""
        AcceleratorState._reset_state(reset_partial_state=True)
        mixed_precision = "bf16" if precision == "bf16" else "no"
        return Accelerator(mixed_precision=mixed_precision, cpu=self.device.type == "cpu")
